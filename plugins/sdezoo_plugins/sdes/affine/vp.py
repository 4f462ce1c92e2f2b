"""Variance-preserving diffusion, `dX = −½ β(t) X dt + √β(t) dW` with `β(t) = β_min + (β_max − β_min) t`.

Song et al., arXiv 2011.13456, eq. 11 and 33: with `B(t) = ∫β`, `α = e^{−B/2}`, `m = 0`, `v = 1 − e^{−B}`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.affine import AffineSDE, Coefficients
from sdezoo.process.columns import ColumnFit


@dataclass(frozen=True)
class VP(AffineSDE):
    """Variance-preserving diffusion dX = −½βX dt + √β dW, β linear in t (the continuous DDPM)."""

    papers: ClassVar[tuple[str, ...]] = ("song2020score",)

    beta_min: NonNegative = 0.1
    """Noise rate at `t = 0`, `β(0)`."""
    beta_max: Positive = 20.0
    """Noise rate at `t = 1`, `β(1)`."""

    @classmethod
    def column_fit(cls, column: Tensor) -> ColumnFit:
        return ColumnFit(1, "real", cls.title())

    def coefficients(self, t: Tensor) -> Coefficients:
        integral = self._integral(t)
        return Coefficients(torch.exp(-integral / 2), torch.zeros_like(t), -torch.expm1(-integral))

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        beta = self.beta_min + (self.beta_max - self.beta_min) * t
        return -beta * x / 2, beta.sqrt()

    def _integral(self, t: Tensor) -> Tensor:
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2
