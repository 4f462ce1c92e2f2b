"""Data that changed after training: every command that uses those of the run refuses them, and writes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdezoo.errors import DataError
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.likelihood import likelihood
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

SETTINGS: dict[str, Any] = {"steps": 1, "batch_size": 4, "device": "cpu"}


def trained(folder: Path, **settings: Any) -> Path:
    return train(TrainingConfig.build({**SETTINGS, **settings, "out": str(folder / "run")}), notify=lambda _: None).run


def a_table(folder: Path) -> tuple[Path, Path]:
    file = folder / "table.csv"
    file.write_text("a,b\n" + "".join(f"{k * 37 % 101 / 10:.1f},{k % 13 + 0.5}\n" for k in range(160)))
    return file, trained(folder, data=str(file), net="mlp:width=8,depth=1", sde="vp")


def a_series(folder: Path) -> tuple[Path, Path]:
    file = folder / "series.csv"
    steps = np.random.default_rng(0).normal(0, 0.01, 200).cumsum()
    file.write_text("day,price\n" + "".join(f"{k},{100 * np.exp(step):.4f}\n" for k, step in enumerate(steps)))
    return file, trained(folder, data=f"series:path={file},window=8,columns=(price),holdout=0.2", net="unet1d:width=4", sde="vp")


def a_bridge(folder: Path) -> tuple[Path, Path]:
    for name, seed in (("a", 0), ("b", 1)):
        np.savez(folder / f"{name}.npz", x=np.random.default_rng(seed).normal(size=(60, 2)).astype(np.float32))
    data = {"data": str(folder / "a.npz"), "target": str(folder / "b.npz"), "sde": "bridge", "net": "mlp:width=8,depth=1"}
    return folder / "b.npz", trained(folder, **data, rounds=1)


def other(file: Path) -> None:
    """One value of the data becomes another."""
    if file.suffix == ".csv":
        file.write_text(file.read_text().replace("\n", "\n9", 1) if "a,b" in file.read_text() else file.read_text() + "200,99.5\n" * 9)
    else:
        x = np.load(file)["x"]
        x[0, 0] += 1
        np.savez(file, x=x)


@pytest.mark.parametrize(
    ("make", "act"),
    [
        pytest.param(a_table, lambda run, out: evaluate(run, n=20, steps=2, out=out), id="evaluate"),
        pytest.param(a_table, lambda run, out: likelihood(run, n=8, steps=2, out=out / "rows.csv"), id="likelihood"),
        pytest.param(a_table, lambda run, out: sample(run, out / "x.csv", n=2, steps=2, guides=["ipm"]), id="guide"),
        pytest.param(a_series, lambda run, out: sample(run, out / "x.csv", steps=2, given_first=3), id="given-first"),
        pytest.param(a_bridge, lambda run, out: sample(run, out / "x.npz", n=2, steps=2, direction="backward"), id="bridge"),
    ],
)
def test_they_are_refused(tmp_path: Path, make: Callable[[Path], tuple[Path, Path]], act: Callable[[Path, Path], object]) -> None:
    file, run = make(tmp_path)
    act(run, tmp_path / "before")
    other(file)
    with pytest.raises(DataError, match="are not those that the run was trained on"):
        act(run, tmp_path / "after")
    assert not (tmp_path / "after").exists()
