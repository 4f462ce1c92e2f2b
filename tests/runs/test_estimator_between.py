"""The estimator between data: bridges, snapshots and observed paths are the models of the command line, to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from sdezoo import DiffusionModel
from sdezoo.errors import CompositionError, DataError, ParameterError, SdezooError
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(300, 2)).astype(np.float32), (RNG.normal(size=(200, 2)) + 1).astype(np.float32)
TIME = np.repeat([3.0, 4.0, 7.0], 100)
T = np.linspace(0, 1, 6)
PATHS = np.cumsum(0.3 * RNG.normal(size=(40, 6, 1)), 1).astype(np.float32)
SMALL: dict[str, Any] = {"net": "mlp:width=16,depth=1", "steps": 12, "device": "cpu"}


def bridge(**values: Any) -> DiffusionModel:
    return DiffusionModel(**{"sde": "bridge:sigma=1", "rounds": 3, **SMALL, **values})


@pytest.fixture(scope="module")
def fitted() -> DiffusionModel:
    return bridge().fit(A, target=B)


def ran(folder: Path, **values: Any) -> Path:
    """A run of the command line on the same rows, none held out."""
    return train(TrainingConfig.build({"sde": "bridge:sigma=1", "rounds": 3, **SMALL, "out": str(folder / "run"), **values})).run


def drawn(run: Path, start: np.ndarray, **options: Any) -> np.ndarray:
    np.savez(run.parent / "start.npz", x=start)
    sample(run, run.parent / "drawn.npy", start=run.parent / "start.npz", overwrite=True, **options)
    return np.load(run.parent / "drawn.npy")


def test_a_bridge_is_that_of_the_command_line(tmp_path: Path, fitted: DiffusionModel) -> None:
    np.savez(tmp_path / "a.npz", x=A)
    np.savez(tmp_path / "b.npz", x=B)
    ends = {key: f"array:path={tmp_path}/{name}.npz,holdout=0" for key, name in (("data", "a"), ("target", "b"))}
    run = ran(tmp_path, **ends)
    for direction, rows, carry in (("forward", A[:9], fitted.transform), ("backward", B[:9], fitted.inverse_transform)):
        np.testing.assert_array_equal(carry(rows), drawn(run, rows, direction=direction))
    loaded = DiffusionModel.load(run)
    np.testing.assert_array_equal(loaded.transform(A[:9]), fitted.transform(A[:9]))
    assert loaded.history_["loss"] == fitted.history_["loss"]
    assert fitted.history_["step"] == [12, 24, 36]


def test_row_i_goes_from_row_i_and_a_saved_bridge_goes_on(tmp_path: Path, fitted: DiffusionModel) -> None:
    made = fitted.sample(start=A, direction="forward", random_state=5)
    np.testing.assert_allclose(fitted.sample(7, start=A, direction="forward", random_state=5), made[:7], atol=1e-6)
    assert not np.array_equal(made, fitted.transform(A))
    fitted.save(tmp_path / "saved")
    np.testing.assert_array_equal(DiffusionModel.load(tmp_path / "saved").inverse_transform(B), fitted.inverse_transform(B))
    np.testing.assert_array_equal(drawn(tmp_path / "saved", A, direction="forward"), fitted.transform(A))
    assert not hasattr(DiffusionModel(), "transform"), "other models transform nothing"


def test_snapshots_with_times_are_those_of_the_command_line(tmp_path: Path) -> None:
    model = bridge().fit(A, times=TIME)
    np.savez(tmp_path / "cells.npz", x=A, time=TIME)
    run = ran(tmp_path, data=f"snapshots:path={tmp_path}/cells.npz,holdout=0")
    np.testing.assert_array_equal(model.transform(A[:9]), drawn(run, A[:9], direction="forward"))
    curves = model.sample(start=A[:9], direction="forward", times=[0, 0.5, 1, 4])
    assert curves.shape == (9, 4, 2)
    np.testing.assert_allclose(curves[:, 0], A[:9], atol=1e-6)
    np.savez(tmp_path / "start.npz", x=A[:9])
    sample(run, tmp_path / "curves.npz", direction="forward", start=tmp_path / "start.npz", times="0,0.5,1,4")
    np.testing.assert_array_equal(np.load(tmp_path / "curves.npz")["x"], curves)


def test_paths_with_times_are_those_of_the_command_line(tmp_path: Path) -> None:
    settings = {"task": "paths:width=8", "steps": 12, "batch_size": 16}
    model = DiffusionModel(**settings).fit(PATHS, times=T)  # type: ignore[arg-type]
    np.savez(tmp_path / "paths.npz", x=PATHS, times=T)
    run = train(TrainingConfig.build({**settings, "data": f"array:path={tmp_path}/paths.npz,holdout=0", "out": str(tmp_path / "run")})).run
    sample(run, tmp_path / "drawn.npz", n=7)
    np.testing.assert_array_equal(model.sample(7), np.load(tmp_path / "drawn.npz")["x"])
    starts = np.full((3, 1), 2.0)
    assert (model.sample(start=starts)[:, 0] == 2).all()
    own = DiffusionModel(**settings).fit(PATHS, times=np.tile(T, (40, 1)))  # type: ignore[arg-type]
    np.testing.assert_allclose(own.sample(2), model.sample(2), atol=1e-5)


def test_frames_keep_their_columns() -> None:
    frames = [pandas.DataFrame(rows, columns=["u", "v"]) for rows in (A, B)]
    made = bridge(rounds=2).fit(frames[0], target=frames[1]).transform(frames[0])
    assert list(made.columns) == ["u", "v"]
    assert len(made) == len(A)
    assert list(bridge(rounds=2).fit(frames[0], times=TIME).transform(frames[0]).columns) == ["u", "v"]


@pytest.mark.parametrize(
    ("settings", "x", "other", "says"),
    [
        ({"sde": "vp", "rounds": None}, A, {"target": B}, r"^target is for a bridge between two data sets, and 'vp' is none"),
        ({}, A, {}, r"A bridge has two ends, and these data are one\. Give the other end by target, or rows of several times by times\."),
        ({}, A, {"target": B[:, :1]}, r"The two ends differ in shape: \(2,\) and \(1,\)"),
        ({}, A, {"target": B, "times": TIME}, "Both target and times were given"),
        ({}, A, {"times": TIME[:9]}, r"rows of shape \(300, 2\) and times of shape \(9,\)"),
        ({}, A, {"times": np.ones(300)}, "The snapshots have 1 time"),
        ({}, A, {"times": ["a"] * 300}, "times are not an array of numbers"),
        ({"sde": "auto", "rounds": None}, PATHS, {"times": T}, "these data are paths"),
        ({"sde": "auto", "rounds": None, "net": None, "task": "paths"}, PATHS, {"times": T[::-1]}, "do not increase"),
        ({"rounds": None, "sde": "vp"}, A, {"times": TIME}, "these data are 3 snapshots"),
    ],
)
def test_mistakes_are_told_in_fit(settings: dict[str, Any], x: np.ndarray, other: dict[str, Any], says: str) -> None:
    with pytest.raises(SdezooError, match=says):
        bridge(**settings).fit(x, **other)


def test_mistakes_are_told_in_sample(fitted: DiffusionModel) -> None:
    for options, kind, says in (
        ({"start": A}, CompositionError, "A bridge has two directions"),
        ({"start": A, "direction": "up"}, CompositionError, "There is no direction 'up'"),
        ({"direction": "forward"}, ParameterError, "A bridge starts from rows"),
        ({"start": A[:, :1], "direction": "forward"}, DataError, "X has 1 features"),
        ({"start": A[:0], "direction": "forward"}, DataError, "start holds no rows"),
        ({"start": A * np.nan, "direction": "forward"}, DataError, "NaN"),
        ({"n_samples": 301, "start": A, "direction": "forward"}, ParameterError, "there are 300 rows"),
        ({"start": A, "direction": "forward", "times": [0, 2]}, ParameterError, "lies outside the snapshots"),
        ({"start": A, "direction": "forward", "times": [1, 0]}, ParameterError, "do not increase"),
    ):
        with pytest.raises(kind, match=says):
            fitted.sample(**options)  # type: ignore[arg-type]
    with pytest.raises(CompositionError, match="trains backward alone"):
        bridge(rounds=1).fit(A, target=B).transform(A)
    plain = DiffusionModel(sde="vp", **SMALL).fit(A)
    with pytest.raises(CompositionError, match="is no bridge"):
        plain.sample(start=A, direction="forward")
    with pytest.raises(ParameterError, match="Curves at given times are for a bridge"):
        plain.sample(times=[0, 1])
