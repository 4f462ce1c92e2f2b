"""The task `paths` with a critic: observations far apart, gradients of opposite sign, clipped weights, and steps that divide the times."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sdezoo.data.dataset import Data
from sdezoo.errors import DataError, ParameterError, SdezooError
from sdezoo.learning.paths.critic import Critic
from sdezoo.learning.paths.observed import PathModel
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from tests.interrupting import assert_same_tensors, train_killed

THETA, MU, SIGMA, H = 2.0, 1.0, 0.7, 0.15
SMALL = "paths:method=gan,width=8,depth=1,hidden=4"


def approaching(n: int = 400, steps: int = 8) -> Data:
    """Exact paths of an Ornstein–Uhlenbeck process that start far from its mean; times `0.15 k`."""
    e = torch.randn(n, steps + 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, x = np.exp(-THETA * H), [MU + e[:, 0]]
    for k in range(steps):
        x.append(MU + a * (x[-1] - MU) + SIGMA * np.sqrt((1 - a * a) / (2 * THETA)) * e[:, k + 1])
    return Data(torch.stack(x, 1)[..., None].float(), torch.zeros(0, steps + 1, 1), "paths", times=H * torch.arange(steps + 1).double())


def config(run: Path, task: str = SMALL, **values: Any) -> TrainingConfig:
    return TrainingConfig.build({"task": task, "out": str(run), "steps": 3, "batch_size": 20, **values})


def test_whole_paths_tell_drift_and_diffusion(tmp_path: Path) -> None:
    """Drift and noise approach the truth from `θ = 0` and `σ = 1`; a critic whose gradients were not turned would lead away."""
    settings: Any = {"steps": 200, "batch_size": 200, "lr": 0.02, "ema_half_life_images": 2000}
    train(config(tmp_path / "run", "paths:method=gan,width=16,hidden=8,drift=linear,diffusion=constant", **settings), data=approaching())
    sde = restore(tmp_path / "run").model.sde
    z = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    f, g = sde.drift(z, torch.tensor(0.0)), sde.diffuse(z, torch.tensor(0.0), torch.ones_like(z))
    assert abs(float(f[0] - f[1]) - THETA) < 1
    assert abs(float(g[0]) - SIGMA) < 0.15


def test_a_run_survives_a_kill_and_samples(tmp_path: Path) -> None:
    data, settings = approaching(60, 4), {"steps": 9, "checkpoint_every": 3}
    task = f"{SMALL},step=0.05"
    train(config(tmp_path / "whole", task, **settings), data=data)
    train_killed(config(tmp_path / "cut", task, **settings), 7, data)
    train(config(tmp_path / "cut", task, **settings), data=data, resume=True)
    assert_same_tensors(tmp_path / "cut", tmp_path / "whole", 9)
    assert any(name.startswith("critic.") for name in load_file(checkpoint.folder_of(tmp_path / "cut", 9) / "model.safetensors"))
    made = sample(tmp_path / "cut", tmp_path / "x.npz", n=10)
    assert made is not None
    assert made.steps == 3, "as in training"
    with np.load(tmp_path / "x.npz") as file:
        assert file["x"].shape == (10, 5, 1)
        assert np.isfinite(file["x"]).all()


def test_the_exported_sde_is_that_of_ito(tmp_path: Path) -> None:
    """The drift of Itô is that of Stratonovich and `½ G ∂G`, here by differences."""
    train(config(tmp_path / "run", steps=3, lr=0.3), data=approaching(60, 4))
    model = restore(tmp_path / "run").model
    assert isinstance(model, PathModel)
    z, t, e = torch.linspace(-1, 2, 7, dtype=torch.float64)[:, None], torch.tensor(0.0), 1e-5
    f, g = model.net(z, t)
    slope = (model.net(z + e, t)[1] - model.net(z - e, t)[1]) / (2 * e)
    assert float(slope.abs().min()) > 1e-4
    torch.testing.assert_close(model.sde.drift(z, t), f + (slope * g).squeeze(-1) / 2)


def test_the_critic_is_clipped() -> None:
    critic = Critic(3, 8, 4)
    for weight in critic.parameters():
        torch.nn.init.constant_(weight, 2.0)
    critic.clip()
    matrices = [weight for weight in critic.parameters() if weight.ndim == 2]
    assert len(matrices) == 6
    for matrix in matrices:
        assert torch.equal(matrix, torch.full_like(matrix, 1 / matrix.shape[1]))


@pytest.mark.parametrize(
    ("task", "error", "says"),
    [
        (f"{SMALL},step=0.1", ParameterError, "Steps of 0.1 do not divide the time between observations 0 and 1, 0.15"),
        ("paths:method=gan,transition=euler", ParameterError, "transition has a meaning for method=likelihood alone"),
        ("paths:step=0.1", ParameterError, "step has a meaning for method=gan alone"),
        ("paths:method=vae", ParameterError, "method=vae is not allowed"),
    ],
)
def test_what_cannot_be_trained_is_told(tmp_path: Path, task: str, error: type[SdezooError], says: str) -> None:
    with pytest.raises(error, match=says):
        train(config(tmp_path / "run", task), data=approaching(40, 4))
    assert not list(tmp_path.iterdir())


def test_paths_with_times_of_their_own_are_refused(tmp_path: Path) -> None:
    data = approaching(40, 4)
    assert data.times is not None
    own = Data(data.train, data.test, "paths", times=data.times.expand(40, -1), test_times=data.times.expand(0, -1))
    with pytest.raises(DataError, match="have times of their own"):
        train(config(tmp_path / "run"), data=own)
    assert not list(tmp_path.iterdir())
