"""Problems with known answers: exact scores of Gaussian mixtures, on every affine process that is registered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import KeyedNoise, Noise
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SAMPLERS, SDES

VARIANTS = ["gbm:sigma=0.8", "gbm:sigma=0.8,mu=0.1", "gbm:sigma=0.1,sigma_end=2"]
AFFINE_SPECS = [name for name, sde in defaults(SDES) if isinstance(sde, AffineSDE)] + VARIANTS
POSITIVE_SPECS = [spec for spec in AFFINE_SPECS if SDES.build(spec).multiplicative]
SAMPLER_SPECS = [name for name, _ in defaults(SAMPLERS)]

SIGMAS = 4.5
"""How many standard errors a measured moment may be off: 7e-6 of all correct runs would be flagged."""


class Mixture(Model[AffineSDE]):
    """The exact score of `Σ w_k N(μ_k, diag d_k²)` in coordinates, at every time.

    `p(z_t) = Σ w_k N(α μ_k + m, α² d_k² + v)`, hence `∇ log p = −Σ_k r_k(z) (z − α μ_k − m)/(α² d_k² + v)` with responsibilities `r`.
    Counts its evaluations, and refuses times outside those of the process.

    Args:
        sde: the process.
        means: `μ`, `(K, d)`.
        deviations: standard deviations, broadcast to `(K, d)`.
        weights: `(K,)`, summing to one; default: equal.
    """

    def __init__(self, sde: AffineSDE, means: Tensor, deviations: Tensor | float, weights: Tensor | None = None) -> None:
        self.sde = sde
        self.means = means.double()
        self.deviations = torch.as_tensor(deviations, dtype=torch.float64).expand(means.shape)
        self.weights = torch.full((len(means),), 1 / len(means), dtype=torch.float64) if weights is None else weights.double()
        self.evaluations = 0

    def components(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each component at `t`, `(K, d)` or `(B, K, d)`, in the dtype of `z`."""
        alpha, shift, variance = (c if c.ndim == 0 else c[:, None] for c in self.sde.at(t, z))
        return alpha * self.means.to(z) + shift, alpha**2 * self.deviations.to(z) ** 2 + variance

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        lo, hi = self.sde.times
        assert float(t.min()) >= lo, f"score asked for at {float(t.min())} < lo = {lo}"
        assert float(t.max()) <= hi, f"score asked for at {float(t.max())} > hi = {hi}"
        self.evaluations += 1
        mean, variance = self.components(z, t)
        away = z[:, None] - mean
        log_density = self.weights.to(z).log() - 0.5 * (away**2 / variance + variance.log()).sum(-1)
        return -(torch.softmax(log_density, 1)[..., None] * away / variance).sum(1)

    def clean(self, count: int, seed: int = 0) -> Tensor:
        """A draw of the clean coordinates, float64 `(count, d)`."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        eps = torch.randn(count, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[chosen] + self.deviations[chosen] * eps

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """An exact draw of `p(z_1)`."""
        ends = self.weights.cumsum(0).to(like)
        chosen = torch.searchsorted(ends, noise.uniform(like, (shape[0], 1))[:, 0]).clamp(max=len(self.weights) - 1)
        mean, variance = self.components(like, torch.tensor(self.sde.times[1], dtype=torch.float64))
        return mean[chosen] + variance[chosen].sqrt() * noise.normal(like, shape)


class Still(Noise):
    """Noise that is a constant where normal numbers are asked for; for reading off means and standard deviations of a step."""

    def __init__(self, value: float | Tensor) -> None:
        self.value = value

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return torch.zeros(tuple(like.shape if shape is None else shape), dtype=like.dtype) + self.value


class Forbidden(Noise):
    """Noise that nobody may ask for."""

    def __init__(self) -> None:
        pass

    def draw(self, fn: Any, *tensors: Tensor) -> Tensor:
        raise AssertionError("noise was drawn in a step that must be free of it")

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return self.draw(None)


def gaussian(sde: AffineSDE, mean: Sequence[float] = (0.5, -0.3), deviation: Sequence[float] = (0.6, 1.1)) -> Mixture:
    """Independent normal coordinates: log-normal data for `x = exp z`."""
    return Mixture(sde, torch.tensor([mean]), torch.tensor([deviation]))


def seeds_mixture(sde: AffineSDE) -> Mixture:
    """A 2-D mixture: 8 equal components in coordinates, standard normal centres, standard deviation 0.15."""
    return Mixture(sde, torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), 0.15)


def coordinates(count: int, size: int, seed: int = 0) -> Tensor:
    """Clean coordinates to try things on, float64 `(count, size)`."""
    return 0.2 + 0.7 * torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def times(sde: AffineSDE, count: int) -> Tensor:
    """Times from `lo` to `hi`, float64 `(count, 1)`."""
    return torch.linspace(*sde.times, count, dtype=torch.float64)[:, None]


def at(t: float) -> Tensor:
    """A time as samplers give it: 0-dim float64."""
    return torch.tensor(t, dtype=torch.float64)


def keyed(count: int, seed: int = 0, first: int = 0) -> KeyedNoise:
    """Noise for rows `first`, `first + 1`, …"""
    return KeyedNoise(seed, range(first, first + count))


def assert_moments(z: Tensor, mean: Tensor, deviation: Tensor, bias: float = 0.0) -> None:
    """Sample mean and standard deviation of `z` `(N, d)` agree with those of a normal law, up to sampling error and `bias` deviations."""
    count = len(z)
    off = ((z.double().mean(0) - mean).abs() / deviation).max()
    spread = (z.double().std(0) / deviation - 1).abs().max()
    assert off <= SIGMAS / math.sqrt(count) + bias, f"mean is off by {off:.3f} standard deviations"
    assert spread <= SIGMAS / math.sqrt(2 * count) + bias, f"standard deviation is off by {spread:.1%}"


def sliced_w1(sample: Tensor, data: Tensor, directions: int = 32) -> float:
    """Sliced Wasserstein-1 distance in the plane, averaged over evenly spaced directions; `data` may be a multiple as large as `sample`."""
    angle = torch.arange(directions, dtype=sample.dtype) * math.pi / directions
    axes = torch.stack([angle.cos(), angle.sin()])
    quantiles = torch.sort(data @ axes, 0)[0].reshape(len(sample), -1, directions).mean(1)
    return float((torch.sort(sample @ axes, 0)[0] - quantiles).abs().mean())
