"""The process of EDM, `dX = √(dσ²/dt) dW` with `σ(t) = σ_max t^ρ`: data plus noise of standard deviation `σ`.

Karras et al., arXiv 2206.00364, table 1: `α = 1`, `m = 0`, `v = σ²`, `σ` from 0.002 to 80. The paper's time is `σ` itself, and its
steps are even in `σ^{1/ρ}` (eq. 5). Here the steps are even in `t = (σ/σ_max)^{1/ρ}`. The distribution of `X` at a given `σ` is the
same, and equal steps in `t` are the paper's. `t_span` goes from `(σ_min/σ_max)^{1/ρ}` to 1; then `dσ²/dt = 2ρ σ²/t`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE, Coefficients


@dataclass(frozen=True)
class EDM(AffineSDE):
    """Data plus noise with the noise levels of Karras et al., 0.002 to 80: for data of about unit size."""

    papers: ClassVar[tuple[str, ...]] = ("karras2022elucidating",)

    sigma_min: Positive = 0.002
    """Standard deviation of the noise at the start of `t_span`."""
    sigma_max: Positive = 80.0
    """Standard deviation of the noise at the end of `t_span`."""
    rho: Positive = 7.0
    """Exponent `ρ`: a larger one makes steps finer at low noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising(sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    @property
    def t_span(self) -> tuple[float, float]:
        return (self.sigma_min / self.sigma_max) ** (1 / self.rho), 1.0

    def coefficients(self, t: Tensor) -> Coefficients:
        return Coefficients(torch.ones_like(t), torch.zeros_like(t), (self.sigma_max * t**self.rho) ** 2)

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(x), math.sqrt(2 * self.rho) * self.sigma_max * t ** (self.rho - 0.5)
