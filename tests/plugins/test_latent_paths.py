"""The task `latent-paths`: its bound is the likelihood where the guess is exact; hidden velocities are found; runs survive a kill."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from sdezoo import SDES
from sdezoo.data.dataset import Data
from sdezoo.errors import CompositionError, DataError, ParameterError, SdezooError
from sdezoo.learning.paths.latent import HiddenSDE, LatentModel, Push, Reader
from sdezoo.process.torchsde_bridge import KeyedIntervals
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from tests.interrupting import assert_same_tensors, train_killed

SMALL = "latent-paths:width=8,depth=1,hidden=4,size=2"
RATE, ERROR = 0.8, 0.6  # of an Ornstein–Uhlenbeck process of variance 1, and of what is seen of it


class Both(Reader):
    """Knows two observations at distance 1 of an Ornstein–Uhlenbeck process of variance 1."""

    def __init__(self) -> None:
        super().__init__(1, 1, 1)

    def forward(self, u: Tensor, gaps: Tensor) -> Tensor:
        return u.flatten(1)[:, None].expand(-1, 2, -1)

    def first(self, known: Tensor) -> MultivariateNormal:
        slope, variance = ahead(1.0)
        precision = 1 + 1 / ERROR**2 + slope**2 / variance
        mean = (known[:, :1] / ERROR**2 + known[:, 1:] * slope / variance) / precision
        return MultivariateNormal(mean, scale_tril=torch.tensor([[precision**-0.5]], dtype=torch.float64).expand(len(known), 1, 1))


class Doob(Push):
    """The noise times the slope of the log-probability of what is observed later, over `√ρ`."""

    def __init__(self) -> None:
        super().__init__(1, 2, width=0, depth=0)

    def forward(self, v: Tensor, known: Tensor, left: Tensor) -> Tensor:
        slope, variance = ahead(float(left))
        return math.sqrt(2) * slope / variance * (known[:, 1:] - slope * v)


def ahead(left: float) -> tuple[float, float]:
    """By which factor a state acts on an observation after a time `left`, and the variance of the observation given it."""
    slope = math.exp(-RATE * left)
    return slope, 1 - slope**2 + ERROR**2


def bounds(reader: Reader, push: Push, steps: int) -> tuple[Tensor, Tensor]:
    """Draws of the bound of one path, and its exact log-likelihood."""
    sde = HiddenSDE(1, width=0, depth=0, linear=True, constant=True, autonomous=True)
    model = LatentModel(1, sde, reader, push, torch.tensor([0.0, 1.0]), positive=False).double()
    model.rate.fill_(RATE)
    for weight in sde.drift.parameters():
        torch.nn.init.zeros_(weight)
    torch.nn.init.constant_(model.errors, math.log(math.exp(ERROR) - 1))
    n, u = 4000, torch.tensor([0.7, 1.3], dtype=torch.float64)
    z = u[None, :, None].expand(n, -1, -1)
    e = torch.randn(n, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        found = model.evidence(z, torch.tensor([0, steps]), e, KeyedIntervals(5, range(n), e))
    slope = math.exp(-RATE)
    covariance = torch.tensor([[1.0, slope], [slope, 1.0]], dtype=torch.float64) + ERROR**2 * torch.eye(2)
    return found, MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance).log_prob(u)


def test_the_bound_is_the_likelihood_where_the_guess_is_exact() -> None:
    found, exact = bounds(Both(), Doob(), 64)
    assert abs(float(found.mean() - exact)) < 4 * float(found.std()) / len(found) ** 0.5


def test_a_blind_guess_stays_below_the_likelihood() -> None:
    """Without an observation the mean is `E[log p(u | v)]`, known for a normal distribution of variance 1."""
    found, exact = bounds(Reader(1, 1, 4), Push(1, 5, width=0, depth=0), 8)
    u = torch.tensor([0.7, 1.3], dtype=torch.float64)
    known = float((-((u**2 + 1) / ERROR**2) / 2 - math.log(ERROR) - math.log(2 * math.pi) / 2).sum())
    assert abs(float(found.mean()) - known) < 4 * float(found.std()) / len(found) ** 0.5 + 0.05  # Heun's steps: variance 1 + O(h²)
    assert known < exact - 1


def test_gradients_reach_what_reads_the_path() -> None:
    """Of all weights, the adjoint has the gradients of back-propagation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        form: Any = {"width": 8, "depth": 1}
        sde = HiddenSDE(2, linear=False, constant=False, autonomous=False, **form)
        model = LatentModel(1, sde, Reader(1, 2, 4), Push(2, 5, **form), torch.arange(4.0), positive=False).double()
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        z, e = torch.randn(5, 4, 1).double(), torch.randn(5, 2).double()
    model.horizon.fill_(3.0)
    found = []
    for adjoint in (True, False):
        bound = model.evidence(z, torch.tensor([0, 2, 4, 6]), e, KeyedIntervals(1, range(5), e), adjoint=adjoint)
        found.append(torch.autograd.grad(bound.sum(), [*model.parameters()]))
    names = [name for name, _ in model.named_parameters()]
    for name, one, other in zip(names, *found, strict=True):
        assert float(other.abs().max()) > 0, name
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12, msg=name)


W, G, STEP = 2.0, 0.5, 0.4


def oscillator(n: int = 300, length: int = 6, error: float = 0.2) -> tuple[Data, Tensor]:
    """Positions of a stationary damped oscillator, `x'' = −4 x − ½ x' + noise`, seen with errors; and their covariance."""
    rates = torch.tensor([[0.0, 1.0], [-W * W, -G]], dtype=torch.float64)
    spread = torch.tensor([1.0, W * W], dtype=torch.float64)
    lags = [float((torch.linalg.matrix_exp(rates * STEP * k) * spread)[0, 0]) for k in range(length)]
    index = torch.arange(length)
    covariance = torch.tensor(lags, dtype=torch.float64)[(index[:, None] - index).abs()] + error**2 * torch.eye(length)
    e = torch.randn(n, length, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x = (5 + 3 * e @ torch.linalg.cholesky(covariance).T)[..., None].float()
    cut = n // 10
    return Data(x[cut:], x[:cut], "paths", columns=("position",), times=STEP * index.double() + 7), covariance


def config(run: Path, task: str = SMALL, **values: Any) -> TrainingConfig:
    return TrainingConfig.build({"task": task, "out": str(run), "steps": 3, "batch_size": 20, **values})


def test_a_hidden_velocity_is_found(tmp_path: Path) -> None:
    """New paths swing back as the data do: in a Markov chain of the positions, the second covariance would be 0.49 in place of 0.09."""
    (data, covariance), run = oscillator(), tmp_path / "run"
    task = "latent-paths:drift=linear,diffusion=constant,width=16,hidden=8,step=0.2"
    result = train(config(run, task, steps=250, batch_size=100, lr=0.03, ema_half_life_images=2000), data=data)
    normal = MultivariateNormal(torch.zeros(len(covariance), dtype=torch.float64), covariance)
    spread = float(data.train.double().std()) / 3
    likelihood = -float(normal.log_prob((data.test[..., 0].double() - 5) / 3).mean()) / len(covariance) - math.log(spread)
    assert result.validation_loss is not None
    assert likelihood < result.validation_loss < 1.15
    sample(run, tmp_path / "new.npz", n=4000)
    with np.load(tmp_path / "new.npz") as file:
        x = (file["x"][..., 0] - 5) / 3
        assert np.allclose(file["times"], data.times)
    assert np.abs(np.cov(x.T)[0] - covariance[0].numpy()).max() < 0.2


def test_whole_paths_are_evaluated_and_no_transitions(tmp_path: Path) -> None:
    data, _ = oscillator(100, 4)
    np.savez(tmp_path / "paths.npz", x=data.train.numpy(), times=np.asarray(data.times))
    train(config(tmp_path / "run", data=f"array:path={tmp_path}/paths.npz,holdout=0.4"))
    found = evaluate(tmp_path / "run", n=30)
    assert "transitions" not in found.facts
    assert {line.group for line in found.measured} >= {"whole paths, in standard deviations", "increments"}
    assert "forecast" not in found.text


def test_a_run_survives_a_kill_and_its_rows_are_keyed(tmp_path: Path) -> None:
    (data, _), settings = oscillator(60, 4), {"steps": 6, "checkpoint_every": 2}
    train(config(tmp_path / "whole", **settings), data=data)
    train_killed(config(tmp_path / "cut", **settings), 5, data)
    train(config(tmp_path / "cut", **settings), data=data, resume=True)
    assert_same_tensors(tmp_path / "cut", tmp_path / "whole", 6)
    made = sample(tmp_path / "cut", tmp_path / "x.npz", n=10)
    assert made is not None
    assert made.steps == 4, "as in training"
    sample(tmp_path / "cut", tmp_path / "y.npz", n=4, batch_size=3)
    with np.load(tmp_path / "x.npz") as ten, np.load(tmp_path / "y.npz") as four:
        assert ten["x"].shape == (10, 4, 1)
        assert np.array_equal(ten["x"][:4], four["x"])


def test_positive_paths_stay_positive_and_are_refused_elsewhere(tmp_path: Path) -> None:
    data, _ = oscillator(60, 4)
    data = replace(data, train=(data.train - 20).div(4).exp(), test=(data.test - 20).div(4).exp())
    run = tmp_path / "run"
    train(config(run, f"{SMALL},coordinates=exp,autonomous=false"), data=data)
    sample(run, tmp_path / "new.npz", n=200)
    with np.load(tmp_path / "new.npz") as file:
        assert (file["x"] > 0).all()
        np.savez(tmp_path / "starts.npz", x=file["x"][:, 0])
    with pytest.raises(CompositionError, match="does not tell the hidden state"):
        sample(run, tmp_path / "on.npz", start=tmp_path / "starts.npz")
    assert not (tmp_path / "on.npz").exists()
    with pytest.raises(CompositionError, match="has learned no SDE of its data alone"):
        SDES.build(f"fitted:run={run}")


def own_times(data: Data) -> Data:
    assert data.times is not None
    shape = (len(data.train), len(data.times))
    return replace(data, times=data.times.expand(*shape), test_times=data.times.expand(len(data.test), -1))


@pytest.mark.parametrize(
    ("task", "change", "error", "says"),
    [
        (f"{SMALL},step=0.15", None, ParameterError, "Steps of 0.15 do not divide the time between observations 0 and 1, 0.4"),
        ("latent-paths:size=0", None, ParameterError, "size=0"),
        (f"{SMALL},coordinates=exp", None, DataError, "have no logarithm"),
        (SMALL, own_times, DataError, "have times of their own"),
        (SMALL, lambda data: replace(data, train=data.train[:, :1].expand(-1, 4, -1)), DataError, "'position' never changes"),
    ],
)
def test_what_cannot_be_trained_is_told(tmp_path: Path, task: str, change: Any, error: type[SdezooError], says: str) -> None:
    data, _ = oscillator(60, 4)
    with pytest.raises(error, match=says):
        train(config(tmp_path / "run", task), data=change(data) if change else data)
    assert not list(tmp_path.iterdir())
