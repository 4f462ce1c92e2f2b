"""A training on rows that stay on the disk: the same model, but for statistics of a part of them."""

from pathlib import Path

import numpy as np
import pytest

from sdezoo.errors import DataError
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo_plugins.datasets import array as plugin


def config(folder: Path, out: str, rows: np.ndarray, **more: object) -> TrainingConfig:
    np.save(folder / "a.npy", rows)
    given = {"data": f"array:path={folder}/a.npy,holdout=0", "net": "mlp:width=16", "steps": 20, "out": str(folder / out), **more}
    return TrainingConfig.build(given)


def test_rows_on_the_disk_train_as_rows_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the process given, a part of the rows decides on the network's scales alone, to the sampling error of 200 rows."""
    rows = np.exp(np.random.default_rng(0).normal(size=(5000, 3)))
    whole = train(config(tmp_path, "whole", rows, sde="gbm:sigma=2"))
    monkeypatch.setattr(plugin, "IN_MEMORY", 1000)
    monkeypatch.setattr(plugin, "PART", 2400)
    stored = train(config(tmp_path, "stored", rows, sde="gbm:sigma=2"))
    assert stored.data.stored is not None
    assert len(stored.data.train) <= 200
    assert stored.loss == pytest.approx(whole.loss, rel=4 / 200**0.5)


def test_all_rows_are_looked_at_not_the_part_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "IN_MEMORY", 1000)
    monkeypatch.setattr(plugin, "PART", 2400)
    rows = np.exp(np.random.default_rng(0).normal(size=(5000, 3)))
    rows[4321, 1] = -7
    with pytest.raises(DataError, match=r"1 value is zero or negative, in column 1"):
        train(config(tmp_path, "run", rows, sde="gbm"))
    assert train(config(tmp_path, "run", rows, sde="gbm", shift="auto")).steps == 20
