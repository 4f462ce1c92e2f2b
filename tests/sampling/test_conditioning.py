"""Samples given some entries follow the known conditional distribution, where the score is exact."""

import math
from collections.abc import Sequence

import pytest
import torch
from scipy import stats
from torch import Tensor

from sdezoo.errors import CompositionError, RunError
from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.conditioning import ParticleFilter
from sdezoo.zoo.registry import SDES

COPULA = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.5, -0.2], [0.3, -0.2, 0.7]], dtype=torch.float64)
BOTH = torch.tensor([[[0.3, 0.25, 0.0], [0.25, 0.3, 0.0], [0.0, 0.0, 1.0]], [[0.2, -0.1, 0.1], [-0.1, 0.3, 0.2], [0.1, 0.2, 0.4]]])


class Mixture(Model[AffineSDE]):
    """The exact denoiser of `Σ w_k N(μ_k, Σ_k)` in coordinates."""

    def __init__(self, sde: AffineSDE, means: Sequence[Sequence[float]], covariances: Tensor, weights: Sequence[float] = (1.0,)) -> None:
        self.sde, self.covariances = sde, covariances.double()
        self.means, self.weights = torch.tensor(means, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        k = self.sde.exact(t)
        total = k.alpha**2 * self.covariances + k.variance * torch.eye(len(COPULA))
        away = z.double()[:, None] - k.alpha * self.means - k.shift
        solved = torch.einsum("kij,bkj->bki", total.inverse(), away)
        shares = torch.softmax(self.weights.log() - (away * solved).sum(-1) / 2 - torch.logdet(total) / 2, 1)
        means = self.means + k.alpha * torch.einsum("kij,bkj->bki", self.covariances, solved)
        return (shares[..., None] * means).sum(1).to(z)

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        k = self.sde.at(t, z)
        return (k.alpha * self.denoise(z, t) + k.shift - z) / k.variance

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        k = self.sde.exact(torch.tensor(self.sde.t_span[1], dtype=torch.float64))
        chosen = (noise.uniform(like, (shape[0], 1)).double() > self.weights.cumsum(0)).sum(1).clamp_max(len(self.weights) - 1)
        roots = torch.linalg.cholesky(k.alpha**2 * self.covariances + k.variance * torch.eye(len(COPULA)))
        deviation = torch.einsum("bij,bj->bi", roots[chosen], noise.normal(like, shape).double())
        return (k.alpha * self.means[chosen] + k.shift + deviation).to(like)

    def clean(self, count: int, seed: int = 0) -> Tensor:
        """Clean coordinates, float64 `(count, 3)`."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        normal = torch.randn(count, len(COPULA), generator=generator, dtype=torch.float64)
        return self.means[chosen] + torch.einsum("bij,bj->bi", torch.linalg.cholesky(self.covariances)[chosen], normal)

    def rank(self, z: Tensor, entry: int, given: Tensor) -> Tensor:
        """`P(Z_entry ≤ z_entry | Z_given = z_given)`, `(B,)`: uniform if the samples are right."""
        seen = self.covariances[:, given][:, :, given]
        away = z[:, None, given] - self.means[:, given]
        solved = torch.einsum("kij,bkj->bki", seen.inverse(), away)
        shares = torch.softmax(self.weights.log() - (away * solved).sum(-1) / 2 - torch.logdet(seen) / 2, 1)
        cross = self.covariances[:, entry][:, given]
        mean = self.means[:, entry] + (cross * solved).sum(-1)
        variance = self.covariances[:, entry, entry] - torch.einsum("ki,kij,kj->k", cross, seen.inverse(), cross)
        return (shares * torch.special.ndtr((z[:, entry, None] - mean) / variance.sqrt())).sum(1)


def affine(spec: str) -> AffineSDE:
    sde = SDES.build(spec)
    assert isinstance(sde, AffineSDE)
    return sde


def lognormal() -> Mixture:
    return Mixture(affine("gbm:sigma=0.3,sigma_end=6"), [[0.2, -0.1, 0.4]], COPULA[None])


def bimodal() -> Mixture:
    return Mixture(affine("vp"), [[-0.8, 0.9, 0.0], [1.2, -0.9, 0.3]], BOTH, (0.6, 0.4))


def filtered(model: Mixture, particles: int) -> ParticleFilter:
    return ParticleFilter(model.sde, torch.cov(model.clean(4000, 1).T), particles)


@pytest.mark.parametrize("given", [[1], [0, 2]])
def test_ranks_are_uniform_on_a_gaussian_copula(given: list[int]) -> None:
    model, count = lognormal(), 800
    z = model.clean(count)
    mask = torch.zeros(count, 3, dtype=torch.bool)
    mask[:, given] = True
    exact = ParticleFilter(model.sde, COPULA, 24)
    drawn = exact.sample(lambda _: model, model.sde.decode(z), mask, 8, 0, range(count), like=torch.empty((), dtype=torch.float64))
    assert drawn.effective.mean() > 0.75 * 24  # with normal coordinates only the first weights differ
    assert (drawn.x > 0).all()
    found = model.sde.encode(drawn.x)
    torch.testing.assert_close(found[mask], z[mask])
    for entry in sorted({0, 1, 2} - set(given)):
        assert stats.kstest(model.rank(found, entry, torch.tensor(given)).numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("given", [[1], [0, 1]])
def test_ranks_are_uniform_on_two_modes(given: list[int]) -> None:
    model, count = bimodal(), 600
    z = model.clean(count)
    mask = torch.zeros(count, 3, dtype=torch.bool)
    mask[:, given] = True
    found = filtered(model, 64).sample(lambda _: model, z, mask, 50, 0, range(count)).x.double()
    for entry in sorted({0, 1, 2} - set(given)):
        assert stats.kstest(model.rank(found, entry, torch.tensor(given)).numpy(), "uniform").pvalue > 0.01


def test_patterns_differ_by_row_and_a_sample_depends_on_its_own_row_alone() -> None:
    model = lognormal()
    x = model.sde.decode(model.clean(6)).float()
    mask = torch.tensor([[True, False, False], [False, True, True], [False, False, False]]).repeat(2, 1)
    one = filtered(model, 8)
    whole = one.sample(lambda _: model, x, mask, 6, 3, range(6))
    part = [4, 1]
    again = one.sample(lambda _: model, x[part], mask[part], 6, 3, part)
    torch.testing.assert_close(again.x, whole.x[part], rtol=1e-4, atol=1e-5)
    assert not torch.equal(one.sample(lambda _: model, x, mask, 6, 4, range(6)).x, whole.x)


def test_with_nothing_given_samples_follow_the_model() -> None:
    model, count = lognormal(), 1500
    mask = torch.zeros(count, 3, dtype=torch.bool)
    drawn = filtered(model, 2).sample(lambda _: model, torch.ones(count, 3), mask, 8, 0, range(count))
    assert torch.equal(drawn.effective, torch.full((count,), 2.0, dtype=torch.float64))
    z = (model.sde.encode(drawn.x.double()) - model.means) / COPULA.diagonal().sqrt()
    for entry in range(3):
        assert stats.kstest(z[:, entry].numpy(), "norm").pvalue > 0.01
    assert abs(float(torch.corrcoef(z.T)[0, 1]) - 0.8 / math.sqrt(1.5)) < 0.05


def test_values_that_are_not_finite_are_refused() -> None:
    model = lognormal()
    mask = torch.tensor([[True, False, False]])
    broken = ParticleFilter(model.sde, COPULA * math.inf, 4)
    with pytest.raises(RunError, match="not finite"):
        broken.sample(lambda _: model, torch.ones(1, 3), mask, 4, 0, range(1))


def test_samples_are_drawn_among_accepted_particles() -> None:
    model = lognormal()
    x = model.sde.decode(model.clean(50)).float()
    mask = torch.tensor([True, False, False]).expand(50, 3)
    drawn = filtered(model, 16).sample(lambda _: model, x, mask, 6, 0, range(50), accept=lambda y: y[:, 1] < 1)
    assert (drawn.x[drawn.found, 1] < 1).all()
    none = filtered(model, 16).sample(lambda _: model, x, mask, 6, 0, range(50), accept=lambda y: y[:, 1] < 0)
    assert not none.found.any()


def test_a_process_that_is_not_affine_is_refused() -> None:
    with pytest.raises(CompositionError, match="affine"):
        ParticleFilter(SDES.build("cir"), torch.eye(2))  # pyright: ignore[reportArgumentType]
