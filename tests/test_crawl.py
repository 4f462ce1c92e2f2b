"""`docs/crawl.py` finds what leads nowhere in a built site, and what a page would load from elsewhere."""

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("crawl", Path(__file__).parents[1] / "docs" / "crawl.py")
crawl = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(crawl)

INDEX = """<link rel="next" href="a/b.html"><img src="data:image/png;base64,"><a href="https://elsewhere.example/">elsewhere</a>
<a href="a/b.html#part%20one">there</a><a href="#top">up</a><h1 id="top">Here</h1>{}"""


def site(folder: Path, more: str = "") -> list[str]:
    (folder / "a").mkdir(exist_ok=True)
    (folder / "a" / "b.html").write_text('<h2 id="part one">There</h2><a href="../index.html">back</a>', encoding="utf-8")
    (folder / "index.html").write_text(INDEX.format(more), encoding="utf-8")
    return list(crawl.crawl(folder))


def test_links_that_lead_somewhere_pass(tmp_path: Path) -> None:
    assert site(tmp_path) == []


def test_what_leads_nowhere_or_elsewhere_is_named(tmp_path: Path) -> None:
    broken = ['<a href="c.html">', '<a href="a/b.html#two">', '<a href="#bottom">', '<script src="https://cdn.example/m.js"></script>']
    assert len(site(tmp_path, "".join(broken))) == len(broken)
    for one, words in zip(
        broken, ("c.html leads to no file", "b.html#two leads to no element", "#bottom leads", "from elsewhere"), strict=True
    ):
        (found,) = site(tmp_path, one)
        assert found.startswith("index.html: ")
        assert words in found


def test_a_folder_without_pages_is_no_site(tmp_path: Path) -> None:
    assert "Build the documentation first" in next(crawl.crawl(tmp_path))
