"""Geometric Brownian motion, `dX = μ(t) X dt + σ(t) X dW`: Brownian in `log X`, so positive data stay positive.

Shetty, Prasath & Seelamantula, arXiv 2510.02730, section 3. In coordinates `z = log x`: `α = 1`, `m = ∫(μ − σ²/2)`,
`v = ∫σ²`. The volatility is geometric in time, `σ(t) = σ (σ_end/σ)^t`, hence
`v(t) = σ² ((σ_end/σ)^{2t} − 1) / (2 ln(σ_end/σ))`.

The paper's own process is `gbm:sigma=0.8`: constant volatility. With neither `sigma` nor `sigma_end` given, both are
set from the data: the terminal noise `√v(1)` is four times the data's leading principal standard deviation in
`log x`, and the volatility grows fiftyfold.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.distributions import ExpTransform, Transform

from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE, Coefficients, leading_spread

TERMINAL = 4.0
GROWTH = 50.0


@dataclass(frozen=True)
class GBM(AffineSDE):
    """Geometric Brownian motion dX = μX dt + σ(t)X dW on positive data; sigma=0.8 is the paper's constant volatility."""

    sigma: Positive | None = None
    """Volatility at `t = 0`; None: set from the data."""
    sigma_end: Positive | None = None
    """Volatility at `t = 1`; None: `sigma`, constant, where that was given."""
    mu: float | None = None
    """Drift rate in `x`; None: `σ(t)²/2`, no drift in `log x`, as in the paper."""

    @property
    def coordinates(self) -> Transform:
        return ExpTransform()

    def adapted(self, x0: Tensor) -> Self:
        if self.sigma is not None or self.sigma_end is not None:
            return self
        start, end = _volatility(leading_spread(self.encode(x0)))
        return replace(self, sigma=start, sigma_end=end)

    def coefficients(self, t: Tensor) -> Coefficients:
        start, end = self._volatilities
        k = 2 * math.log(end / start)
        variance = start**2 * (torch.expm1(k * t) / k if k else t)
        shift = torch.zeros_like(t) if self.mu is None else self.mu * t - variance / 2
        return Coefficients(torch.ones_like(t), shift, variance)

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        start, end = self._volatilities
        sigma = start * (end / start) ** t
        mu = sigma**2 / 2 if self.mu is None else self.mu
        return mu * x, sigma * x

    @property
    def _volatilities(self) -> tuple[float, float]:
        if self.sigma is None:
            return _volatility(1.0) if self.sigma_end is None else (self.sigma_end / GROWTH, self.sigma_end)
        return self.sigma, self.sigma if self.sigma_end is None else self.sigma_end


def _volatility(spread: float) -> tuple[float, float]:
    start = TERMINAL * spread * math.sqrt(2 * math.log(GROWTH) / (GROWTH**2 - 1))
    return start, GROWTH * start
