"""The preview after training: it is what `sdezoo sample` draws, and where it fails the run is saved all the same."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sdezoo.errors import RunError, SupportError
from sdezoo.generation.samples import Draw
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

WINE = ["--data", "wine", "--net", "mlp:width=16,depth=1", "--steps", "2", "--batch-size", "8", "--out", "run"]

Terminal = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(("data", "net", "ending"), [("wine", "mlp:width=8,depth=1", "csv"), ("digits", "unet:width=8", "png")])
def test_it_holds_the_first_samples(terminal: Terminal, data: str, net: str, ending: str) -> None:
    code, out, err = terminal("train", "--data", data, "--net", net, "--steps", 2, "--batch-size", 8, "--out", "run", "--json")
    assert code == 0, err
    drawn = Path(json.loads(out)["samples"])
    assert drawn == Path(f"run/samples/step-2.{ending}")
    assert terminal("sample", "run", "-n", 64, "--out", f"s.{ending}", "--quiet")[0] == 0
    assert drawn.read_bytes() == Path(f"s.{ending}").read_bytes()


FAILURES = [
    SupportError("The sampler left the support.", "Take more steps."),
    RunError("'samples' cannot be written.", "Make room."),
    RuntimeError("out of memory"),
    ZeroDivisionError("a plugin's"),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_where_it_fails_the_run_is_saved_and_training_succeeds(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Draw, "sample", fails)
        code, out, err = terminal("train", *WINE)
    assert code == 0, err
    assert "  samples " not in out
    assert "Note: The run is saved, but no preview could be drawn: " in out
    assert str(error).rstrip(".") in out
    assert "Sample next:  sdezoo sample run -n 64 --seed 0 --out samples.csv" in out
    assert terminal("sample", "run", "-n", 3, "--out", "s.csv", "--quiet") == (0, "", "")


def test_a_machine_reads_that_it_failed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Draw, "sample", lambda *_: 1 / 0)
    code, out, _ = terminal("train", *WINE, "--json")
    assert code == 0
    assert json.loads(out)["samples"] is None
    assert "ZeroDivisionError" in json.loads(out)["note"]


def test_from_python_it_is_drawn_where_asked(tmp_path: Path) -> None:
    settings = {"data": "wine", "net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8}
    for asked in (False, True):
        result = train(TrainingConfig.build({**settings, "out": str(tmp_path / str(asked))}), preview=asked)
        assert (result.preview is not None) == asked
        assert len([*(result.run / "samples").iterdir()]) == asked
