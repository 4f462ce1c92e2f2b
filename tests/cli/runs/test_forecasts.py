"""Series from the command line: train, sample, forecast, evaluate, and what is refused on the way."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

WINDOW = 12
Call = Callable[..., str]


@pytest.fixture
def call(terminal: Callable[..., tuple[int, str, str]]) -> Call:
    """Runs `sdezoo …`, and returns what it prints; with `fails`, it has to fail with this text."""

    def run(*words: object, fails: str | None = None) -> str:
        code, out, err = terminal(*words)
        assert (code == 0) == (fails is None), err
        assert fails is None or fails in " ".join(err.split()), err
        return out

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(0)
    prices = 50 * np.exp(np.cumsum(0.01 * rng.standard_normal(600)))
    (folder / "prices.csv").write_text("close\n" + "\n".join(map(str, prices)) + "\n")
    data = f"series:path={folder / 'prices.csv'},window={WINDOW}"
    words = {"data": data, "steps": 20, "batch_size": 32, "net": "unet1d:width=8", "out": str(folder / "run")}
    result = train(TrainingConfig.build(words), preview=True, notify=lambda _: None)
    assert result.reasons == ("gbm for growth factors of steps: positive",)
    assert (folder / "run/samples/step-20.png").exists()
    return result.run


def read(path: Path) -> np.ndarray:
    names, *rows = path.read_text().splitlines()
    assert names == "series,step,close"
    return np.array([list(map(float, row.split(","))) for row in rows])


def test_samples_start_where_they_are_told_and_are_read_back(run: Path, tmp_path: Path, call: Call) -> None:
    call("sample", run, "-n", 5, "--start-value", 80, "--out", tmp_path / "s.csv")
    found = read(tmp_path / "s.csv")
    assert found.shape == (5 * WINDOW, 3)
    assert (found[::WINDOW, 2] == 80).all()
    assert (found[:, 1].reshape(5, WINDOW) == np.arange(WINDOW)).all()
    call("sample", run, "-n", 5, "--out", tmp_path / "s.npz")
    alone = np.load(tmp_path / "s.npz")["x"]
    np.testing.assert_allclose(found[:, 2].reshape(5, WINDOW), 80 * alone[..., 0], rtol=1e-6)
    call("sample", run, "-n", 24, "--out", tmp_path / "many.csv")
    said = json.loads(call("evaluate", run, "--samples", tmp_path / "many.csv", "-n", 24, "--out", tmp_path / "e", "--json"))
    assert {"tail exponent of returns", "leverage, lags 1 to 5"} <= {line["name"] for line in said["measures"]}
    assert len(said["stylized_facts"]) == 4
    assert (tmp_path / "e/evaluation.png").exists()


def test_forecasts_continue_what_is_given_one_by_one(run: Path, tmp_path: Path, call: Call) -> None:
    rng = np.random.default_rng(1)
    windows = 200 * np.exp(np.cumsum(0.01 * rng.standard_normal((3, 7)), 1))
    rows = [f"{i + 10},{k},{x}" for i, window in enumerate(windows) for k, x in enumerate(window)]
    (tmp_path / "w.csv").write_text("series,step,close\n" + "\n".join(rows) + "\n")
    np.savez(tmp_path / "w.npz", x=windows[..., None])
    given = ["--given-first", 5, "-n", 6]
    call("sample", run, *given, "--from", tmp_path / "w.csv", "--out", tmp_path / "f.npz")
    call("sample", run, *given, "--from", tmp_path / "w.npz", "--batch-size", 4, "--out", tmp_path / "g.npz")
    f, g = (np.load(tmp_path / name)["x"][..., 0] for name in ("f.npz", "g.npz"))
    np.testing.assert_allclose(f, g, rtol=1e-5)
    np.testing.assert_array_equal(f[:, :5], np.tile(windows[:, :5], (2, 1)).astype(np.float32))
    assert not np.allclose(f[:3, 5:], f[3:, 5:])
    assert np.abs(np.log(f[:, 5] / f[:, 4])).max() < 0.2
    call("sample", run, *given, "--from", tmp_path / "w.csv", "--out", tmp_path / "fan.png")
    call("sample", run, "--given-first", 5, "--seeds", "0-2", "--out", tmp_path / "held.npz")
    assert (np.load(tmp_path / "held.npz")["x"][:, 0] == 1).all()


def test_what_cannot_be_continued_is_refused(run: Path, tmp_path: Path, call: Call) -> None:
    out = ["--out", tmp_path / "s.npz"]
    np.savez(tmp_path / "w.npz", x=np.ones((2, WINDOW, 1)))
    np.savez(tmp_path / "negative.npz", x=-np.ones((2, WINDOW, 1)))
    np.savez(tmp_path / "long.npz", x=np.ones((2, WINDOW + 1, 1)))
    (tmp_path / "w.csv").write_text("x\n" + "1\n" * WINDOW)
    call("sample", run, "--given-first", WINDOW, "--from", tmp_path / "w.npz", *out, fails="does not leave a beginning and a rest")
    call("sample", run, "--given-first", 4, "--from", tmp_path / "negative.npz", *out, fails="zero or negative")
    call("sample", run, "--given-first", 4, "--from", tmp_path / "long.npz", *out, fails="Give 4 to 12 steps of 1 columns")
    call("sample", run, "--given-first", 4, "--from", tmp_path / "w.csv", *out, fails="no column 'close'")
    call("sample", run, "--given-first", 4, "--from", tmp_path / "none.npz", *out, fails="none.npz")
    call("sample", run, "--given-first", 4, "--start-value", 3, *out, fails="Leave out --start-value")
    call("sample", run, "--start-value=-3", *out, fails="not a positive number")
    call("sample", run, "--start-value", "1,2", *out, fails="for each of 1 columns")
    call("sample", run, "--trajectory", tmp_path / "t.gif", *out, fails="not drawn of series")
    data = ["--data", f"series:path={run.parent / 'prices.csv'},window={WINDOW}", "--out", tmp_path / "other"]
    call("train", *data, "--sde", "lift:transform=stick-breaking", fails="takes single rows, not series")
    call("train", *data, "--net", "mlp", fails="needs vectors")
    assert not (tmp_path / "other").exists()
    call("sample", run, "--given", "close=1", *out, fails="have no columns")
    assert not (tmp_path / "s.npz").exists()
