"""Reflected Brownian motion in a box: `dX = g(t) dW + dL` on `[low, high]^d`, `L` the push at the boundary that keeps `X` inside.

Lou & Ermon, arXiv 2304.04740, sections 3 and 5; `L` is Skorokhod's. In units of the box's width `w = high − low` the noise is
geometric, `v(t) = σ_min² (r^{2t} − 1)` with `r = σ_max/σ_min`, 0 at `t = 0`. With `u = (x − low)/w` and the heat time `τ = v/2`::

    X_t      = fold(x_0 + w √v ε)             fold: period 2w, even about each wall; exact, since the reflected kernel is the folded one
    p(u | y) = Σ_k N(u − y + 2k; 2τ) + N(u + y + 2k; 2τ)                       images
             = 1 + 2 Σ_{k ≥ 1} e^{−k²π²τ} cos(kπu) cos(kπy)                    eigenfunctions
    X_∞      ~ uniform                                                         the prior; the gap is e^{−π²σ_max²/2}

With `|k| ≤ 3` and `k ≤ 20` the two forms agree to rounding for `τ` from 0.01 to 0.25. Images are used up to `τ = 0.1`. At 0.01 the
density far from `x_0` is `1e−10`, where a series that starts from 1 has lost most of its digits. At 0.1 nothing cancels, and few terms
are enough.

The score is a mean over images, `−Σ_k w_k d_k / 2τ` with weights that sum to 1, or the slope of the series over its value. Its normal
component is 0 at the boundary, so no flux leaves. A step that would leave the box is folded back in one operation, for any length of
the step. Nothing is clipped or retried.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from sdezoo.parameters import Positive
from sdezoo.process.confined import ConfinedBrownian
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional

SWITCH = 0.1
"""The heat time up to which images are used."""
IMAGES, TERMS = 2, 6
"""Number of images on either side, and of eigenfunctions: the remainder is below rounding on both sides of the switch."""


@dataclass(frozen=True)
class Reflected(ConfinedBrownian, Conditional):
    """Reflected Brownian motion in a box; its prior is uniform, and samples cannot leave the box."""

    papers: ClassVar[tuple[str, ...]] = ("lou2023reflected",)

    sigma_max: Positive = 5.0
    """Terminal noise, in units of the box's width."""
    low: float = 0.0
    """Lower bound of every entry."""
    high: float = 1.0
    """Upper bound of every entry."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising(low=self.low, high=self.high)

    @property
    def width(self) -> float:
        return self.high - self.low

    @property
    def support(self) -> constraints.Constraint:
        return constraints.interval(self.low, self.high)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """The fold; points inside are unchanged."""
        rise = (proposal - self.low).remainder(2 * self.width)
        depth = torch.minimum(rise, 2 * self.width - rise)
        # Measured from the nearer wall, so that rounding cannot cross the other one.
        folded = torch.where(depth < self.width / 2, self.low + depth, self.high - (self.width - depth))
        return torch.where(self.support.check(proposal), proposal, folded)

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        """The state, standardized by the prior's mean and standard deviation."""
        return (z - (self.low + self.high) / 2) * (math.sqrt(12) / self.width)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return self.project(x0 + self.scale(t).to(x0) * noise.normal(x0), x0)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.project(self.low + self.width * noise.uniform(like, shape), like)

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        u, y, tau = self._units(z, x0, t)
        near, far = by_images(u, y, tau)[0], by_eigenfunctions(u, y, tau.clamp_min(SWITCH))[0]
        return torch.where(tau <= SWITCH, near, far) - math.log(self.width)

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        u, y, tau = self._units(z, x0, t)
        near, far = by_images(u, y, tau)[1], by_eigenfunctions(u, y, tau.clamp_min(SWITCH))[1]
        return torch.where(tau <= SWITCH, near, far) / self.width

    def _units(self, z: Tensor, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (z - self.low) / self.width, (x0 - self.low) / self.width, (self.variance(t) / 2).to(z)


def by_images(u: Tensor, y: Tensor, tau: Tensor, images: int = IMAGES) -> tuple[Tensor, Tensor]:
    """`log p(u | y)` on the unit interval and its slope in `u`, by images.

    Args:
        u: end points.
        y: starting points, shaped like `u`.
        tau: heat time `τ`, shaped like `u` or broadcasting against it.
        images: number of images on either side, `|k| ≤ images`.

    Returns:
        The log-density and its slope, each shaped like `u`.
    """
    shifts = 2 * torch.arange(-images, images + 1, dtype=u.dtype, device=u.device)
    away = torch.cat([(u - y)[..., None] + shifts, (u + y)[..., None] + shifts], -1)
    exponents = -(away**2) / (4 * tau[..., None])
    slope = -(torch.softmax(exponents, -1) * away).sum(-1) / (2 * tau)
    return torch.logsumexp(exponents, -1) - (4 * math.pi * tau).log() / 2, slope


def by_eigenfunctions(u: Tensor, y: Tensor, tau: Tensor, terms: int = TERMS) -> tuple[Tensor, Tensor]:
    """`log p(u | y)` on the unit interval and its slope in `u`, by eigenfunctions.

    Args:
        u: end points.
        y: starting points, shaped like `u`.
        tau: heat time `τ`, shaped like `u` or broadcasting against it.
        terms: number of eigenfunctions, `k ≤ terms`.

    Returns:
        The log-density and its slope, each shaped like `u`.
    """
    k = math.pi * torch.arange(1, terms + 1, dtype=u.dtype, device=u.device)
    weights = 2 * torch.exp(-(k**2) * tau[..., None]) * torch.cos(k * y[..., None])
    density = 1 + (weights * torch.cos(k * u[..., None])).sum(-1)
    return density.log(), -(weights * k * torch.sin(k * u[..., None])).sum(-1) / density
