"""Modified Bessel functions `I_q`, scaled against overflow and cancellation: shared by processes with noise `√x` at a boundary.

With `q ≥ 0`, `w ≥ 0`::

    L_q(w) = log(I_q(w) e^{−w} w^{−q})             from −q log 2 − log Γ(q + 1) at w = 0 to −(q + ½) log w − ½ log 2π
    D_q(w) = w (1 − I_{q+1}(w)/I_q(w)) = −w L_q'   from 0 at w = 0 to q + ½

At order `ν ≥ 20` Debye's expansion is used. It is uniform in `w` (DLMF 10.41.3), and 12 terms give 14 digits. The recurrence
`1/r_{k−1} = 2k/w + r_k` of `r_k = I_{k+1}/I_k` (DLMF 10.29.1) leads from there down to `q`; errors shrink in it. Every operation is
elementary, so the result can be differentiated any number of times.
"""

import math
from fractions import Fraction
from functools import cache, lru_cache

import torch
from torch import Tensor

_ORDER = 20
_TERMS = 12


def bessel(q: float, w: Tensor) -> tuple[Tensor, Tensor]:
    """`L_q(w)` and `D_q(w)`.

    Args:
        q: the order, at least 0.
        w: the arguments, at least 0, of any shape.

    Returns:
        `L_q(w)` and `D_q(w)`, each shaped like `w`.
    """
    steps = max(0, math.ceil(_ORDER - q))
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
    powers = range(3 * _TERMS, -1, -1)
    return [sum(float(u.get(power, 0)) / nu**k for k, u in enumerate(_polynomials())) for power in powers]


@cache
def _polynomials() -> list[dict[int, Fraction]]:
    """Debye's `U_0, …, U_12`, power to coefficient: `U_{k+1} = ½ p² (1 − p²) U_k' + ⅛ ∫_0^p (1 − 5t²) U_k dt` (DLMF 10.41.9)."""
    found = [{0: Fraction(1)}]
    for _ in range(_TERMS):
        following: dict[int, Fraction] = {}
        for n, a in found[-1].items():
            following[n + 1] = following.get(n + 1, Fraction()) + a * (Fraction(n, 2) + Fraction(1, 8 * (n + 1)))
            following[n + 3] = following.get(n + 3, Fraction()) - a * (Fraction(n, 2) + Fraction(5, 8 * (n + 3)))
        found.append(following)
    return found
