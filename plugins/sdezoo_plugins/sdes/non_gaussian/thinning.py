"""Thinning of counts: each of the `x_0` items is kept with probability `α(t)`, `z_t | x_0 ~ Binomial(x_0, α)`.

Chen & Zhou, *Learning to jump: thinning and thickening latent counts for generative modeling*, arXiv 2305.18375. There, the latent counts
are Poisson with mean `λ α x_0`, for data that need not be whole. Here the data are counts themselves, and items are removed from them: the
state at `t = 0` is the data. `α(t) = cos²(πt/2)`: in the angle of a binomial proportion, time runs evenly. At `t = 1` nothing is left, and
sampling starts at 0.

Time reversed, items are born. Given `z_t` and `x_0`, a short time adds an item with intensity `(x_0 − z_t) |α'|/(1 − α)`, which is linear
in `x_0`: with the denoiser `D = E[x_0 | z_t]` in its place the reverse process is exact (Campbell et al., arXiv 2205.14987, for Markov
chains in general). A step from `t` to `s` draws the number of missing items, and how many of them are born::

    z_s − z_t ~ Binomial(n, (α_s − α_t)/(1 − α_t)),      E[n | z_t] = D − z_t

With the mean `μ` of the column and the variance `V` of the negative binomial that fits it best, `n` is a negative binomial of shape `z_t +
μ²/(V − μ)` if `V > μ`: that is exact for any step if the column is a negative binomial too, a Poisson count of Gamma-distributed mean.
Otherwise it is `D − z_t`, rounded up or down at random, and no state exceeds the data. Counts stay whole numbers at every step. At the
first time of `t_span` 6 of 100 000 items are missing, and the step to 0, which is free of noise, ends in the whole number nearest to `D`.

The divergence of the births of a step by `x_0` from those by `D` is that of Poisson numbers, `b (m log(m/n) − m + n)` with `m = x_0 − z`,
`n = D − z` and the share `b` of a missing item that is born. For short steps its sum is the evidence bound.

The network's output `F` multiplies the births of that model::

    D = z + (1 − α) (μ² + z (V − μ)₊)/(μ + α (V − μ)₊) · softplus(F + ln(e − 1))

so that `D` is exact for `F = 0` if the column is a negative binomial and independent of the others. It is never below `z`. Errors are
weighed by the inverse of the variance of `x_0 − z_t` in that model. The network sees `2√z`, standardized.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

from sdezoo.parameters import Positive
from sdezoo.process.noise import Noise
from sdezoo.process.rewindable import Rewindable
from sdezoo.process.standardized import by_column

_ONE = math.log(math.e - 1)
_BACKGROUND = 1e-3
"""Items that are always missing, in divergences: those of nothing from little are finite."""


@dataclass(frozen=True)
class Thinning(Rewindable):
    """Thinning: items of a count are removed one by one; counts stay whole numbers at every step, zeros included."""

    papers: ClassVar[tuple[str, ...]] = ("chen2023learning",)

    mean: tuple[Positive, ...] | None = None
    """Mean `μ`, one number for each column or one for all; None: set from the data."""
    variance: tuple[Positive, ...] | None = None
    """Variance `V`, one number for each column or one for all; None: that of the most likely negative binomial, which keeps the share of
    zeros of a column with few large counts."""

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative_integer

    @property
    def t_span(self) -> tuple[float, float]:
        return 0.005, 1.0

    def own_sampler(self) -> str:
        return "posterior"

    def adapted(self, x0: Tensor) -> Self:
        rows = by_column(x0.double())
        mean = self.mean or tuple(torch.where(rows.mean(0) > 0, rows.mean(0), 1.0).tolist())
        variance = self.variance or tuple(map(_likeliest_variance, rows.unbind(1), mean))
        return replace(self, mean=mean, variance=variance)

    def kept(self, t: Tensor) -> Tensor:
        """`α(t) = cos²(πt/2)`, the probability that an item is kept; float64, shaped like `t`."""
        return torch.cos(t.double() * math.pi / 2) ** 2

    def lost(self, t: Tensor) -> Tensor:
        """`1 − α(t)`, float64, shaped like `t`."""
        return torch.sin(t.double() * math.pi / 2) ** 2

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        kept = self.kept(t).expand_as(x0)
        return noise.draw(torch.binomial, x0.double(), kept).to(x0)

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """Log-probability of the counts `z`, shaped like them."""
        x0, z, like = x0.double().expand_as(z), z.double(), z
        ways = torch.lgamma(x0 + 1) - torch.lgamma(z + 1) - torch.lgamma((x0 - z).clamp_min(0) + 1)
        found = ways + torch.special.xlogy(z, self.kept(t)) + torch.special.xlogy(x0 - z, self.lost(t))
        return torch.where((z >= 0) & (z <= x0), found, -math.inf).to(like)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return like.new_zeros(tuple(shape))

    def earlier(self, z: Tensor, denoised: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        if s == 0:
            return denoised.round()
        mean, variance = self._moments(z)
        excess, missing = (variance - mean).clamp_min(0), (denoised - z).double().clamp_min(0)
        shape = torch.where(excess > 0, z.double() + mean**2 / excess.clamp_min(1e-12), 1.0)
        varied = noise.draw(torch.poisson, missing * noise.gamma(shape) / shape)
        missing = torch.where(excess > 0, varied, (missing + noise.uniform(missing)).floor())
        return z + noise.draw(torch.binomial, missing, (1 - self.lost(s) / self.lost(t)).expand_as(missing)).to(z)

    def exact_data(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor | None:
        """Independent negative binomial counts with the mean and variance of the columns, if `V > μ`."""
        mean, variance = self._moments(like)
        if not (variance > mean).all():
            return None
        size = (mean**2 / (variance - mean)).expand(tuple(shape)).contiguous()
        return noise.draw(torch.poisson, mean * noise.gamma(size) / size).to(like)

    def step_divergence(self, z: Tensor, denoised: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        share = 1 - self.lost(s) / self.lost(t)
        guess, clean = ((x - z).double() + _BACKGROUND for x in (denoised, x0))
        least = guess.clamp_min(_BACKGROUND / 2)
        beyond = 2 * (least - guess)  # no network gives a denoiser below z; one that did would pay for it
        return (share * (clean * (clean.log() - least.log()) - clean + least + beyond)).to(z)

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        mean, variance = self._moments(z)
        kept, lost = self.kept(t), self.lost(t)
        spread = (kept * variance / mean + lost).sqrt()
        return ((2 * (z.double() + 0.375).sqrt() - 2 * (kept * mean + 0.375).sqrt()) / spread).to(z)

    def denoiser_from_output(self, out: Tensor, z: Tensor, t: Tensor) -> Tensor:
        return z + self._births(z, t).to(z) * softplus(out + _ONE)

    def error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        mean, variance = self._moments(z)
        births = self._births(z, t)
        shape = z.double() + mean**2 / (variance - mean).clamp_min(1e-3 * mean)
        return (1 / (births + births**2 / shape)).to(z)

    def _births(self, z: Tensor, t: Tensor) -> Tensor:
        """`E[x_0 − z | z_t = z]` of the negative binomial, float64."""
        mean, variance = self._moments(z)
        excess, lost = (variance - mean).clamp_min(0), self.lost(t)
        return lost * (mean**2 + z.double() * excess) / (mean + self.kept(t) * excess)

    def _moments(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.mean or (1.0,)
        return _row(mean, z), _row(self.variance or mean, z)


def _likeliest_variance(counts: Tensor, mean: float) -> float:
    """Variance `μ + μ²/r` of the negative binomial of mean `μ` that makes counts `(N,)` most likely; their own if it is below `μ`.

    The log-likelihood has the slope `mean ψ(x + r) − ψ(r) − ln(1 + μ/r)` in the shape `r` if `μ` is the mean of the counts. It falls
    through 0 once if they vary more than Poisson counts (Anscombe, Biometrika 37 (1950)).
    """
    if (own := float(counts.var(correction=0))) <= mean:
        return max(own, 1e-3)
    values, rows = counts.unique(return_counts=True)  # the same for every order of rows
    low, high = torch.tensor([1e-6, 1e9], dtype=torch.float64, device=counts.device).log()
    for _ in range(60):
        middle = (low + high) / 2
        shape = middle.exp()
        slope = (torch.digamma(values + shape) * rows).sum() / rows.sum() - torch.digamma(shape) - torch.log1p(mean / shape)
        low, high = torch.where(slope > 0, middle, low), torch.where(slope > 0, high, middle)
    return mean + mean**2 / float(low.exp())


def _row(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=like.device)
