"""The bank of problems: data distributions whose score is known exactly at every time.

- `Mixture`: `Σ w_k N(μ_k, diag d_k²)` in the coordinates of an affine process. With `p(z_t) = Σ w_k N(α μ_k + m, α² d_k² + v)`
  the score is `−Σ_k r_k(z) (z − α μ_k − m)/(α² d_k² + v)`, `r` the responsibilities.
- `Atoms`: `Σ w_k δ(x − a_k)` under any process that knows its transition density: the score is `Σ_k r_k(z) ∇ log p(z | a_k)`. If
  the network learns a denoiser, that is `Σ_k r_k(z) a_k`, encoded.

Both reject times outside `t_span`, and count their evaluations.

`Additive` and `Multiplicative` are the reference processes on which losses and samplers are tried: one on the real line
that shrinks the data, one on the positive numbers with a drift. `Hastening` is the first by another clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import ExpTransform, Transform

from sdezoo.learning.model import Model
from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE, Coefficients
from sdezoo.process.bridge import Bridge
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Denoised, Supervised
from sdezoo.process.sde import Stationary


@dataclass(frozen=True)
class Additive(AffineSDE, Stationary):
    """`dX = −X dt + σ dW` on the real line: `α = e^{−t}`, `v = σ² (1 − e^{−2t})/2`. Its stationary distribution is `N(0, σ²/2)`."""

    sigma: Positive = 2.0
    """Volatility `σ`."""
    lo: Positive = 1e-4
    """First time of `t_span`."""

    @property
    def t_span(self) -> tuple[float, float]:
        return self.lo, 1.0

    def coefficients(self, t: Tensor) -> Coefficients:
        return Coefficients(torch.exp(-t), torch.zeros_like(t), -(self.sigma**2) * torch.expm1(-2 * t) / 2)

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return -x, x.new_tensor(self.sigma)

    def stationary_score(self, z: Tensor, t: Tensor) -> Tensor:
        return -2 * z / self.sigma**2

    def reverse_transition(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """The stationary process is reversible: its transition is the same in both directions of time."""
        k = self.at(t - s, z)
        return k.alpha * z + k.sigma * noise.normal(z)


@dataclass(frozen=True)
class Hastening(Additive):
    """`Additive` by a clock that runs faster and faster, `β(t) = (t + t²)/2`: its coefficients depend on the time."""

    def _clock(self, t: Tensor) -> Tensor:
        return (t + t**2) / 2

    def coefficients(self, t: Tensor) -> Coefficients:
        return super().coefficients(self._clock(t))

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        rate = 0.5 + t
        return -rate * x, self.sigma * rate.sqrt()

    def reverse_transition(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        alpha, _, variance = super().coefficients(self._clock(t) - self._clock(s))
        return alpha.to(z) * z + variance.sqrt().to(z) * noise.normal(z)


@dataclass(frozen=True)
class Multiplicative(AffineSDE):
    """`dX = μX dt + σX dW` on the positive numbers: `φ = exp`, `α = 1`, `m = (μ − σ²/2) t`, `v = σ² t`."""

    sigma: Positive = 0.8
    """Volatility `σ`."""
    mu: float = 0.1
    """Drift `μ`."""
    lo: Positive = 1e-4
    """First time of `t_span`."""

    @property
    def t_span(self) -> tuple[float, float]:
        return self.lo, 1.0

    @property
    def coordinates(self) -> Transform:
        return ExpTransform()

    def coefficients(self, t: Tensor) -> Coefficients:
        return Coefficients(torch.ones_like(t), (self.mu - self.sigma**2 / 2) * t, self.sigma**2 * t)

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.mu * x, self.sigma * x


class Mixture(Model[AffineSDE]):
    """The exact score of data `Σ w_k N(μ_k, diag d_k²)` in the coordinates of an affine process.

    Args:
        sde: The process.
        means: `μ`, `(K, d)`.
        deviations: Standard deviations, broadcast to `(K, d)`.
        weights: `(K,)`, summing to 1; None: equal.
    """

    def __init__(self, sde: AffineSDE, means: Tensor, deviations: Tensor | float, weights: Tensor | None = None) -> None:
        self.sde = sde
        self.means = means.double()
        self.deviations = torch.as_tensor(deviations, dtype=torch.float64).expand(means.shape)
        self.weights = torch.full((len(means),), 1 / len(means), dtype=torch.float64) if weights is None else weights.double()
        self.evaluations = 0

    def components(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each component of `p(z_t)`.

        Args:
            z: Sets dtype and device.
            t: Times, 0-dim or `(B, 1)`.

        Returns:
            `(K, d)` each, or `(B, K, d)` for a column of times.
        """
        alpha, shift, variance = (c if c.ndim == 0 else c[:, None] for c in self.sde.at(t, z))
        return alpha * self.means.to(z) + shift, alpha**2 * self.deviations.to(z) ** 2 + variance

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        check_times(self.sde.t_span, t)
        self.evaluations += 1
        mean, variance = self.components(z, t)
        away = z[:, None] - mean
        log_density = self.weights.to(z).log() - 0.5 * (away**2 / variance + variance.log()).sum(-1)
        return -(torch.softmax(log_density, 1)[..., None] * away / variance).sum(1)

    def log_density(self, z: Tensor, t: Tensor) -> Tensor:
        """`log p(z_t)`, `(B,)`; also at `t = 0` if no deviation is 0.

        Args:
            z: States, `(B, d)`.
            t: Times, 0-dim or `(B, 1)`.
        """
        mean, variance = self.components(z, t)
        normal = torch.distributions.Normal(mean, variance.sqrt(), validate_args=False)
        return torch.logsumexp(self.weights.to(z).log() + normal.log_prob(z[:, None]).sum(-1), 1)

    def clean(self, count: int, seed: int = 0) -> Tensor:
        """Sample the clean coordinates, float64 `(count, d)`.

        Args:
            count: Number of samples.
            seed: Of the samples.
        """
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        eps = torch.randn(count, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[chosen] + self.deviations[chosen] * eps

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Exact samples of `p(z_1)`."""
        chosen = choose(self.weights, shape[0], noise, like)
        mean, variance = self.components(like, torch.tensor(self.sde.t_span[1], dtype=torch.float64))
        return mean[chosen] + variance[chosen].sqrt() * noise.normal(like, (shape[0], mean.shape[1]))  # a state may have more entries


_Value = Callable[[Tensor, Tensor, Tensor], Tensor]
_WithDensity = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class Atoms(Model[Supervised]):
    """The exact score, or denoiser, of data on a few points.

    Args:
        sde: The process. It must know its transition density, unless there is a single point.
        points: `a`, `(K, *event)`.
        weights: `(K,)`, summing to 1; None: equal.
    """

    def __init__(self, sde: Supervised, points: Tensor, weights: Tensor | None = None) -> None:
        self.sde, self.points = sde, points
        self.weights = torch.full((len(points),), 1 / len(points), dtype=torch.float64) if weights is None else weights.double()
        self.evaluations = 0

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        if not isinstance(self.sde, Conditional):
            assert isinstance(self.sde, Denoised), "the process has neither a conditional score nor a denoiser"
            return self.sde.score_from_denoiser(self.denoise(z, t), z, t)
        return self._mean(self.sde.score, z, t, self.sde.log_prob_and_score)

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if isinstance(self.sde, AffineSDE):
            return self.sde.denoised(z, t, self.score(z, t))
        assert isinstance(self.sde, Denoised), "the network of this process learns no denoiser"
        return self._mean(self.sde.target, z, t)

    def predict(self, z: Tensor, t: Tensor) -> Tensor:
        """The output of a perfect network: the mean of the process's `target` given `z_t = z`, `(B, *state)`.

        Args:
            z: States, `(B, *state)`.
            t: Times, 0-dim or `(B, 1, …, 1)`.
        """
        return self._mean(self.sde.target, z, t)

    def _mean(self, value: _Value, z: Tensor, t: Tensor, with_density: _WithDensity | None = None) -> Tensor:
        """`E[value(z, x_0, t) | z_t = z]`; `with_density` returns `log_prob` and the value."""
        check_times(self.sde.t_span, t)
        self.evaluations += 1
        points = self._points(z)
        if len(points) == 1:
            return value(z, points[0], t)
        both = with_density or (lambda z, x0, t: (self.sde.log_prob(z, x0, t), value(z, x0, t)))
        densities, values = zip(*(both(z, x0, t) for x0 in points), strict=True)
        shares = torch.softmax(self._with_weights(densities), 1)
        return (shares.reshape(*shares.shape, *(1,) * (z.ndim - 1)) * torch.stack(values, 1)).sum(1)

    def log_density(self, z: Tensor, t: Tensor) -> Tensor:
        """`log p(z_t)`, `(B,)`.

        Args:
            z: States, `(B, *state)`.
            t: Times, 0-dim or `(B, 1, …, 1)`.
        """
        return torch.logsumexp(self._with_weights([self.sde.log_prob(z, x0, t) for x0 in self._points(z)]), 1)

    def _points(self, z: Tensor) -> list[Tensor]:
        """Each point, once for each row of `z`."""
        return [point.to(z).expand(len(z), *point.shape) for point in self.points]

    def _with_weights(self, densities: Sequence[Tensor]) -> Tensor:
        """The logarithms of joint densities, `(B, K)`, from `log_prob` at each point."""
        density = torch.stack([each.reshape(len(each), -1).sum(1) for each in densities], 1)
        return self.weights.to(density).log() + density

    def noised(self, t: Tensor, count: int, noise: Noise) -> Tensor:
        """Sample states at a time.

        Args:
            t: The time.
            count: Number of samples.
            noise: Source of the random numbers.
        """
        return self.sde.perturb(self.clean(count, noise), t, noise)

    def clean(self, count: int, noise: Noise) -> Tensor:
        """Sample the data, `(count, *event)`.

        Args:
            count: Number of samples.
            noise: Source of the random numbers.
        """
        return self.points[choose(self.weights, count, noise, self.points)]

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Exact samples of `p(z_hi)`."""
        x0 = self.points[choose(self.weights, shape[0], noise, like)].to(like)
        return self.sde.perturb(x0, torch.tensor(self.sde.t_span[1], dtype=torch.float64), noise)


class BridgeAtoms(Model[Bridge]):
    """The exact denoiser `E[z_0 | z_t]` of a bridge between two sets of a few points, any of one with any of the other.

    Args:
        sde: The bridge, with two ends.
        points: Data at 0, `(K, *event)`.
        ends: Data at 1, `(L, *event)`.
    """

    def __init__(self, sde: Bridge, points: Tensor, ends: Tensor) -> None:
        self.sde, self.points, self.ends = sde, points, ends
        self.first, self.last = (sde.encode(x, Noise.seeded(0)) for x in (points, ends))
        self.evaluations = 0

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        raise AssertionError("a bridge has no score")

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        check_times(self.sde.t_span, t)
        self.evaluations += 1
        first, last = self.first.to(z), self.last.to(z)
        means = ((1 - t) * first[:, None] + t * last).flatten(0, 1)
        spread = self.sde.rate**2 * t * (1 - t) + 1e-12
        away = ((z[:, None] - means) ** 2).flatten(2).sum(2) / (2 * spread)
        shares = torch.softmax(-away, 1).reshape(len(z), len(first), len(last)).sum(2)
        return torch.einsum("bk,k...->b...", shares.to(z), first)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """States at the last time."""
        return self.last[self._chosen(len(self.last), shape[0], noise, like)].to(like)

    def noised(self, t: Tensor, count: int, noise: Noise) -> Tensor:
        """Sample states at a time.

        Args:
            t: The time.
            count: Number of samples.
            noise: Source of the random numbers.
        """
        like = self.points
        first, last = (end[self._chosen(len(end), count, noise, like)] for end in (self.first, self.last))
        return self.sde.between(first, last, t, noise)

    def _chosen(self, size: int, count: int, noise: Noise, like: Tensor) -> Tensor:
        return choose(torch.full((size,), 1 / size, dtype=torch.float64), count, noise, like)


def check_times(times: tuple[float, float], t: Tensor) -> None:
    """Check that times lie within `t_span`.

    Args:
        times: `t_span`.
        t: The times, any shape.

    Raises:
        AssertionError: A time lies outside.
    """
    lo, hi = times
    # In training, times may be rounded to float32.
    slack = 1e-6 * hi
    assert float(t.min()) >= lo - slack, f"score evaluated at {float(t.min())} < lo = {lo}"
    assert float(t.max()) <= hi + slack, f"score evaluated at {float(t.max())} > hi = {hi}"


def choose(weights: Tensor, count: int, noise: Noise, like: Tensor) -> Tensor:
    """Sample indices with given probabilities.

    Args:
        weights: Probabilities, `(K,)`.
        count: Number of indices.
        noise: Source of the random numbers.
        like: Sets dtype and device of the random numbers.

    Returns:
        int64 `(count,)`.
    """
    ends = weights.cumsum(0).to(like)
    return torch.searchsorted(ends, noise.uniform(like, (count, 1))[:, 0].contiguous()).clamp(max=len(weights) - 1)


def gaussian(sde: AffineSDE, mean: Sequence[float] = (0.5, -0.3), deviation: Sequence[float] = (0.6, 1.1)) -> Mixture:
    """Independent normal coordinates: log-normal data for `x = exp z`.

    Args:
        sde: The process.
        mean: Of each coordinate.
        deviation: Standard deviation of each coordinate.
    """
    return Mixture(sde, torch.tensor([mean]), torch.tensor([deviation]))


def eight(sde: AffineSDE) -> Mixture:
    """Eight equal components in two coordinates, with standard normal centres and standard deviation 0.15."""
    return Mixture(sde, torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), 0.15)
