"""The page of a run: everything is on it, nothing is fetched for it, and nothing in a run folder gets into its markup."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sdezoo.errors import ParameterError, RunError
from sdezoo.report.page import report
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

EVIL = '"><script src="http://evil.example/x.js"></script>{{ 7 * 7 }}'
SECTIONS = ["model", "settings", "training", "samples", "quality", "tails", "privacy", "provenance", "commands"]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no browser is installed: neither chromium nor google-chrome")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser finds on a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.sections: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = {name: value or "" for name, value in attrs}
        assert not [name for name in found if name.startswith("on")]
        self.links += [found[name] for name in ("src", "href", "action", "data", "srcset", "poster") if name in found]
        if tag == "img":
            self.pictures.append((found["src"], found["alt"]))
        if tag == "section":
            self.sections.append(found["class"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(file: Path) -> Page:
    page = Page(file.read_text(encoding="utf-8"))
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    rows = np.random.default_rng(0).lognormal(size=(800, 2))
    names = EVIL.replace('"', '""')
    text = f'price,"{names}"\n' + "".join(f"{a:.4f},{b:.4f}\n" for a, b in rows)
    (folder / "rows.csv").write_text(text, encoding="utf-8")
    settings = {"data": str(folder / "rows.csv"), "net": "mlp:width=16,depth=1", "steps": 150, "device": "cpu"}
    result = train(TrainingConfig.build({**settings, "out": str(folder / "run")}), preview=True)
    evaluate(result.run, n=80, out=result.run / "evaluation")
    return result.run


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return read(report([run]))


def test_nothing_is_fetched_and_nothing_runs(page: Page) -> None:
    assert all(link.startswith("data:image/") for link in page.links)
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "base", "form"}


def test_names_from_the_data_are_text(page: Page) -> None:
    """They are shown as they are, and neither the browser nor the template obeys them."""
    assert any(EVIL in text for text in page.text)


def test_every_section_is_there_and_filled(page: Page) -> None:
    assert [name for name in page.sections if name != "notes"] == SECTIONS
    text = " ".join(" ".join(page.text).split())
    for expected in (
        "dX = μ(t) X dt + σ(t) X dW",
        "sliced W1",
        "membership inference, AUC",
        "--sde gbm",
        "150",
        "torch",
        "price",
    ):
        assert expected in text, expected
    given, _, chosen = text.partition("Settings")[2].partition("Training")[0].partition("Chosen automatically")
    assert ("net" in given, "batch_size" in given, "batch_size" in chosen) == (True, False, True)
    assert "Not measured" not in text
    assert "Not evaluated" not in text


def test_every_picture_decodes_and_is_described(page: Page) -> None:
    kinds = []
    for source, words in page.pictures:
        head, _, content = source.partition(",")
        data = base64.b64decode(content, validate=True)
        kinds.append(head)
        assert words
        if "svg" in head:
            root = ElementTree.fromstring(data)
            assert not [node for node in root.iter() if node.tag.endswith(("script", "foreignObject", "image"))]
            assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 20
            assert b'href="http' not in data
        else:
            assert Image.open(io.BytesIO(data)).convert("L").getextrema() != (255, 255)
    assert sorted(kinds) == ["data:image/png;base64", "data:image/svg+xml;base64", "data:image/svg+xml;base64"]


def browse(file: Path, width: int, *options: str) -> tuple[str, np.ndarray]:
    """Start the browser once: the document, and the grey screen. No page may log anything."""
    screen, profile = file.with_suffix(".png"), file.parent / "profile"
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
    quiet += ("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr", f"--user-data-dir={profile}")
    command = [BROWSER, *quiet, f"--window-size={width},1600", f"--screenshot={screen}", "--dump-dom", *options, file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return done.stdout, np.asarray(Image.open(screen).convert("L"), dtype=float)


def inked(screen: np.ndarray) -> float:
    """Share of the lines of a screen on which anything is drawn."""
    return float((np.ptp(screen, axis=1) > 64).mean())


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_telephone_shows_it(run: Path, tmp_path: Path, dark: bool) -> None:
    """Text and pictures are within 400 pixels, in the colours of the device. The frame is there since a window has 500 at least."""
    frame = tmp_path / "frame.html"
    content = html.escape(report([run], tmp_path / "page.html").read_text(encoding="utf-8"))
    frame.write_text(
        '<!DOCTYPE html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><style>iframe { border: 0 }</style>'
        f'<iframe width="400" height="1600" srcdoc="{content}"></iframe><script>onload = () => {{'
        "const inside = document.querySelector('iframe').contentDocument.documentElement;"
        "document.body.dataset.widths = [inside.clientWidth, inside.scrollWidth]; }</script>",
        encoding="utf-8",
    )
    document, screen = browse(frame, 500, f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    assert 'data-widths="400,400"' in document
    assert inked(screen[:, 8:408]) > 0.4
    assert (np.median(screen[:, 8:408]) < 64) == dark


@needs_browser
def test_a_wide_window_shows_it_and_prints_it(run: Path, tmp_path: Path) -> None:
    printed = tmp_path / "page.pdf"
    _, screen = browse(report([run], tmp_path / "page.html"), 1600, f"--print-to-pdf={printed}")
    assert inked(screen) > 0.4
    assert inked(screen.T) > 0.5
    content = printed.read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 2
    assert b"/Font" in content


def test_the_same_command_gives_the_same_bytes_again(run: Path) -> None:
    one, other = (report([run]).read_bytes() for _ in range(2))
    assert one == other


def test_two_runs_stand_beside_each_other_and_other_data_are_named(run: Path, page: Page, tmp_path: Path) -> None:
    settings = {"data": "wine", "sde": "ve", "net": "mlp:width=8,depth=1", "steps": 2, "batch_size": 8, "device": "cpu"}
    other = train(TrainingConfig.build({**settings, "out": str(tmp_path / "other")})).run
    both = read(report([run, other], tmp_path / "both.html"))
    assert both.sections.count("model") == 2
    text = " ".join(both.text)
    assert "different data" in text
    assert "Not evaluated yet" in text
    same = read(report([run, run], tmp_path / "same.html"))
    assert "same data" in " ".join(same.text)


def test_a_page_that_exists_stays_unless_it_may_be_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("mine")
    with pytest.raises(RunError, match="exists"):
        report([run], tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text() == "mine"
    report([run], tmp_path / "a.html", overwrite=True)
    assert (tmp_path / "a.html").read_text() != "mine"


@pytest.mark.parametrize(
    ("runs", "name", "error", "words"),
    [
        (["nowhere"], "a.html", RunError, "does not exist"),
        (["."], "a.html", RunError, "is not a run"),
        ([], "a.html", ParameterError, "one run or two"),
        (["run"], "a.pdf", RunError, "does not end in .html"),
        (["run"], "folder.html", RunError, "is a folder"),
        (["run"], "file/a.html", RunError, "cannot be written"),
    ],
)
def test_what_cannot_be_shown_is_refused(run: Path, tmp_path: Path, runs, name, error, words) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match=words):
        report([run if each == "run" else tmp_path / each for each in runs], tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.html"]


def test_damaged_records_are_left_out(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "metrics.jsonl").write_text('{"step": 1, "loss": "<b>"}\n[1]\n{"step": "x"}\n{', encoding="utf-8")
    (copy / "env.json").write_text('{"plugins": 3, "<i>": ["<script>"]}', encoding="utf-8")
    record = {"measures": [{"group": EVIL, "name": EVIL, "value": EVIL, "interval": [EVIL, None]}, 3], "tails": [{"data": 1}], "columns": 7}
    (copy / "evaluation" / "evaluation.json").write_text(json.dumps({**record, "notes": [EVIL, 4], "verdict": EVIL}), encoding="utf-8")
    (copy / "evaluation" / "evaluation.png").write_bytes(b"\x89PNG nothing")
    for file in (copy / "checkpoints").glob("*/ema.safetensors"):
        file.write_bytes(b"damaged")
    page = read(report([copy], tmp_path / "page.html"))
    assert not page.tags & {"script", "i", "b"}
    assert [name for name in page.sections if name != "notes"] == SECTIONS
    assert page.pictures == []
    assert any("damaged" in text for text in page.text)


def test_a_run_of_series_shows_a_step_and_a_run_of_paths_what_it_learns(tmp_path: Path) -> None:
    walk = np.exp(np.random.default_rng(0).normal(size=(120, 2)).cumsum(0) / 20)
    (tmp_path / "walk.csv").write_text("a,b\n" + "\n".join(f"{a},{b}" for a, b in walk))
    np.savez(tmp_path / "paths.npz", x=np.log(walk[:60]).reshape(6, 10, 2), times=np.arange(10.0))
    quick = {"steps": 2, "batch_size": 4, "device": "cpu", "out": str(tmp_path / "series")}
    series = {"data": f"series:path={tmp_path}/walk.csv,window=6", "net": "unet1d:width=8,multipliers=(1,)"}
    made = [
        train(TrainingConfig.build(quick | settings), notify=lambda note: None).run
        for settings in (series, {"task": "paths", "data": str(tmp_path / "paths.npz"), "out": str(tmp_path / "paths")})
    ]
    assert " at step " in read(report(made[:1])).pictures[0][1]
    assert "dz = f_θ(z, t) dt + G_θ(z, t) dW" in " ".join(read(report(made[1:])).text)


def test_a_run_of_images_shows_its_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", images=rng.random((40, 1, 8, 8)).astype(np.float32))
    settings = {"data": str(tmp_path / "x.npz"), "net": "unet:width=8,multipliers=(1,)", "steps": 2, "batch_size": 8, "device": "cpu"}
    run = train(TrainingConfig.build({**settings, "out": str(tmp_path / "run")}), preview=True).run
    page = read(report([run]))
    assert [words for _, words in page.pictures][-1] == "Samples, step-2.png"
    assert "entry" in page.pictures[0][1]


def test_a_bridge_shows_where_it_carries_rows_and_says_so_where_no_rows_are_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, level in (("a", 0.0), ("b", 3.0)):
        np.savez(tmp_path / f"{name}.npz", x=rng.lognormal(level, size=(80, 2)))
    settings = {"sde": "geometric-bridge", "data": str(tmp_path / "a.npz"), "target": str(tmp_path / "b.npz"), "net": "mlp:width=8,depth=1"}
    config = TrainingConfig.build({**settings, "rounds": 2, "steps": 1, "out": str(tmp_path / "run")})
    run = train(config, notify=lambda note: None).run
    words = read(report([run])).pictures[0][1]
    assert "carried backward and forward" in words
    assert words.endswith("Axes are logarithmic.")
    pairs = run / "rounds" / "2-forward" / "coupling" / "pairs.safetensors"
    pairs.write_bytes(b"damaged")
    page = read(report([run]))
    assert len(page.pictures) == 1  # the loss
    assert "No rows are kept" in " ".join(page.text)
