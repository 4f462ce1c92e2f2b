"""Variance-exploding diffusion, `dX = g(t) dW` with `g(t) = σ_min r^t √(2 ln r)`, `r = σ_max/σ_min`.

Song et al., arXiv 2011.13456, eq. 9 and 31, with the variance of the transition measured from the data: `α = 1`,
`m = 0`, `v = σ_min² (r^{2t} − 1)`, which is 0 at `t = 0` (the paper's `σ_min² r^{2t}` is not).
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE, Coefficients, leading_spread
from sdezoo_plugins.sdes.shared.exploding import TERMINAL, exploding

GROWTH = 50.0


@dataclass(frozen=True)
class VE(AffineSDE):
    """Variance-exploding diffusion dX = g(t) dW, g geometric in t; sigma_max is set from the data unless given."""

    papers: ClassVar[tuple[str, ...]] = ("song2020score",)

    sigma_max: Positive | None = None
    """Standard deviation of the noise at `t = 1`; None: four times the data's leading principal standard deviation."""
    sigma_min: Positive | None = None
    """Noise scale near `t = 0`; None: `sigma_max / 50`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising(sigma_min=self._range[0], sigma_max=self._range[1])

    def adapted(self, x0: Tensor) -> Self:
        return self if self.sigma_max is not None else replace(self, sigma_max=TERMINAL * leading_spread(x0))

    def coefficients(self, t: Tensor) -> Coefficients:
        low, high = self._range
        return exploding(t, low, high / low)

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self._range
        return torch.zeros_like(x), low * (high / low) ** t * math.sqrt(2 * math.log(high / low))

    @property
    def _range(self) -> tuple[float, float]:
        low, high = self.sigma_min, self.sigma_max
        if high is None:
            high = TERMINAL if low is None else GROWTH * low
        return high / GROWTH if low is None else low, high
