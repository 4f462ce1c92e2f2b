"""Geometric Brownian motion, `dX = μ(t) X dt + σ(t) X dW`: Brownian in `log X`, so positive data stay positive.

Shetty, Prasath & Seelamantula, arXiv 2510.02730, section 3. In coordinates `z = log x`: `α = 1`, `m = ∫(μ − σ²/2)`,
`v = ∫σ²`. The volatility is geometric in time, `σ(t) = σ (σ_end/σ)^t`, hence
`v(t) = σ² ((σ_end/σ)^{2t} − 1) / (2 ln(σ_end/σ))`.

The paper's own process is `gbm:sigma=0.8`: constant volatility, the same for all entries. If neither `sigma` nor `sigma_end` is given,
both are set from the data. The terminal noise `√v(1)` is then four times the data's leading principal standard deviation in `log x`,
and the volatility grows fiftyfold.

In that case each column of a table has its own volatility, in proportion to the spread of `log x`: column `i` moves in
`z_i = (log x_i − c_i)/s_i`, with mean `c_i` and deviation `s_i` of the column::

    dX_i = μ_i(t) X_i dt + s_i σ(t) X_i dW,      m_i = ∫(μ − s_i² σ²/2)/s_i

and the leading deviation is that of the `z`, from their correlation matrix. `X_i` is a power of the process above,
`X_i = e^{c_i} Y^{s_i}`. A column with `s_i = 0` is constant, and stays constant. If `mu` is not given, `μ_i = s_i² σ²/2` and `m = 0`.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import ExpTransform, Transform

from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.affine import AffineSDE, Coefficients, leading_spread
from sdezoo.process.columns import ColumnFit
from sdezoo.process.standardized import column_moments, standardized, wide

TERMINAL = 4.0
GROWTH = 50.0


@dataclass(frozen=True)
class GBM(AffineSDE):
    """Geometric Brownian motion dX = μX dt + σ(t)X dW on positive data; sigma=0.8 is the paper's constant volatility."""

    papers: ClassVar[tuple[str, ...]] = ("shetty2025dale",)

    preference: ClassVar[int] = 1
    preferred_for: ClassVar[tuple[str, ...]] = ("image", "paths")

    sigma: Positive | None = None
    """Volatility at `t = 0`; None: set from the data."""
    sigma_end: Positive | None = None
    """Volatility at `t = 1`; None: `sigma` if that is given (constant volatility), else set from the data."""
    mu: float | None = None
    """Drift rate in `x`; None: `σ(t)²/2`, no drift in `log x`, as in the paper."""
    center: tuple[float, ...] | None = None
    """`c`, one number per column or one for all; None: mean of `log x` if the volatility is set from a table, else 0."""
    spread: tuple[NonNegative, ...] | None = None
    """`s`, the volatility of a column in units of `sigma`, one number per column or one for all; None: standard deviation of `log x` if the
    volatility is set from a table, else 1."""

    @property
    def coordinates(self) -> Transform:
        return standardized(ExpTransform(), self.center, self.spread)

    @classmethod
    def column_fit(cls, column: Tensor) -> ColumnFit | None:
        return ColumnFit(2, "positive", cls.title()) if column.min() > 0 else None

    @property
    def homogeneous(self) -> bool:
        start, end = self._volatilities
        return start == end

    def adapted(self, x0: Tensor) -> Self:
        if self.sigma is not None or self.sigma_end is not None:
            return self
        measured = self
        if x0.ndim == 2:
            center, spread = column_moments(wide(x0).log(), self.center, self.spread)
            measured = replace(self, center=center, spread=spread)
        start, end = _volatility(leading_spread(measured.encode(x0)))
        return replace(measured, sigma=start, sigma_end=end)

    def coefficients(self, t: Tensor) -> Coefficients:
        start, end = self._volatilities
        k = 2 * math.log(end / start)
        variance = start**2 * (torch.expm1(k * t) / k if k else t)
        shift = torch.zeros_like(t) if self.mu is None else self._shift(self.mu * t, variance)
        return Coefficients(torch.ones_like(t), shift, variance)

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        start, end = self._volatilities
        sigma = self._spread.to(x) * (start * (end / start) ** t).to(x)
        mu = sigma**2 / 2 if self.mu is None else self.mu
        return mu * x, sigma * x

    def _shift(self, drift: Tensor, variance: Tensor) -> Tensor:
        if self.spread is None:
            return drift - variance / 2
        spread = self._spread.to(drift.device)
        return torch.where(spread > 0, drift / torch.where(spread > 0, spread, 1.0) - spread * variance / 2, 0.0)

    @property
    def _spread(self) -> Tensor:
        return torch.tensor(self.spread or (1.0,), dtype=torch.float64)

    @property
    def _volatilities(self) -> tuple[float, float]:
        if self.sigma is None:
            return _volatility(1.0) if self.sigma_end is None else (self.sigma_end / GROWTH, self.sigma_end)
        return self.sigma, self.sigma if self.sigma_end is None else self.sigma_end


def _volatility(spread: float) -> tuple[float, float]:
    start = TERMINAL * spread * math.sqrt(2 * math.log(GROWTH) / (GROWTH**2 - 1))
    return start, GROWTH * start
