"""The exponential Ornstein–Uhlenbeck process, mean-reverting geometric Brownian motion: `d ln X = κ(θ − ln X) dt + s√(2κ) dW`.

Schwartz, *The stochastic behavior of commodity prices*, J. Finance 52 (1997), eq. 1: `dX = κ(μ − ln X) X dt + σ X dW` with
`σ = s√(2κ)`; by Itô's formula `μ = θ + s²`. In coordinates `z = ln X`: `α = e^{−κt}`, `m = θ(1 − α)`, `v = s²(1 − α²)`.

`ln X ~ N(θ, s²)` is stationary, and is the prior. By default `θ` and `s` are the mean and standard deviation of all entries of the data
in `ln x`. The pooled entries then have these two moments at every time, and the noise need not swamp the data, as that of `gbm` must.
All other structure of the data is damped by `e^{−κ}`.

If the moments are set from a table, each column has its own: `z_i = (ln x_i − c_i)/s_i` with mean `c_i` and deviation `s_i` of the column
moves to `N(θ, s²) = N(0, 1)`. In the data that is the equation above with `c_i + s_i θ` for `θ` and `s_i s` for `s`. A column with
`s_i = 0` is constant, and stays constant.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import ExpTransform, Transform

from sdezoo.errors import DataError
from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.affine import AffineSDE, Coefficients
from sdezoo.process.noise import Noise
from sdezoo.process.standardized import column_moments, standardized, wide


@dataclass(frozen=True)
class ExpOU(AffineSDE):
    """Mean-reverting geometric Brownian motion on positive data: its stationary distribution is log-normal, with the data's moments."""

    papers: ClassVar[tuple[str, ...]] = ("schwartz1997stochastic",)

    kappa: Positive = 2.3
    """Mean-reversion rate `κ`; the fraction `e^{−κ}` of the data, by default a tenth, remains at the end."""
    mean: float | None = None
    """Stationary mean `θ` of `z`, which is `ln x` unless columns differ; None: set from the data."""
    sigma: Positive | None = None
    """Stationary standard deviation `s` of `z`; None: set from the data."""
    center: tuple[float, ...] | None = None
    """Means `c_i`, one number per column or one for all; None: mean of `ln x` if both moments are set from a table, else 0."""
    spread: tuple[NonNegative, ...] | None = None
    """Deviations `s_i`, one number per column or one for all; None: standard deviation of `ln x` if both moments are set from a table,
    else 1."""

    @property
    def coordinates(self) -> Transform:
        return standardized(ExpTransform(), self.center, self.spread)

    @property
    def t_span(self) -> tuple[float, float]:
        # The rate is constant, so noise grows fast at first: at 1e-3 it would already be a tenth of the data's spread.
        return 1e-5, 1.0

    @property
    def homogeneous(self) -> bool:
        return True

    def adapted(self, x0: Tensor) -> Self:
        if self.mean is not None and self.sigma is not None:
            return self
        if x0.ndim == 2 and (self.mean, self.sigma, self.center, self.spread) == (None, None, None, None):
            center, spread = column_moments(wide(x0).log())
            self._refuse_constant(max(spread))
            return replace(self, mean=0.0, sigma=1.0, center=center, spread=spread)
        z0 = wide(self.encode(x0))
        deviation = float(z0.std())
        self._refuse_constant(deviation)
        return replace(
            self,
            mean=float(z0.mean()) if self.mean is None else self.mean,
            sigma=deviation if self.sigma is None else self.sigma,
        )

    def _refuse_constant(self, deviation: float) -> None:
        if not deviation > 0:
            raise DataError("All values of the data are the same, so the noise cannot be scaled to their spread.", "Give data that differ.")

    def coefficients(self, t: Tensor) -> Coefficients:
        mean, sigma = self._stationary
        return Coefficients(
            torch.exp(-self.kappa * t), -mean * torch.expm1(-self.kappa * t), -(sigma**2) * torch.expm1(-2 * self.kappa * t)
        )

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        mean, sigma = self._stationary
        center, spread = (torch.tensor(v, dtype=torch.float64).to(x) for v in (self.center or (0.0,), self.spread or (1.0,)))
        mean, sigma = center + spread * mean, spread * sigma
        return self.kappa * (mean + sigma**2 - x.log()) * x, sigma * math.sqrt(2 * self.kappa) * x

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """The stationary distribution, `N(θ, s²)` in coordinates."""
        mean, sigma = self._stationary
        return mean + sigma * noise.normal(like, shape)

    @property
    def _stationary(self) -> tuple[float, float]:
        return self.mean or 0.0, 1.0 if self.sigma is None else self.sigma
