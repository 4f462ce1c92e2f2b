"""Jacobi's diffusion on [0, 1], `dX = (s/2) [a (1 − X) − b X] dβ + √(s X (1 − X)) dW_β`: its stationary distribution is Beta(a, b).

Wright (1931); Karlin & Taylor, A Second Course in Stochastic Processes (1981), section 15.13. `s = 2κ/(a + b)`, so that the mean
reverts at the rate `κ`. `β(t)` is a clock of `square_root`: it runs slowly near the data and reaches 1 at `t = 1`. With
`τ = s β`, `y = 2 asin √x` (in which the noise is even) and `φ_n` Jacobi's polynomials, orthonormal under Beta(a, b)::

    p(x_t = x | x_0) = Beta(x; a, b) Σ_n e^{−n (n + a + b − 1)τ/2} φ_n(x) φ_n(x_0)
    X_t              = Beta(a + l, b + m − l),   l ~ Binomial(m, x_0),   m lines of descent, see `coalescent`
    ∇·(g gᵀ)         = s (1 − 2x) β'

The polynomials are computed as sums of `cos(k y)`. From `τ = 0.01` on, 90 of them are enough. Below, and farther than
`|y − y_0| = 5.6 √τ` away, the sum has no digits left. There the density is that of `simplex_transition.small_time`, accurate to about
`2e-6`.

If `a, b ≥ 1` (Feller), the process reaches neither boundary. It may start on one, so the data may contain zeros and ones. A step that
overshoots is folded back. No state is outside or on a boundary, for any number of steps; samples that round to a boundary become the
number next to it.

The network input is `2 arcsin √x − π/2`, in which the noise is the same everywhere, standardized. The network output is `√(x (1 − x))`
times the score minus that of Beta(a, b).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Self

import torch
from annotated_types import Ge
from torch import Tensor
from torch.distributions import constraints

from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.differentiation import outside_transforms
from sdezoo.process.noise import Noise
from sdezoo_plugins.sdes.shared.coalescent import draw_lines, folded, inside
from sdezoo_plugins.sdes.shared.simplex_transition import small_time
from sdezoo_plugins.sdes.shared.square_root import RESOLVED, Growth, SquareRoot, Start, root

SERIES_FROM = 0.01
TERMS = 90
NEAR = 5.6


@dataclass(frozen=True)
class Jacobi(SquareRoot):
    """Jacobi's diffusion dX = (s/2)[a(1 − X) − bX]dt + √(sX(1 − X)) dW on [0, 1], ends included; its prior is a Beta distribution."""

    papers: ClassVar[tuple[str, ...]] = (
        "wright1931evolution",
        "karlin1981second",
        "griffiths1979exact",
        "jenkins2017exact",
        "griffiths1984asymptotic",
    )

    a: Annotated[float, Ge(1)] = 2.0
    """First parameter of the Beta distribution."""
    b: Annotated[float, Ge(1)] = 2.0
    """Second parameter of the Beta distribution."""
    kappa: Positive = 4.0
    """Mean-reversion rate `κ`."""
    growth: Growth | None = None
    start: Start | None = None
    center: tuple[float, ...] | None = None
    spread: tuple[NonNegative, ...] | None = None

    @property
    def support(self) -> constraints.Constraint:
        return constraints.unit_interval

    @property
    def reflecting_boundary(self) -> bool:
        return min(self.a, self.b) == 1

    def adapted(self, x0: Tensor) -> Self:
        return self.fitted(x0)

    def even(self, z: Tensor) -> Tensor:
        """`2 arcsin √x − π/2`; solver stages outside [0, 1] are clamped to it."""
        return 2 * z.clamp(0, 1).sqrt().asin() - math.pi / 2

    def even_noise(self, columns: int) -> tuple[float, float]:
        return self._s**0.5, self.kappa

    def resolved(self, z: Tensor) -> float:
        return RESOLVED**2 / max(float((1 - z).min()), RESOLVED) / self._s

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return self._speed(t).to(z) / 2 * (self.a * (1 - z) - self.b * z)

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return self._speed(t).sqrt().to(z) * root(z * (1 - z))

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        return self._speed(t).to(z) * (1 - 2 * z)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """Folding at both boundaries; a step that would end on a boundary exactly is rejected."""
        return folded(proposal, z)

    def scale(self, t: Tensor) -> Tensor:
        """Spread in units of `√(x (1 − x))`: `√((1 − e^{−(a + b)τ}) / (a + b))`."""
        return (-torch.expm1(-(self.a + self.b) * self._tau(t)) / (self.a + self.b)).sqrt()

    def score_error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        return z * (1 - z)

    def score_from_output(self, s: Tensor, z: Tensor, t: Tensor) -> Tensor:
        return s / (z * (1 - z)).abs().sqrt() + self.stationary_score(z, t)

    def stationary_score(self, z: Tensor, t: Tensor) -> Tensor:
        return (self.a - 1) / z - (self.b - 1) / (1 - z)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return self._moved(x0, self._tau(t.double()), noise)

    def transition(self, z: Tensor, s: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return self._moved(z, self._tau(t) - self._tau(s), noise)

    def reverse_transition(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """The stationary process is reversible: its transition is the same in both directions of time."""
        return self.transition(z, s, t, noise)

    def _moved(self, z: Tensor, tau: Tensor, noise: Noise) -> Tensor:
        tau = tau.to(z.device)
        m = draw_lines(torch.where(tau > 0, tau, 1.0), self.a + self.b, z, noise)
        count = noise.draw(torch.binomial, m, z.double())
        return torch.where(tau > 0, _beta(self.a + count, self.b + m - count, noise, z), z)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        ones = like.new_ones(tuple(shape), dtype=torch.float64)
        return _beta(self.a * ones, self.b * ones, noise, like)

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        x, start = (torch.stack([u.double(), 1 - u.double()], -1) for u in torch.broadcast_tensors(z, x0))
        tau = self._tau(t).to(x).expand_as(z)
        y, y0 = (2 * torch.atan2(u[..., 0].sqrt(), u[..., 1].sqrt()) for u in (x, start))
        here = (tau >= SERIES_FROM) & ((y - y0).abs() < NEAR * tau.sqrt())
        if not here.any():
            return small_time(x, start, (self.a, self.b), tau).to(z)
        count = min(TERMS, math.ceil(9 / float(tau.detach().min()) ** 0.5))
        k = torch.arange(count, dtype=torch.float64, device=z.device)
        table = _cosines(self.a, self.b)[:count, :count].to(z.device)
        terms = (torch.cos(k * y.unsqueeze(-1)) @ table) * (torch.cos(k * y0.unsqueeze(-1)) @ table)
        total = (terms * torch.exp(-k * (k + self.a + self.b - 1) * tau.unsqueeze(-1) / 2)).sum(-1)
        beta = (self.a - 1) * x[..., 0].log() + (self.b - 1) * x[..., 1].log() - _log_beta(self.a, self.b)
        series = beta + torch.where(here, total, 1.0).log()
        return (series if here.all() else torch.where(here, series, small_time(x, start, (self.a, self.b), tau))).to(z)

    @property
    def _s(self) -> float:
        return 2 * self.kappa / (self.a + self.b)

    def _tau(self, t: Tensor) -> Tensor:
        return self.clock(t, self._s)

    def _speed(self, t: Tensor) -> Tensor:
        return self.clock_speed(t, self._s)


def _beta(a: Tensor, b: Tensor, noise: Noise, like: Tensor) -> Tensor:
    one, other = noise.gamma(a), noise.gamma(b)
    return inside(one / (one + other), like)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@lru_cache(maxsize=16)
@outside_transforms
def _cosines(a: float, b: float) -> Tensor:
    """The coefficients of `cos(k y)` in `φ_n`, `(k, n)`, from values at Chebyshev points by the three-term recurrence."""
    y = math.pi * (torch.arange(2 * TERMS, dtype=torch.float64) + 0.5) / (2 * TERMS)
    x = torch.sin(y / 2) ** 2
    found = [torch.ones_like(x)]
    down, before = 0.0, torch.zeros_like(x)
    for n in range(TERMS - 1):
        # x φ_n = d_{n+1} φ_{n+1} + e_n φ_n + d_n φ_{n−1}, monic recurrence of Jacobi's polynomials on [0, 1]
        total = 2 * n + a + b
        middle = (1 + (a - b) * (a + b - 2) / (total * (total - 2))) / 2 if total > 2 else a / (a + b)
        up = math.sqrt((n + 1) * (n + a) * (n + b) * (n + a + b - 1) / ((total - 1) * total**2 * (total + 1)))
        found.append(((x - middle) * found[-1] - down * before) / up)
        down, before = up, found[-2]
    values = torch.stack(found)
    k = torch.arange(TERMS, dtype=torch.float64)
    return (values @ torch.cos(y.unsqueeze(1) * k) / TERMS * torch.where(k > 0, 1.0, 0.5)).T
