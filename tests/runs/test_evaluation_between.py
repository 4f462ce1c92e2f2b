"""Evaluation between data: an untrained bridge costs what exact pairs cost, a known SDE is calibrated and a wrong one is not, and what does
not apply is refused before anything is written."""

import json
from pathlib import Path

import numpy as np
import pytest

from sdezoo.errors import CompositionError, ParameterError
from sdezoo.evaluation import suite
from sdezoo.evaluation.measures import classifier
from sdezoo.learning.paths.observed import PathModel
from sdezoo.runs import evaluate as module
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig

_halves, _c2st = suite.halves, suite.c2st


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer resamples and trees than a user gets."""
    monkeypatch.setattr(suite, "halves", lambda *a, seed: _halves(*a, repeats=10, seed=seed))
    monkeypatch.setattr(suite, "c2st", lambda *a, seed: _c2st(*a, trees=10, seed=seed))
    monkeypatch.setattr(classifier, "_STEPS", 30)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A population that moves at constant speed, with a snapshot at time 1.5 left out."""
    folder, rng = tmp_path_factory.mktemp("bridge"), np.random.default_rng(1)
    noise, time = np.concatenate([rng.normal(size=(900, 2)), rng.normal(size=(300, 2))]), np.repeat([5, 6, 7, 6.5], 300)
    np.savez(folder / "cells.npz", x=noise + 3 * (time - 5)[:, None], time=time)
    data = f"snapshots:path={folder}/cells.npz,without=(6.5)"
    settings = {"sde": "bridge:sigma=0.5", "data": data, "rounds": 2, "steps": 1, "out": f"{folder}/run"}
    return train(TrainingConfig.build({**settings, "net": "mlp:width=8,depth=1", "batch_size": 32})).run


def test_both_directions_and_all_snapshots_are_judged(run: Path) -> None:
    found = evaluate(run, n=30, out=run / "evaluation")
    groups = {line.group.partition(":")[0] for line in found.measured}
    assert groups - {"time 1.5, left out"} == {
        "backward, time 1",
        "backward, time 0",
        "backward",
        "forward, time 1",
        "forward, time 2",
        "forward",
        "pairs",
    }
    # Normal snapshots need no training: the linear estimate is the exact drift.
    moved = {line.group: line.value for line in found.measured if line.name == "sliced W1"}
    assert all(value < 0.4 for group, value in moved.items() if group.startswith(("forward", "backward"))), moved
    w1 = found.facts["left_out"]["1.5"]["W1"]
    for name in ("real rows", "bridge, forward", "bridge, backward", "linear interpolation, optimal transport"):
        assert w1[name] < min(w1["the snapshot before"], w1["the snapshot after"]) / 2, (name, w1)
    for way, cost in found.facts["coupling"].items():
        assert cost["values"] == 30 * 2 * 2  # rows, later snapshots, columns
        assert cost["outside_support"] == 0
        says = f"{way}: Of 120 values {cost['outside_range']} lie outside the range of the data"
        assert any(note.startswith(says) for note in found.notes)
        assert 0.8 * cost["optimal_transport"] < cost["squared_distance"] < 1.25 * cost["random_pairs"]
    record = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert record["verdict"].startswith("Time 1.5, left out: the bridge is ")
    assert "Backward, time 1: A classifier cannot tell" in record["verdict"]
    one = evaluate(run / "rounds" / "2-forward", n=30)
    assert {line.group.partition(",")[0].partition(":")[0] for line in one.measured} == {"forward", "time 1.5"}


def test_images_are_judged_in_pixels_and_by_a_classifier_of_the_ends(tmp_path: Path) -> None:
    """Images with a pixel that never changes, as corners of digits; the ends differ in brightness, so that all are taken for the end."""
    x = np.random.default_rng(3).uniform(0.0, 0.4, (200, 1, 4, 4)).astype(np.float32)
    x[:, :, 0, 0] = 0
    np.savez(tmp_path / "dark.npz", x=x[:100])
    np.savez(tmp_path / "bright.npz", x=x[100:] + 0.5)
    data = {name: f"array:path={tmp_path}/{name}.npz,holdout=0.3" for name in ("dark", "bright")}
    settings = {"sde": "bridge:sigma=0.1", "data": data["dark"], "target": data["bright"], "rounds": 2, "steps": 1, "net": "unet:width=8"}
    run = train(TrainingConfig.build({**settings, "out": str(tmp_path / "run"), "batch_size": 16})).run
    found = evaluate(run, n=30, out=run / "evaluation")
    groups = {line.group for line in found.measured}
    assert {f"{way}: {what}" for way in ("backward", "forward") for what in ("pixels", "coupling", "classes")} <= groups
    assert "forward: features of the classifier of the ends" in groups
    assert "A classifier of the two ends takes 100.0% of them for the end, and 100.0% of real ones." in found.verdict
    assert found.facts["coupling"]["taken_for_the_end, forward"] == 1


def test_what_does_not_apply_is_refused(run: Path) -> None:
    for options, says in (
        ({"samples": Path("x.npz")}, "--samples does not apply to a bridge"),
        ({"checkpoint": "best"}, "--checkpoint"),
        ({"features": "inception"}, "no features 'inception' of points data"),
        ({"n": 0}, "n=0 is too small"),
    ):
        with pytest.raises(ParameterError, match=says):
            evaluate(run, **options, out=run / "other")  # type: ignore[arg-type]
    assert not (run / "other").exists()


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on exact paths of correlated geometric Brownian motions, which a model that is not trained knows already: `own` with times of
    each path's own, and `common` with times for all."""
    folder, rng = tmp_path_factory.mktemp("paths"), np.random.default_rng(2)
    for name, count in {"own": 400, "common": 1}.items():
        h = rng.uniform(0.01, 0.03, (count, 20))
        noise = np.sqrt(h)[..., None] * (rng.normal(size=(400, 20, 2)) @ [[0.2, 0.15], [0, 0.25]])
        x = np.exp(np.pad((0.3 * h[..., None] + noise).cumsum(1), ((0, 0), (1, 0), (0, 0))))
        times = np.pad(h.cumsum(1), ((0, 0), (1, 0)))
        np.savez(folder / f"{name}.npz", x=x.astype(np.float32), times=times if count > 1 else times[0])
        settings = {"task": "paths:coordinates=exp,width=8,depth=1", "data": f"array:path={folder}/{name}.npz,holdout=0.5", "steps": 1}
        train(TrainingConfig.build({**settings, "lr": 1e-9, "out": str(folder / f"{name}-run")}))
    return folder


def test_forecasts_of_a_known_sde_are_calibrated(motions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares in central intervals, and the deviation of normal scores, to four sampling errors; a fifth less noise is found too narrow."""
    for name in ("own", "common"):
        found = evaluate(motions / f"{name}-run", n=100)
        figures = {line.name: (line.value, line.best) for line in found.measured if line.group == "one step ahead"}
        for column in ("x0", "x1"):
            for figure, error in {"central 50 % covers": 0.5, "central 90 % covers": 0.3, "deviation of scores": 0.71}.items():
                value, best = figures[f"{figure} ({column})"]
                assert abs(value - best) < 4 * error / 2000**0.5, (name, figure, value)
        assert found.verdict.startswith("One step ahead the model is calibrated")
        assert "cannot tell samples from held-out paths" in found.verdict
        variance = {line.name: line for line in found.measured}["variance of increments (x0)"]
        assert abs(variance.value / 0.04 - 1) < 4 * (2 / 2000) ** 0.5
        assert found.notes[0].startswith(f"Of {100 * 21 * 2} values {found.facts['outside_range']} lie outside the range of the data")
        places = {line.group for line in found.measured if line.group.startswith("paths at ")}
        assert len(places) == 3
        assert ("paths at observation 21" in places) == (name == "own")

    def narrow(*arguments: str) -> object:
        trained = restore(*arguments)  # type: ignore[arg-type]
        assert isinstance(trained.model, PathModel)
        trained.model.net.root *= 0.8
        return trained

    monkeypatch.setattr(module, "restore", narrow)
    found = evaluate(motions / "common-run", n=100)
    assert "are too narrow" in found.verdict, found.verdict


def test_paths_refuse_what_does_not_apply(motions: Path) -> None:
    with pytest.raises(CompositionError, match="takes no sampler"):
        evaluate(motions / "own-run", sampler="heun")
    with pytest.raises(ParameterError, match="are not compared with those of a file"):
        evaluate(motions / "own-run", samples=motions / "own.npz")
    with pytest.raises(ParameterError, match="no features 'inception' of paths data"):
        evaluate(motions / "own-run", features="inception")
    found = evaluate(motions / "common-run", samples=motions / "common.npz", n=100)
    assert found.facts["samples"] == str(motions / "common.npz")
