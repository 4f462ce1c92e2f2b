"""Whatever takes a path from a user takes it as text."""

from pathlib import Path

import numpy as np
import torch

import sdezoo
from sdezoo.training.config import TrainingConfig


def test_a_run_and_files_may_be_named_by_strings(tmp_path: Path) -> None:
    x = np.exp(np.random.default_rng(0).standard_normal((60, 2))).astype(np.float32)
    np.savez(tmp_path / "points.npz", x=x)
    values = {"net": "mlp:width=8,depth=1", "steps": 2, "data": str(tmp_path / "points.npz"), "out": str(tmp_path / "run")}
    run = str(sdezoo.train(TrainingConfig.build(values)).run)
    assert torch.equal(sdezoo.restore(run).encoding.encode(torch.ones(1, 2)), sdezoo.restore(Path(run)).encoding.encode(torch.ones(1, 2)))
    sdezoo.sample(run, str(tmp_path / "s.csv"), n=20, steps=2, trajectory=str(tmp_path / "t.png"))
    sdezoo.sample(run, str(tmp_path / "from.npz"), n=20, steps=2, start=str(tmp_path / "points.npz"))
    assert sdezoo.evaluate(run, samples=str(tmp_path / "s.csv"), out=str(tmp_path / "judged")).measured
    assert (tmp_path / "judged").is_dir()
    assert len(sdezoo.likelihood(run, n=2, steps=4, out=str(tmp_path / "nll.csv")).rows) == 2
