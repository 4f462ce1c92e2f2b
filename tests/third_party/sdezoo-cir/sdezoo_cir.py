"""Cox–Ingersoll–Ross process, `dX = κ (θ − X) dt + σ √X dW`: positive, drawn back to `θ`, and Gaussian in no coordinates.

Cox, Ingersoll & Ross, Econometrica 53 (1985), eq. 17 to 20. With `q = 2κθ/σ² − 1`, `c = 2κ/(σ² (1 − e^{−κt}))`,
`u = c x_0 e^{−κt}`, `v = c x` and `w = 2√(uv)`::

    p(x_t = x | x_0) = c e^{−u−v} (v/u)^{q/2} I_q(w)
    ∂_x log p        = −c + q/x + w/(2x) · I_{q+1}(w)/I_q(w)
    X_t              = (√(x_0 e^{−κt}) + ε/√(2c))² + Gamma(q + ½)/c           2c X_t is non-central χ²
    X_∞              = Gamma(q + 1) · σ²/(2κ)                                 the prior

Where `2κθ ≥ σ²` (Feller 1951), that is `q ≥ 0`, the process never reaches 0.

Both `u` and `v` are of the order `1/t`, and the terms of density and score cancel as `t → 0`. They are computed as
`log c − (√v − √u)² + q log 2v + L(w)` and `c (x_0 e^{−κt} − x)/(√x (√x + √(x_0 e^{−κt}))) + (2q − D(w))/(2x)`, where
`L = log(I_q(w) e^{−w} w^{−q})` and `D = w (1 − I_{q+1}/I_q)` have no singularity, see `bessel`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.distributions import constraints

from sdezoo import Conditional, ForwardSDE, Noise
from sdezoo.errors import ParameterError
from sdezoo.parameters import Positive

ORDER = 20
TERMS = 12


@dataclass(frozen=True)
class CIR(ForwardSDE, Conditional):
    """Cox–Ingersoll–Ross, dX = κ(θ − X)dt + σ√X dW on positive data; its prior is a Gamma law."""

    kappa: Positive = 3.0
    """Rate `κ` at which the mean returns to `theta`."""
    theta: Positive = 1.0
    """Mean `θ` of the prior."""
    sigma: Positive = 1.2
    """Noise `σ`; at most `√(2κθ)`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.q < 0:
            raise ParameterError(
                f"{self.title()}: with sigma={self.sigma:g} the process reaches 0, where it has no score.",
                f"Give sigma at most sqrt(2 kappa theta) = {math.sqrt(2 * self.kappa * self.theta):.4g}.",
            )

    @property
    def q(self) -> float:
        """`2κθ/σ² − 1`, the order of the Bessel function and the power of `x` in the density near 0."""
        return 2 * self.kappa * self.theta / self.sigma**2 - 1

    @property
    def support(self) -> constraints.Constraint:
        return constraints.positive

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return self.kappa * (self.theta - z)

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return self.sigma * z.sqrt()

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        """`∂(σ² x)/∂x = σ²`."""
        return torch.full_like(z, self.sigma**2)

    def confine(self, proposal: Tensor, z: Tensor) -> Tensor:
        """Reflection at 0; a step that would end at 0 itself is not taken."""
        return torch.where(proposal == 0, z, proposal.abs())

    def scale(self, t: Tensor) -> Tensor:
        """Standard deviation of `X_t` from `x_0 = θ`: `√(θ σ² (1 − e^{−2κt}) / 2κ)`."""
        return (self.theta * self.sigma**2 / (2 * self.kappa) * -torch.expm1(-2 * self.kappa * t)).sqrt()

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        c, decay = self._law(t, x0)
        root = (x0 + x0 * decay).sqrt() + noise.normal(x0) / (2 * c).sqrt()
        rest = _gamma(torch.full_like(x0, self.q + 0.5), noise) / c
        return torch.where(t > 0, root**2 + rest, x0)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return _gamma(like.new_full(tuple(shape), self.q + 1), noise) * (self.sigma**2 / (2 * self.kappa))

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        c, decay = self._law(t, z)
        start = x0 + x0 * decay
        between = (z - x0 - x0 * decay) / (z.sqrt() + start.sqrt())
        log, _ = bessel(self.q, 2 * c * (z * start).sqrt())
        return c.log() - c * between**2 + self.q * (2 * c * z).log() + log

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        c, decay = self._law(t, z)
        start = x0 + x0 * decay
        between = (z - x0 - x0 * decay) / (z.sqrt() + start.sqrt())
        _, gap = bessel(self.q, 2 * c * (z * start).sqrt())
        return (self.q - gap / 2) / z - c * between / z.sqrt()

    def _law(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        # e^{−κt} − 1 in place of e^{−κt}: for small t, x_0 e^{−κt} − x has no digits left but these.
        decay = torch.expm1(-self.kappa * t)
        return (-2 * self.kappa / self.sigma**2 / decay).to(like), decay.to(like)


def _gamma(shape: Tensor, noise: Noise) -> Tensor:
    # torch offers no public draw of Gamma laws that takes a generator.
    return noise.draw(torch._standard_gamma, shape)  # pyright: ignore[reportPrivateImportUsage]


def bessel(q: float, w: Tensor) -> tuple[Tensor, Tensor]:
    """`log(I_q(w) e^{−w} w^{−q})` and `w (1 − I_{q+1}(w)/I_q(w))` for `q ≥ 0`, `w ≥ 0`: no cancellation, derivatives of every order.

    At order `ν ≥ 20` by Debye's expansion, uniform in `w` (DLMF 10.41.3), with 12 terms good to 14 digits; from there down
    to `q` by the recurrence `1/r_{k−1} = 2k/w + r_k` of `r_k = I_{k+1}/I_k` (DLMF 10.29.1), in which errors shrink.
    """
    steps = max(0, math.ceil(ORDER - q))
    nu = q + steps
    s = (nu**2 + w**2).sqrt()
    p = nu / s
    series, slope = _debye(nu, p)
    log = nu**2 / (s + w) - nu * (nu + s).log() - (2 * math.pi * s).log() / 2 + series.log()
    gap = nu * w * (1 + w / (s + nu)) / (s + w) + (1 - p**2) * (0.5 + p * slope / series)
    for k in range(steps):
        rest = 2 * (nu - k) - gap
        log = log + (w + rest).log()
        gap = w * rest / (w + rest)
    return log, gap


def _debye(nu: float, p: Tensor) -> tuple[Tensor, Tensor]:
    """`Σ_k U_k(p) ν^{−k}` and its derivative in `p`, by Horner's rule."""
    value, slope = torch.zeros_like(p), torch.zeros_like(p)
    for coefficient in _coefficients(nu):
        slope = slope * p + value
        value = value * p + coefficient
    return value, slope


@lru_cache(maxsize=64)
def _coefficients(nu: float) -> list[float]:
    """The coefficients of `Σ_k U_k(p) ν^{−k}` as a polynomial in `p`, highest power first."""
    powers = range(3 * TERMS, -1, -1)
    return [sum(float(u.get(power, 0)) / nu**k for k, u in enumerate(_polynomials())) for power in powers]


@cache
def _polynomials() -> list[dict[int, Fraction]]:
    """Debye's `U_0, …, U_12`, power to coefficient: `U_{k+1} = ½ p² (1 − p²) U_k' + ⅛ ∫_0^p (1 − 5t²) U_k dt` (DLMF 10.41.9)."""
    found = [{0: Fraction(1)}]
    for _ in range(TERMS):
        following: dict[int, Fraction] = {}
        for n, a in found[-1].items():
            following[n + 1] = following.get(n + 1, Fraction()) + a * (Fraction(n, 2) + Fraction(1, 8 * (n + 1)))
            following[n + 3] = following.get(n + 3, Fraction()) - a * (Fraction(n, 2) + Fraction(5, 8 * (n + 3)))
        found.append(following)
    return found
