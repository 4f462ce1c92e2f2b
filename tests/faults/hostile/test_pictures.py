"""Pictures are the same in every folder, and show names as they are: no formula, no LaTeX, no settings of somebody else's."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from sdezoo.evaluation import sheet
from sdezoo.generation import pictures
from sdezoo.plots import Figure, label, save
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

HOUSE = Path(__file__).parents[3]
NAMES = [r"$\foo{$", "$x$", r"\$a$", "$", "$$", r"a\$b\$c$d$", "a\x1b[31mb\u202e", "_hidden", "x" * 5000, "{", "%", "a\nb", ""]

SCRIPT = """
import sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event == "open" else None)
from sdezoo.generation.pictures import figure
import numpy as np
from sdezoo.plots import save
with open(sys.argv[1], "wb") as file:
    save(figure(np.arange(8.0, dtype="f4").reshape(4, 2), ["a", "b"]), file)
assert "matplotlibrc" not in [str(name) for name in opened], "the settings of the folder were read"
"""


def drawn(names: list[str]) -> list[Figure]:
    """A picture of each kind."""
    rows = np.random.default_rng(0).normal(size=(30, len(names)))
    distances = (rows[:, 0] ** 2, rows[:, 0] ** 2 + 0.1)
    return [pictures.figure(rows.astype(np.float32), names), sheet.columns(names[0], names, rows, rows + 0.1, distances)]


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    save(figure, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("names", [NAMES, NAMES[:1] * 2], ids=["histograms", "plane"])
def test_a_name_is_no_formula(names: list[str]) -> None:
    for figure in drawn(names):
        assert png(figure)
        texts = [text for text in figure.findobj(mpl.text.Text) if text.get_text() and text.get_text() in map(label, names)]
        assert len({text.get_text() for text in texts}) >= len(set(names)) - 1
        assert all(text._preprocess_math(text.get_text())[1] is False for text in texts)


@pytest.mark.parametrize("name", [r"$\foo{$", "$x$", r"\$a$", r"a\$b\$c$d$"])
def test_a_label_shows_the_name(name: str) -> None:
    shown, is_math = mpl.text.Text()._preprocess_math(label(name))
    assert (shown, is_math) == (name, False)


def test_hostile_names_go_through_every_picture_of_a_run(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("$\\foo{$,$x$\n" + "".join(f"{0.5 + k % 7},{1.5 + k % 5}\n" for k in range(60)), encoding="utf-8")
    settings = {"data": str(table), "net": "mlp:width=16,depth=1", "steps": 1, "batch_size": 8, "device": "cpu"}
    train(TrainingConfig.build({**settings, "out": str(tmp_path / "$run")}))
    for ending in ("png", "gif"):
        sample(tmp_path / "$run", tmp_path / f"{ending}.png", n=4, steps=2, trajectory=tmp_path / f"way.{ending}")


def test_the_settings_of_the_folder_are_not_read(tmp_path: Path) -> None:
    """`latex` is a program that leaves a mark."""
    (tmp_path / "clean").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "matplotlibrc").write_text("text.usetex: True\naxes.facecolor: red\naxes.prop_cycle: cycler(\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "latex").write_text(f"#!/bin/sh\ntouch '{tmp_path / 'mark'}'\nexit 1\n")
    (tmp_path / "bin" / "latex").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    found = []
    for folder in ("clean", "foreign"):
        command = [sys.executable, "-c", SCRIPT, "a.png"]
        done = subprocess.run(command, cwd=tmp_path / folder, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        found.append((tmp_path / folder / "a.png").read_bytes())
    assert found[0] == found[1]
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("settings", [{"text.usetex": True}, {"axes.facecolor": "red", "font.size": 20, "savefig.dpi": 30}])
def test_the_settings_of_a_program_do_not_matter(settings: dict[str, object]) -> None:
    expected = [png(figure) for figure in drawn(["a", "b", "c"])]
    with mpl.rc_context(settings):
        before = dict(mpl.rcParams)
        assert [png(figure) for figure in drawn(["a", "b", "c"])] == expected
        assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("code", "found"), [("from matplotlib.figure import Figure", True), ("import matplotlib.pyplot as plt", True), ("import mat", False)]
)
def test_imports_of_matplotlib_are_found(code: str, found: bool) -> None:
    assert imports(ast.parse(code)) is found


def test_one_module_imports_matplotlib() -> None:
    files = [file for root in ("sdezoo", "plugins", "cli") for file in (HOUSE / root).rglob("*.py")]
    found = [str(file.relative_to(HOUSE)) for file in files if imports(ast.parse(file.read_text(encoding="utf-8")))]
    assert found == ["sdezoo/plots.py"]


def imports(tree: ast.AST) -> bool:
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return any(name.partition(".")[0] == "matplotlib" for name in names)
