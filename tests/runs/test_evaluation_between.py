"""Evaluation of bridges: an untrained one costs what exact pairs cost, and what does not apply is refused before anything is written."""

import json
from pathlib import Path

import numpy as np
import pytest

from sdezoo.errors import ParameterError
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bridge")
    x = np.random.default_rng(1).normal(size=(900, 2))
    np.savez(folder / "cells.npz", x=x + np.repeat([0, 3, 6], 300)[:, None], time=np.repeat([0, 1, 2], 300))
    settings = {"sde": "bridge:sigma=0.5", "data": f"snapshots:path={folder}/cells.npz", "rounds": 2, "steps": 1, "out": f"{folder}/run"}
    return train(TrainingConfig.build({**settings, "net": "mlp:width=8,depth=1", "batch_size": 32})).run


def test_both_directions_and_all_snapshots_are_judged(run: Path) -> None:
    found = evaluate(run, n=30, out=run / "evaluation")
    groups = {line.group.partition(":")[0] for line in found.measured}
    assert groups == {"backward, time 1", "backward, time 0", "backward", "forward, time 1", "forward, time 2", "forward", "pairs"}
    # Normal snapshots need no training: the linear estimate is the exact drift.
    moved = {line.group: line.value for line in found.measured if line.name == "sliced W1"}
    assert all(value < 0.4 for group, value in moved.items() if group.startswith(("forward", "backward"))), moved
    for cost in found.facts["coupling"].values():
        assert 0.8 * cost["optimal_transport"] < cost["squared_distance"] < 1.25 * cost["random_pairs"]
    record = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert record["verdict"].startswith("Backward, time 1: A classifier cannot tell")


def test_what_does_not_apply_is_refused(run: Path) -> None:
    for options, says in (
        ({"samples": Path("x.npz")}, "--samples does not apply to a bridge"),
        ({"checkpoint": "best"}, "--checkpoint"),
        ({"n": 0}, "n=0 is too small"),
    ):
        with pytest.raises(ParameterError, match=says):
            evaluate(run, **options, out=run / "other")  # type: ignore[arg-type]
    assert not (run / "other").exists()
