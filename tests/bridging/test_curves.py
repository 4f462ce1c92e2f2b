"""Curves through snapshots: they pass the given times, start at their rows, and know what happened at a time that was left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdezoo.bridging.curves import parse_times
from sdezoo.errors import DataError, ParameterError, SdezooError
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig


def snapshots(path: Path, times: tuple[float, ...] = (2.0, 3.0, 5.0), n: int = 400) -> str:
    """A normal cloud that moves on a curve: at time `t` around `(t, t²)/5`, with spread 0.1."""
    rng = np.random.default_rng(0)
    time = np.repeat(times, n)
    x = np.stack([time, (time - 2) ** 2], 1) / 5 + 0.1 * rng.normal(size=(len(time), 2))
    np.savez(path, x=x.astype(np.float32), time=time)
    return f"snapshots:path={path}"


def trained(tmp_path: Path, data: str, **values: Any) -> Path:
    settings = {"sde": "bridge:sigma=0.2", "net": "mlp:width=32,depth=1", "steps": 150, "rounds": 2, "batch_size": 256, "lr": 5e-3}
    return train(TrainingConfig.build({**settings, "data": data, "out": str(tmp_path / "run"), **values})).run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cells")
    return trained(folder, snapshots(folder / "cells.npz"))


def test_both_directions_pass_every_snapshot(tmp_path: Path, run: Path) -> None:
    for direction in ("forward", "backward"):
        made = sample(run, tmp_path / f"{direction}.npz", direction=direction, times="0,1,2,3", n=200, steps=10)
        assert made is not None
        found = np.load(tmp_path / f"{direction}.npz")
        assert found["x"].shape == (200, 4, 2)
        assert found["times"].tolist() == [0, 1, 2, 3]
        means = found["x"].mean(0)
        for k, time in ((0, 0.0), (1, 1.0), (3, 3.0)):
            np.testing.assert_allclose(means[k], [(time + 2) / 5, time**2 / 5], atol=0.12)


def test_a_curve_does_not_depend_on_its_batch_nor_start_elsewhere(tmp_path: Path, run: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.array([[0.4, 0.1], [0.5, 0.0], [0.3, 0.0]], np.float32))
    settings: dict[str, Any] = {"direction": "forward", "times": "0:3:7", "start": tmp_path / "rows.npz", "steps": 5}
    sample(run, tmp_path / "all.npz", **settings)
    sample(run, tmp_path / "one.npz", seeds="2", **settings)
    every, one = np.load(tmp_path / "all.npz")["x"], np.load(tmp_path / "one.npz")["x"]
    np.testing.assert_allclose(one[0], every[2], atol=1e-5)
    np.testing.assert_allclose(every[:, 0], np.load(tmp_path / "rows.npz")["x"], atol=1e-5)


def test_pictures(tmp_path: Path, run: Path) -> None:
    for ending in ("gif", "png"):
        file = tmp_path / f"path.{ending}"
        sample(run, tmp_path / f"{ending}.npz", direction="forward", times="0:3:5", n=20, steps=3, trajectory=file)
        with Image.open(file) as picture:
            assert getattr(picture, "n_frames", 1) == (5 if ending == "gif" else 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"times": "0:4:5"}, r"The time 4 lies outside the snapshots, at 0, 1, 3 \(counted from the first\)"),
        ({"times": "1,0"}, r"The times 1,0 do not increase"),
        ({"times": "soon"}, r"times=soon is not a list of times"),
        ({"times": "0:1:-1"}, r"times=0:1:-1 is not a list of times"),
        ({"times": "0,0.9999"}, r"The time 0.9999 is too close to a snapshot"),
        ({"times": "0:3:5", "start": "wide.npz"}, r"Give rows of the shape of the run's data, \(2,\)"),
    ],
)
def test_what_cannot_be_recorded_is_told(
    tmp_path: Path, run: Path, settings: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("wide.npz", x=np.zeros((3, 3), np.float32))
    start = Path(settings.pop("start")) if "start" in settings else None
    with pytest.raises(SdezooError, match=says):
        sample(run, tmp_path / "out.npz", direction="forward", start=start, **settings)
    assert not (tmp_path / "out.npz").exists()


def test_times_in_words() -> None:
    assert parse_times("0:4:5").tolist() == [0, 1, 2, 3, 4]
    assert parse_times("0,0.5").tolist() == [0, 0.5]
    with pytest.raises(ParameterError):
        parse_times("nan,1")


@pytest.mark.parametrize(
    ("arrays", "options", "says"),
    [
        ({"x": np.zeros((4, 2)), "time": np.zeros(4)}, "", r"The snapshots have 1 time, and a bridge needs two or more"),
        ({"x": np.zeros((4, 2)), "time": np.arange(3)}, "", r"times of shape \(3,\)"),
        ({"x": np.zeros((4, 2))}, "", r"The file holds x, and not x and time"),
        ({"x": np.zeros((4, 2)), "time": np.array([0, 0, 1, np.nan])}, "", r"not a finite number"),
        ({"x": np.zeros((4, 2)), "time": np.array([0, 0, 1, 1])}, ",without=(7)", r"No row has the time 7\. Leave out one of 0, 1"),
        ({"x": np.zeros((4, 2)), "time": np.array([0, 0, 1, 1])}, ",columns=3", r"has 2 columns, fewer than 3"),
        ({"x": np.zeros((3, 2)), "time": np.array([0, 1, 1])}, ",holdout=0", r"too few"),
    ],
)
def test_snapshots_that_cannot_be_used_are_told(tmp_path: Path, arrays: dict[str, np.ndarray], options: str, says: str) -> None:
    np.savez(tmp_path / "cells.npz", **arrays)
    with pytest.raises(DataError, match=says):
        trained(tmp_path, f"snapshots:path={tmp_path}/cells.npz{options}")
    assert not (tmp_path / "run").exists()
