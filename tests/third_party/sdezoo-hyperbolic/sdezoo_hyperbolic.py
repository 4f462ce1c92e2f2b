"""Hyperbolic diffusion, `dX = σ² t X dt + σ √(2t (1 + X²)) dW`: additive noise near 0, multiplicative noise far from it.

In coordinates `z = asinh x` it is Brownian motion, `α = 1`, `m = 0`, `v = σ² t²`: with `φ = sinh`, `φ' = √(1 + x²)` and `φ'' = x`, Itô's
formula gives the drift `½ v' x` and the diffusion `√(v' (1 + x²))`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Transform, constraints

from sdezoo import AffineSDE, Coefficients
from sdezoo.parameters import Positive


class SinhTransform(Transform):  # noqa: PLW1641  # no transform of torch's can be hashed
    """`x = sinh z`."""

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SinhTransform)

    def _call(self, x: Tensor) -> Tensor:
        return x.sinh()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.asinh()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.cosh().log()


@dataclass(frozen=True)
class Hyperbolic(AffineSDE):
    """Hyperbolic diffusion dX = σ²tX dt + σ√(2t(1 + X²)) dW, for real data with a few large values."""

    sigma: Positive = 5.0
    """Standard deviation `σ` of `asinh X` at `t = 1`."""

    @property
    def coordinates(self) -> Transform:
        return SinhTransform()

    def coefficients(self, t: Tensor) -> Coefficients:
        return Coefficients(torch.ones_like(t), torch.zeros_like(t), self.sigma**2 * t**2)

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.sigma**2 * t * x, self.sigma * (2 * t * (1 + x**2)).sqrt()
