"""Follow every link of the built documentation, without a network.

    python docs/crawl.py docs/_build/html

Each link to a file leads to a file of the site, each anchor to an element with that id, and no page loads anything from elsewhere. What
does not is printed, page by page, and the exit code is 1.
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("video", "src")}
POINTERS = ("canonical", "author", "index", "search", "next", "prev")
"""What `<link rel>` names without loading it."""


class Page(HTMLParser):
    """The ids of a page, its links, and what it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        for name in {"href", "src"} & set(found):
            self.links.add(found[name])
            if (tag, name) in LOADED and found.get("rel") not in POINTERS:
                self.loaded.add(found[name])


def crawl(site: Path) -> Iterator[str]:
    """What is wrong, a line each: a page and what it asks for."""
    pages = {file: Page(file) for file in sorted(site.resolve().rglob("*.html"))}
    if not pages:
        yield f"{site}: there is no page. Build the documentation first: make docs."
    for file, page in pages.items():
        here = file.relative_to(site.resolve())
        for link in sorted(page.links):
            url = urlsplit(link)
            if url.scheme == "data":
                continue
            if url.scheme or url.netloc:
                if link in page.loaded:
                    yield f"{here}: loads {link} from elsewhere"
                continue
            target = (file.parent / unquote(url.path)).resolve() if url.path else file
            if not target.is_file():
                yield f"{here}: {link} leads to no file"
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].ids:
                yield f"{here}: {link} leads to no element"


if __name__ == "__main__":
    wrong = list(crawl(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/_build/html")))
    print("\n".join(wrong) or "Every link leads somewhere, and nothing is loaded from elsewhere.")
    sys.exit(bool(wrong))
