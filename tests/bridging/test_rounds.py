"""Rounds of a bridge: they reach the known coupling, survive kills to equal bytes, and refuse what cannot work before writing."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdezoo.bridging.bridge_task import BridgeModel
from sdezoo.bridging.couplings import coupling_digest, read_coupling
from sdezoo.bridging.rounds import newest_round, real_rows, round_folder
from sdezoo.data.dataset import Data, Snapshot
from sdezoo.errors import CompositionError, DataError, ParameterError, RunError, SdezooError
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from tests.interrupting import train_killed

NET = "mlp:width=32,depth=1"


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def ends(tmp_path: Path) -> dict[str, str]:
    np.savez(tmp_path / "a.npz", x=normal(1, 600, 2))
    np.savez(tmp_path / "b.npz", x=normal(2, 500, 2) + 1)
    return {"data": str(tmp_path / "a.npz"), "target": str(tmp_path / "b.npz")}


def config(run: Path, **values: Any) -> TrainingConfig:
    return TrainingConfig.build({"sde": "bridge", "net": NET, "steps": 20, "checkpoint_every": 8, "rounds": 4, "out": str(run), **values})


def hashes(run: Path) -> dict[str, str]:
    """Digests of everything that a run trains and simulates; times of day and speeds are not compared."""
    found = [*run.glob("rounds/*/checkpoints/*/*.safetensors"), *run.glob("rounds/*/coupling/*")]
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in found}


def test_rounds_survive_kills_to_equal_bytes(tmp_path: Path, ends: dict[str, str]) -> None:
    train(config(tmp_path / "whole", **ends))
    wanted = hashes(tmp_path / "whole")
    assert len([name for name in wanted if "pairs" in name]) == 3
    for at in (5, 40, 71):  # before a checkpoint, at the end of a round, inside the last
        run = tmp_path / f"cut-{at}"
        train_killed(config(run, **ends), at)
        train(config(run, **ends), resume=True)
        assert hashes(run) == wanted, at


def test_damaged_couplings_are_simulated_again(tmp_path: Path, ends: dict[str, str]) -> None:
    run = tmp_path / "run"
    train(config(run, **ends, rounds=2))
    folder, wanted = round_folder(run, 2), hashes(run)
    (folder / "coupling" / "pairs.safetensors").write_bytes(b"damaged")
    assert coupling_digest(folder) is None
    with pytest.warns(UserWarning, match="already has 2 rounds: there is nothing left to train. Give more --rounds"):
        train(config(run, **ends, rounds=2), resume=True)
    assert hashes(run) == wanted
    with pytest.raises(RunError, match="missing or damaged"):
        read_coupling(folder, "0" * 64, 1, (2,))


def test_more_rounds_go_on_from_the_last_of_their_direction(tmp_path: Path, ends: dict[str, str]) -> None:
    train(config(tmp_path / "four", **ends))
    train(config(tmp_path / "grown", **ends, rounds=2))
    train(config(tmp_path / "grown", **ends, rounds=4), resume=True)
    assert hashes(tmp_path / "grown") == hashes(tmp_path / "four")
    with pytest.raises(RunError, match=r"have 20 steps each"):
        train(config(tmp_path / "grown", **ends, steps=30), resume=True)


def test_a_pair_starts_at_a_training_row_and_ends_where_the_model_takes_it(tmp_path: Path, ends: dict[str, str]) -> None:
    run = tmp_path / "run"
    data = train(config(run, **ends, rounds=3)).data
    trained, folder = restore(round_folder(run, 1)), round_folder(run, 2)
    digest = coupling_digest(folder)
    assert digest
    assert digest in restore(folder).state.task
    [(early, late)] = read_coupling(folder, digest, 1, (2,))
    torch.testing.assert_close(late, trained.encoding.encode(data.later[0].train))
    assert early.shape == late.shape
    assert not trained.model.sde.forward
    assert restore(folder).model.sde.forward
    for place, rows in real_rows(run, 1, (2,)).items():
        torch.testing.assert_close(rows, trained.encoding.encode(data.snapshots[place].train))
    assert list(real_rows(run, 1, (2,))) == [0, 1]


def test_row_i_goes_from_row_i_whatever_the_batch(tmp_path: Path, ends: dict[str, str]) -> None:
    run = tmp_path / "run"
    train(config(run, **ends, rounds=2))
    np.savez(tmp_path / "from.npz", x=normal(3, 40, 2))
    found = []
    for batch in (40, 7):
        sample(run, tmp_path / f"{batch}.npy", direction="forward", start=tmp_path / "from.npz", batch_size=batch, seed=4)
        found.append(np.load(tmp_path / f"{batch}.npy"))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    sample(run, tmp_path / "some.npy", direction="forward", start=tmp_path / "from.npz", seeds="3,17", seed=4)
    np.testing.assert_allclose(np.load(tmp_path / "some.npy"), found[0][[3, 17]], atol=1e-5)


def test_gaussian_ends_reach_the_known_coupling(tmp_path: Path) -> None:
    """A network in place of the exact drift: the covariance of the pairs is that of the Schrödinger bridge, 0.618."""
    a, b = (torch.randn(4000, 1, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    data = Data(a, a[:0], "points", later=(Snapshot(1.0, b, b[:0]),))
    settings = {"steps": 250, "rounds": 3, "shift": "none", "batch_size": 512, "lr": 3e-3, "net": "mlp:width=32,depth=2", "data": "memory"}
    run = train(config(tmp_path / "run", **settings, checkpoint_every=250), data=data).run
    np.savez(tmp_path / "from.npz", x=normal(5, 8000, 1))
    sample(run, tmp_path / "to.npy", direction="backward", start=tmp_path / "from.npz", steps=40)
    x, y = normal(5, 8000, 1)[:, 0], np.load(tmp_path / "to.npy")[:, 0]
    assert np.cov(x, y)[0, 1] == pytest.approx(0.618, abs=0.06)
    assert y.std() == pytest.approx(1, abs=0.06)


def test_positive_data_stay_positive(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.exp(3 * normal(1, 300, 2)))
    np.savez(tmp_path / "b.npz", x=np.exp(normal(2, 300, 2) - 5))
    ends = {"data": str(tmp_path / "a.npz"), "target": str(tmp_path / "b.npz")}
    run = train(config(tmp_path / "run", **ends, sde="geometric-bridge", rounds=2)).run
    for direction, start in (("forward", "a.npz"), ("backward", "b.npz")):
        sample(run, tmp_path / f"{direction}.npy", direction=direction, start=tmp_path / start, steps=2)
        assert (np.load(tmp_path / f"{direction}.npy") > 0).all()
    np.savez(tmp_path / "zero.npz", x=np.zeros((3, 2), np.float32))
    with pytest.raises(DataError, match="outside the positive numbers"):
        sample(run, tmp_path / "out.npy", direction="forward", start=tmp_path / "zero.npz")


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        ({"sde": "vp"}, ParameterError, r"--target is for a bridge between two data sets, and 'vp' is none"),
        ({"sde": "vp", "target": None}, ParameterError, r"--rounds is for a bridge"),
        ({"target": None}, DataError, r"A bridge has two ends, and these data are one\. Give the other end by --target"),
        ({"task": "score", "target": None, "rounds": None}, CompositionError, r"The task 'score' needs a process from data to noise"),
        ({"task": "bridge", "sde": "vp"}, CompositionError, r"The task 'bridge' needs a bridge"),
        ({"target": "three.npz"}, DataError, r"The two ends differ in shape: \(2,\) and \(3,\)"),
        ({"sde": "geometric-bridge"}, DataError, r"777 values are zero or negative"),
        ({"loss": "dsm"}, ParameterError, r"does not use the setting loss"),
        ({"sde": "bridge:times=(0,1,2)"}, ParameterError, r"times=\(0, 1, 2\) are given, and the data have snapshots at \(0, 1\)"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(
    tmp_path: Path, ends: dict[str, str], settings: dict[str, Any], kind: type[SdezooError], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "three.npz", x=normal(1, 9, 3))
    with pytest.raises(kind, match=says):
        train(config(tmp_path / "run", **{**ends, **settings}))
    assert not (tmp_path / "run").exists()


def test_directions_that_are_not_there_are_told(tmp_path: Path, ends: dict[str, str]) -> None:
    run = train(config(tmp_path / "run", **ends, rounds=1)).run
    assert newest_round(run, "backward") == run / "rounds" / "1-backward"
    assert newest_round(run / "rounds" / "1-backward", None) == run / "rounds" / "1-backward"
    for direction, says in (("forward", "No round"), (None, "has two directions"), ("up", "There is no direction 'up'")):
        with pytest.raises(RunError, match=says):
            newest_round(run, direction)
    with pytest.raises(RunError, match="Leave out --direction"):
        newest_round(tmp_path, "forward")


def test_a_fresh_network_is_exact_between_normal_distributions(tmp_path: Path) -> None:
    """Of independent ends, and of correlated pairs: `E[z_a | z_t]` is linear, and a network starts at it."""
    a = torch.randn(3000, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.5, 3.0]) + 2
    b = torch.randn(2000, 2, generator=torch.Generator().manual_seed(2)) * torch.tensor([2.0, 0.1])
    data = Data(a, a[:0], "points", later=(Snapshot(1.0, b, b[:0]),))
    run = train(config(tmp_path / "run", steps=1, rounds=2, lr=1e-12, shift="none", batch_size=32, data="memory"), data=data).run
    [(early, late)] = read_coupling(round_folder(run, 2), coupling_digest(round_folder(run, 2)) or "", 1, (2,))
    for number, below, above in ((1, a, b), (2, late, early)):
        model = restore(round_folder(run, number)).model
        assert isinstance(model, BridgeModel)
        both = torch.cat([below, above], 1).T.cov()[:2, 2:].diagonal() if number == 2 else torch.zeros(2)
        for t in (0.001, 0.3, 0.999):
            spread = (1 - t) ** 2 * below.var(0) + t**2 * above.var(0) + 2 * t * (1 - t) * both + model.sde.rate**2 * t * (1 - t)
            z = torch.randn(5, 2, generator=torch.Generator().manual_seed(3))
            wanted = below.mean(0) + ((1 - t) * below.var(0) + t * both) / spread * (z - (1 - t) * below.mean(0) - t * above.mean(0))
            torch.testing.assert_close(model.denoise(z, torch.tensor(t, dtype=torch.float64)), wanted, atol=2e-3, rtol=2e-3)
