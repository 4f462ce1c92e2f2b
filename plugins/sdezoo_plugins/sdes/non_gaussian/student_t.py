"""Noise with a heavy tail: `z_t = x_0 + σ(t) e` with Student-t `e` instead of normal noise.

Pandey et al., arXiv 2410.14171. `e = ε/√κ`, with `ε ~ N(0, I)` and one `κ ~ χ²_ν/ν` for all entries of a sample, is multivariate
Student-t::

    p(e) ∝ (1 + ‖e‖²/ν)^{−(ν + d)/2},      Var e_i = ν/(ν − 2),      P(|e_i| > u) ~ u^{−ν}

A map that grows at most linearly, as a network's flow does, makes no tail heavier. From normal noise it never reaches a power-law tail;
from this noise it reaches those of index `ν` and above. The flow is that of `sdezoo.process.interpolant`, and the network learns the
denoiser `E[x_0 | z]`. The score of the marginals does not follow from the denoiser, since it weighs each sample by
`(ν + d)/(ν + ‖z − x_0‖²/σ²)`. The flow does not use it.

`σ(t)² = s² σ_min² (r^{2t} − 1)`, `r = σ_max/σ_min`, `s` the standard deviation of the data: equal steps in `t` are about equal in
`ln σ`. Network input and output `F` have unit variance at every time (Karras et al., arXiv 2206.00364, table 1, with the variance of
this noise)::

    E[x_0 | z] = c z − √(s² (1 − c)) F(z/√(s² + V)),      c = s²/(s² + V),      V = σ² ν/(ν − 2)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import torch
from annotated_types import Gt
from torch import Tensor

from sdezoo.parameters import Positive
from sdezoo.process.interpolant import Interpolant, Mix
from sdezoo.process.noise import Noise


@dataclass(frozen=True)
class StudentT(Interpolant):
    """Heavy-tailed noise: Student's t instead of the normal distribution, for data with power-law tails."""

    papers: ClassVar[tuple[str, ...]] = ("pandey2024heavy", "karras2022elucidating")

    nu: Annotated[float, Gt(2)] = 4.0
    """Tail index `ν` of the noise; at most that of the data, see the tail report of `sdezoo evaluate`."""
    sigma_max: Positive = 20.0
    """Noise scale at the end, in standard deviations of the data."""
    sigma_min: Positive = 0.01
    """Noise scale near `t = 0`, in standard deviations of the data."""
    spread: Positive | None = None
    """Standard deviation `s` of the data, root mean square over columns; None: set from the data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising(sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    @property
    def tail(self) -> float:
        return self.nu

    def adapted(self, x0: Tensor) -> Self:
        spread = float(x0.double().var(0).mean().sqrt())
        return self if self.spread is not None else replace(self, spread=spread if spread > 0 else 1.0)

    def mix(self, t: Tensor) -> Mix:
        growth = math.log(self.sigma_max / self.sigma_min)
        sigma = self._unit * self.sigma_min * torch.expm1(2 * growth * t.double()).sqrt()
        return Mix(torch.ones_like(sigma), sigma)

    def base(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        halves = like.new_full((shape[0], *(1,) * (len(shape) - 1)), self.nu / 2)
        kappa = noise.gamma(halves) / halves
        return noise.normal(like, shape) / kappa.sqrt()

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """Joint log-density of all entries, `(B, 1, …, 1)`: they share a scale."""
        sigma, event = self.at(t, z).sigma, list(range(1, z.ndim))
        d = z[0].numel()
        away = (((z - x0) / sigma) ** 2).sum(event, keepdim=True)
        constant = math.lgamma((self.nu + d) / 2) - math.lgamma(self.nu / 2) - d / 2 * math.log(self.nu * math.pi)
        return constant - d * sigma.log() - (self.nu + d) / 2 * (away / self.nu).log1p()

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        return z / self._total(t, z).sqrt()

    def denoiser_from_output(self, out: Tensor, z: Tensor, t: Tensor) -> Tensor:
        kept, size = self._unit**2 / self._total(t, z), self.error_scale(t)
        return kept * z - (size if size.ndim == 0 else size.to(z)) * out

    def error_scale(self, t: Tensor) -> Tensor:
        """`√(s² (1 − c))`."""
        noise = self._variance * self.mix(t).sigma ** 2
        return self._unit * (noise / (self._unit**2 + noise)).sqrt()

    @property
    def _unit(self) -> float:
        return 1.0 if self.spread is None else self.spread

    @property
    def _variance(self) -> float:
        return self.nu / (self.nu - 2)

    def _total(self, t: Tensor, z: Tensor) -> Tensor:
        total = self._unit**2 + self._variance * self.mix(t).sigma ** 2
        return total if total.ndim == 0 else total.to(z)
