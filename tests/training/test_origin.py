"""Training on with other data: what is kept of the run, what is refused, and that less is forgotten off the directions of before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdezoo import LOSSES, Batch, TrainingConfig, restore, train
from sdezoo.errors import DataError, RunError, SdezooError
from sdezoo.process.noise import KeyedNoise
from sdezoo.store.checkpoint import folder_of, read_tensors

NET = {"net": "mlp:width=32,depth=1", "batch_size": 64, "lr": 5e-3, "ema_half_life_images": 500, "checkpoint_every": 40}


def points(folder: Path, name: str, *, width: int = 4, turned: bool = False, labels: bool = False) -> str:
    noise = np.random.default_rng(0)
    u = noise.standard_normal((400, 1)) @ np.ones((1, width)) + 0.2 * noise.standard_normal((400, width))
    x = (u * (np.arange(width) % 2 * 2 - 1) if turned else u).astype(np.float32)
    more: dict[str, Any] = {"y": np.arange(400) % 2} if labels else {}
    np.savez(folder / f"{name}.npz", x=x, **more)
    return str(folder / f"{name}.npz")


def run(folder: Path, name: str, data: str, **values: Any) -> Path:
    return train(TrainingConfig.build({**NET, "steps": 120, "data": data, "out": str(folder / name), **values})).run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on rows along one direction, with the directions that it uses, and two that train on with rows along another."""
    made = tmp_path_factory.mktemp("origin")
    old, new = points(made, "old"), points(made, "new", turned=True)
    first = run(made, "first", old, sde="vp", optimizer="hebbian-projection")
    for name, optimizer in (("kept", "hebbian-projection"), ("free", "adamw")):
        run(made, name, new, origin=str(first), optimizer=optimizer, net=None, schedule="constant")
    return made


def loss_on(run: Path, data: str) -> float:
    trained, loss = restore(run), LOSSES.build("dsm")
    x = trained.encoding.encode(torch.from_numpy(np.load(data)["x"]))
    sde, total = trained.model.sde, 0.0
    with torch.no_grad():
        for k, level in enumerate((0.1, 0.3, 1.0, 3.0)):
            t = sde.time_at(torch.tensor(level, dtype=torch.float64)).reshape(1, 1).expand(len(x), 1).float()
            total += float(loss(trained.model, Batch(x), t, KeyedNoise(k, range(len(x)))).mean())
    return total / 16


def test_less_is_forgotten_and_something_is_learned(folder: Path) -> None:
    old, new = str(folder / "old.npz"), str(folder / "new.npz")
    before = loss_on(folder / "first", old)
    kept, free = (loss_on(folder / name, old) - before for name in ("kept", "free"))
    assert 0 < kept < 0.8 * free
    assert loss_on(folder / "kept", new) < loss_on(folder / "first", new)
    assert loss_on(folder / "free", new) < loss_on(folder / "first", new)


def test_process_encoding_and_moments_are_those_of_the_run(folder: Path) -> None:
    first, kept = (restore(folder / name) for name in ("first", "kept"))
    assert kept.state.sde == first.state.sde
    assert kept.state.net == first.state.net
    assert kept.state.encoding == first.state.encoding
    mine, theirs = kept.model.state_dict(), first.model.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in ("mean", "std", "fitted.mean", "fitted.directions"))


def test_it_resumes_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    values = {"origin": str(folder / "first"), "optimizer": "hebbian-projection", "net": None, "steps": 80}
    whole = run(tmp_path, "whole", str(folder / "new.npz"), **values)
    halves = TrainingConfig.build({**NET, **values, "data": str(folder / "new.npz"), "out": str(tmp_path / "halves")})

    def stop(done: int, _total: int, _loss: float) -> None:
        if done == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(halves, progress=stop)
    train(halves, resume=True)
    for part in ("model", "ema", "optimizer"):
        found, wanted = (read_tensors(folder_of(tmp_path / name, 80), part) for name in ("halves", "whole"))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert whole.name == "whole"


@pytest.mark.parametrize(
    ("values", "kind", "says"),
    [
        ({"data": "five"}, DataError, r"shape \(5,\), and the model of .* takes points data of shape \(4,\)"),
        ({"sde": "ve"}, RunError, "was trained with sde=vp, not ve"),
        ({"net": "mlp:width=8"}, RunError, "was trained with net="),
        ({"origin": "nowhere"}, RunError, "There is no run in"),
        ({"out": "first"}, RunError, "is the run that is trained on"),
        ({"origin": "free", "optimizer": "hebbian-projection"}, RunError, "did not learn which directions"),
        ({"data": "digits"}, SdezooError, "image data of shape"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(folder: Path, values: dict, kind: type, says: str) -> None:
    points(folder, "five", width=5)
    settings = {"origin": "first", "data": "new", "out": "refused", **NET, "net": None, "steps": 5, **values}
    for key in ("origin", "out"):
        settings[key] = str(folder / settings[key])
    settings["data"] = settings["data"] if settings["data"] == "digits" else str(folder / f"{settings['data']}.npz")
    with pytest.raises(kind, match=says):
        train(TrainingConfig.build(settings))
    assert not (folder / "refused").exists()


def test_paths_go_on_with_first_observations_of_the_new_data(tmp_path: Path) -> None:
    for name, count in (("old", 12), ("new", 9)):
        x = np.random.default_rng(count).normal(size=(count, 6, 1)).cumsum(1).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x, times=np.arange(6.0))
    common = {"device": "cpu", "steps": 1, "net": None, "batch_size": 4}
    first = run(tmp_path, "first", str(tmp_path / "old.npz"), task="paths:width=4,depth=1", **common)
    second = run(tmp_path, "second", str(tmp_path / "new.npz"), origin=str(first), lr=1e-12, **common)
    before, after = restore(first).model, restore(second).model
    assert torch.equal(after.starts, torch.from_numpy(np.load(tmp_path / "new.npz")["x"])[: len(after.starts), 0])
    for a, b in zip(before.net.parameters(), after.net.parameters(), strict=True):
        torch.testing.assert_close(a, b)
