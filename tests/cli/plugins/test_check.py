"""`sdezoo check`: what holds, what is broken and shown, and what a user types wrong."""

import json
from pathlib import Path

import pytest
import typer

from sdezoo.conformance.report import kinds
from sdezoo.errors import SdezooError
from sdezoo_cli.plugins.check import check

RIGHT = """
import torch
from dataclasses import dataclass
from sdezoo import AffineSDE, Coefficients

@dataclass(frozen=True)
class TriedHere(AffineSDE):
    sigma: float = 2.0

    def coefficients(self, t):
        return Coefficients(torch.ones_like(t), torch.zeros_like(t), self.sigma**2 * t)
"""
BROKEN = {
    "a wrong diffusion": (RIGHT + "\n    def diffusion(self, z, t):\n        return 9 + 0 * z\n", "moments-solve-the-sde", "x0 ="),
    "NaN": (RIGHT + "\n    def drift(self, z, t):\n        return z * float('nan')\n", "contract", "drift is not finite"),
    "a wrong shape": (RIGHT + "\n    def drift(self, z, t):\n        return z.sum(1)\n", "contract", "drift has shape"),
    "an exception": (RIGHT + "\n    def drift(self, z, t):\n        return 1 / 0\n", "contract", "ZeroDivisionError"),
    "a method that is missing": (RIGHT.replace("def coefficients", "def coefficient"), "contract", "does not define coefficients"),
    "a file that fails": ("raise RuntimeError('no')", "contract", "RuntimeError: no"),
    "a class that is not frozen": (RIGHT.replace("@dataclass(frozen=True)\n", ""), "contract", "not a frozen dataclass"),
    "a name that is taken": (RIGHT.replace("TriedHere", "VP"), "contract", "Rename the class VP in "),
}


@pytest.fixture
def plugin(tmp_path: Path):
    from sdezoo.zoo.registry import REGISTRIES

    def write(text: str) -> list[Path]:
        file = tmp_path / "tried_here.py"
        file.write_text(text, encoding="utf-8")
        return [file]

    yield write
    for registry in REGISTRIES.values():
        for name in ("tried-here", "vp"):
            registry.remove(name)


def test_what_is_right_holds(plugin, capsys: pytest.CaptureFixture[str]) -> None:
    check(plugin=plugin(RIGHT))
    out = capsys.readouterr().out
    assert "ok      fokker-planck" in out
    assert "Not checked: stated-equation. It states no equation." in out.splitlines()[-1]
    assert "BROKEN" not in out


@pytest.mark.parametrize("mistake", BROKEN)
def test_what_is_broken_is_shown_with_an_example(plugin, capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    text, law, shown = BROKEN[mistake]
    with pytest.raises(typer.Exit) as stop:
        check(plugin=plugin(text), as_json=True)
    assert stop.value.exit_code == 1
    [report] = json.loads(capsys.readouterr().out)
    assert not report["holds"]
    broken = {row["law"]: row for row in report["laws"] if row["outcome"] == "broken"}
    assert shown in broken[law]["reason"] + broken[law]["case"]


def test_quiet_says_only_what_is_broken(plugin, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        check(plugin=plugin(BROKEN["NaN"][0]), quiet=True)
    out = capsys.readouterr().out
    assert "1 BROKEN" in out
    assert "contract: Every method" in out


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"specs": ["gmb"]}, "Did you mean 'gbm'"),
        ({"specs": ["wine"]}, "there are no laws for those"),
        ({"specs": ["gbm:sigma=-1"]}, "sigma=-1 is not allowed"),
        ({"specs": ["gbm:"]}, "is not a spec string"),
        ({"specs": ["./mine.py"]}, "is a file, not the name of a plugin. Load it by --plugin FILE"),
        ({}, "nothing to check"),
        ({"plugin": [Path("nowhere.py")]}, "There is no Python file"),
        ({"specs": ["gbm", "vp"], "record": Path("baseline.json")}, "exactly one sampler"),
        ({"specs": ["gbm"], "compare": Path("baseline.json")}, "There is no sampler 'gbm'"),
        ({"specs": ["dpmpp-2m"], "compare": Path("nowhere.json")}, "nowhere.json"),
    ],
)
def test_what_is_typed_wrong(arguments: dict, what: str) -> None:
    with pytest.raises(SdezooError) as error:
        check(**arguments)
    assert what in f"{error.value.problem} {error.value.remedy}"


def test_of_two_plugins_of_one_name_that_with_the_parameter_is_checked() -> None:
    assert kinds("bridge") == ["sdes", "samplers"]
    assert kinds("bridge:order=1") == ["samplers"]
    assert kinds("bridge:sigma=2") == ["sdes"]


def test_a_file_without_a_kind_that_has_laws(plugin) -> None:
    text = "from sdezoo_plugins.datasets.wine import Wine\n\n\nclass TriedHere(Wine):\n    pass\n"
    with pytest.raises(SdezooError, match="has no plugin of a kind with laws"):
        check(plugin=plugin(text))
