"""Sub-variance-preserving diffusion, `dX = −½ β(t) X dt + √(β(t)(1 − e^{−2B(t)})) dW` with `B(t) = ∫β`, `β` linear.

Song et al., arXiv 2011.13456, eq. 12 and 34: `α = e^{−B/2}`, `m = 0`, `v = (1 − e^{−B})²`, never above that of `vp`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.affine import AffineSDE, Coefficients


@dataclass(frozen=True)
class SubVP(AffineSDE):
    """Sub-variance-preserving diffusion: the drift of vp with less noise, v = (1 − e^{−∫β})²."""

    papers: ClassVar[tuple[str, ...]] = ("song2020score",)

    beta_min: NonNegative = 0.1
    """Noise rate at `t = 0`, `β(0)`."""
    beta_max: Positive = 20.0
    """Noise rate at `t = 1`, `β(1)`."""

    def coefficients(self, t: Tensor) -> Coefficients:
        integral = self._integral(t)
        return Coefficients(torch.exp(-integral / 2), torch.zeros_like(t), torch.expm1(-integral) ** 2)

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        beta = self.beta_min + (self.beta_max - self.beta_min) * t
        return -beta * x / 2, (beta * -torch.expm1(-2 * self._integral(t))).sqrt()

    def _integral(self, t: Tensor) -> Tensor:
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2
