"""Beta diffusion: multiplicative noise on [0, 1], `z_t | x_0 ~ Beta(η α x_0, η (1 − α x_0))`, without drift, diffusion or normal numbers.

Zhou, Chen, Wang & Zheng, *Beta diffusion*, NeurIPS 2023, arXiv 2309.07867. The mean is `α x_0`, and the variance is
`α x_0 (1 − α x_0)/(η + 1)`. The schedule is `logit α(t) = 10 − 23 t`. At `t = 0` the state is the data; at `t = 1` nearly nothing is left.

Time reversed, the state grows by a share of what it lacks. Given `x_0`, for any `s < t`, exactly::

    z_s = z_t + (1 − z_t) p,      p ~ Beta(η (α_s − α_t) x_0, η (1 − α_s x_0))

`E[x_0 | z_t]` in its place is right as the step vanishes: where `α` is not small, `x_0` given `z_t` is nearly known. The paper takes the
denoiser `D` itself. Here `x_0` is drawn from the Beta distribution with mean `D` and the variance `e²` below, if there is one, so that
longer steps are nearly right too. No state is outside [0, 1] or on its boundary. The step to 0, which is free of noise, ends in `D`.

Both parameters are linear in `x_0`. So the Kullback–Leibler divergence between two such distributions, the one with `D` first, is a
Bregman divergence, and its mean is smallest at `D = E[x_0 | z_t]`. With the other order it is not. `step_divergence` is the published
loss of a step from `t` to `s`, 99 % its divergence, and 1 % that of `z_t` itself.

The network's output `F` moves `D` in units of its error `e` in a normal model with mean `μ` and variance `V` of the column::

    e⁻² = V⁻¹ + α² (η + 1)/v,   c = e² (μ/V + α (η + 1) z/v),   D = sigmoid(logit c + e F/(c (1 − c))),   v = z (1 − z) + 1/(η + 1)

The network sees `2 √η arcsin √z`, in which the noise is the same everywhere, standardized.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import torch
from annotated_types import Ge
from torch import Tensor
from torch.distributions import constraints

from sdezoo.parameters import Positive
from sdezoo.process.noise import Noise
from sdezoo.process.rewindable import Rewindable
from sdezoo.process.standardized import by_column
from sdezoo_plugins.sdes.shared.coalescent import inside

_FIRST, _LAST = 10.0, -13.0
"""`logit α` at times 0 and 1."""
_MARGINAL = 0.01
"""Weight of the divergence of `z_t` itself."""
_SURE = 0.1
"""Least concentration of a Beta distribution of the clean state; below, the variance does not go with the mean."""
_INSIDE = 1e-4
"""In divergences, and around the denoiser of the normal model, values are at least this far from 0 and 1."""

_LEAST, _LARGE = 1e-300, 10.0
"""Least parameter of a Beta distribution, as the data may be 0; arguments of Γ for which Stirling's series has all digits."""


@dataclass(frozen=True)
class Beta(Rewindable):
    """Beta diffusion on [0, 1]: multiplicative noise of a Beta distribution around αx; its prior is nearly 0."""

    papers: ClassVar[tuple[str, ...]] = ("zhou2023beta",)

    concentration: Annotated[float, Ge(10)] = 10_000.0
    """Concentration `η`: the noise has the variance `m (1 − m)/(η + 1)` at the mean `m = α x_0`."""
    mean: tuple[Positive, ...] | None = None
    """Mean `μ`, one number for each column or one for all; None: set from the data."""
    variance: tuple[Positive, ...] | None = None
    """Variance `V`, one number for each column or one for all; None: set from the data."""

    @property
    def support(self) -> constraints.Constraint:
        return constraints.unit_interval

    def own_sampler(self) -> str:
        return "posterior"

    def adapted(self, x0: Tensor) -> Self:
        rows = by_column(x0.double())
        mean = self.mean or tuple(rows.mean(0).clamp(_INSIDE, 1 - _INSIDE).tolist())
        variance = self.variance or tuple(rows.var(0, correction=0).clamp_min(1e-8).tolist())
        return replace(self, mean=mean, variance=variance)

    def kept(self, t: Tensor) -> Tensor:
        """`α(t)`, float64, shaped like `t`."""
        return torch.sigmoid(_FIRST + (_LAST - _FIRST) * t.double())

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        z = self._sampled(x0.double(), self.kept(t), self.kept(t), noise)
        return torch.where(t == 0, x0, inside(z, x0))

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Sample `z_1` of data at the mean `μ`."""
        return self.perturb(self._moments(like)[0].to(like).expand(tuple(shape)), torch.tensor(1.0, dtype=torch.float64), noise)

    def earlier(self, z: Tensor, denoised: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        if s == 0:
            return denoised
        mean = denoised.double()
        sure = mean * (1 - mean) / self._error(z, t)[0] ** 2 - 1  # the concentration, given mean and variance
        clean = torch.where(sure > _SURE, _drawn(sure * mean, sure * (1 - mean), noise), mean)
        share = self._sampled(clean, self.kept(s) - self.kept(t), self.kept(s), noise)
        return inside(z.double() + (1 - z.double()) * share, z)

    def exact_data(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor | None:
        """Independent entries from Beta distributions with the mean and variance of the columns: the error of a long step does not show."""
        mean, variance = self._moments(like)
        sure = (mean * (1 - mean) / variance - 1).clamp_min(_SURE)
        a, b = (share.expand(tuple(shape)) for share in (sure * mean, sure * (1 - mean)))
        return _drawn(a, b, noise).to(like)

    def step_divergence(self, z: Tensor, denoised: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        guess, clean = (_INSIDE + (1 - 2 * _INSIDE) * x.double() for x in (denoised, x0))
        later, earlier = self.kept(t), self.kept(s)
        step, now = self._divergence(guess, clean, earlier - later, earlier), self._divergence(guess, clean, later, later)
        return ((1 - _MARGINAL) * step + _MARGINAL * now).to(z)

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        mean, variance = self._moments(z)
        level, eta = self.kept(t), self.concentration
        signal = eta * level**2 * variance / (level * mean * (1 - level * mean))
        angles = [2 * eta**0.5 * x.clamp(0, 1).sqrt().asin() for x in (z.double(), level * mean)]
        return ((angles[0] - angles[1]) / (1 + signal).sqrt()).to(z)

    def denoiser_from_output(self, out: Tensor, z: Tensor, t: Tensor) -> Tensor:
        mean, variance = self._moments(z)
        error, precision = self._error(z, t)
        centre = (error**2 * (mean / variance + precision * z.double() / self.kept(t))).clamp(_INSIDE, 1 - _INSIDE)
        return torch.sigmoid(torch.logit(centre) + error / (centre * (1 - centre)) * out.double()).to(z)

    def error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        return (1 / self._error(z, t)[0] ** 2).to(z)

    def _error(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """`e`, and the precision `α² (η + 1)/v` of `z/α` as an observation of `x_0`; float64."""
        spread = z.double() * (1 - z.double()) + 1 / (self.concentration + 1)
        precision = self.kept(t) ** 2 * (self.concentration + 1) / spread
        return (1 / self._moments(z)[1] + precision) ** -0.5, precision

    def _sampled(self, x: Tensor, gain: Tensor, lost: Tensor, noise: Noise) -> Tensor:
        """A sample of `Beta(η gain x, η (1 − lost x))`, float64; 0 if `x` is."""
        return _drawn(self.concentration * gain * x, self.concentration * (1 - lost * x), noise)

    def _divergence(self, x: Tensor, y: Tensor, gain: Tensor, lost: Tensor) -> Tensor:
        """Kullback–Leibler divergence of `Beta(η gain x, η (1 − lost x))` from that of `y`."""
        eta, change = self.concentration, y - x
        parts = ((eta * gain * x, eta * gain * change), (eta * (1 - lost * x), -eta * lost * change))
        whole = (parts[0][0] + parts[1][0], eta * (gain - lost) * change)
        first, second, both = (_log_gamma_ratio(start, add) - add * torch.digamma(start) for start, add in (*parts, whole))
        return first + second - both

    def _moments(self, z: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.mean or (0.5,), self.variance or (1 / 12,)
        mean, variance = (torch.tensor(row, dtype=torch.float64, device=z.device) for row in rows)
        return mean, variance


def _drawn(a: Tensor, b: Tensor, noise: Noise) -> Tensor:
    """A sample of `Beta(a, b)`."""
    first, second = (noise.gamma(shape.clamp_min(_LEAST).contiguous()) for shape in torch.broadcast_tensors(a, b))
    return first / (first + second)


def _log_gamma_ratio(x: Tensor, change: Tensor) -> Tensor:
    """`log Γ(x + change)/Γ(x)`; for large arguments by the difference of Stirling's series, which keeps the digits of a small change."""
    y = x + change
    near, far = x.clamp_min(_LARGE), y.clamp_min(_LARGE)
    series = (far - 0.5) * torch.log1p(change / near) + change * (near.log() - 1) + _tail(far) - _tail(near)
    return torch.where((x >= _LARGE) & (y >= _LARGE), series, torch.lgamma(y) - torch.lgamma(x))


def _tail(x: Tensor) -> Tensor:
    return 1 / (12 * x) - 1 / (360 * x**3) + 1 / (1260 * x**5) - 1 / (1680 * x**7)
