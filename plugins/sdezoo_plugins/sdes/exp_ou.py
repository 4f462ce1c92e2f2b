"""The exponential Ornstein–Uhlenbeck process, geometric Brownian motion that is pulled back: `d ln X = κ(θ − ln X) dt + s√(2κ) dW`.

Schwartz, *The stochastic behavior of commodity prices*, J. Finance 52 (1997), eq. 1: `dX = κ(μ − ln X) X dt + σ X dW` with
`σ = s√(2κ)`; by Itô's formula `μ = θ + s²`. In coordinates `z = ln X`: `α = e^{−κt}`, `m = θ(1 − α)`, `v = s²(1 − α²)`.

`ln X ~ N(θ, s²)` is stationary, and is the prior. `θ` and `s` are by default mean and standard deviation of all the data's entries
in `ln x`: the pooled entries then have these two moments at every time, and the noise does not have to swamp the data, as that
of `gbm` has to. Whatever else the prior does not know of the data is damped by `e^{−κ}`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.distributions import ExpTransform, Transform

from sdezoo.errors import DataError
from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE, Coefficients
from sdezoo.process.noise import Noise


@dataclass(frozen=True)
class ExpOU(AffineSDE):
    """Geometric Brownian motion with mean reversion on positive data: its stationary law is log-normal, with the data's moments."""

    kappa: Positive = 2.3
    """Rate of the reversion; `e^{−κ}` of the data, a tenth, is left at the end."""
    mean: float | None = None
    """Stationary mean of `ln x`; None: set from the data."""
    sigma: Positive | None = None
    """Stationary standard deviation of `ln x`; None: set from the data."""

    @property
    def coordinates(self) -> Transform:
        return ExpTransform()

    @property
    def t_span(self) -> tuple[float, float]:
        # The rate is constant, and its noise grows fast at first: at 1e-3 it would be a tenth of the data's spread already.
        return 1e-5, 1.0

    def adapted(self, x0: Tensor) -> Self:
        if self.mean is not None and self.sigma is not None:
            return self
        z0 = self.encode(x0).double()
        spread = float(z0.std())
        if not spread > 0:
            raise DataError("All values of the data are the same, so that no noise can be measured against them.", "Look at the data.")
        return replace(
            self,
            mean=float(z0.mean()) if self.mean is None else self.mean,
            sigma=spread if self.sigma is None else self.sigma,
        )

    def coefficients(self, t: Tensor) -> Coefficients:
        mean, sigma = self._stationary
        return Coefficients(
            torch.exp(-self.kappa * t), -mean * torch.expm1(-self.kappa * t), -(sigma**2) * torch.expm1(-2 * self.kappa * t)
        )

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        mean, sigma = self._stationary
        return self.kappa * (mean + sigma**2 - x.log()) * x, sigma * math.sqrt(2 * self.kappa) * x

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """The stationary law, `N(θ, s²)` in coordinates."""
        mean, sigma = self._stationary
        return mean + sigma * noise.normal(like, shape)

    @property
    def _stationary(self) -> tuple[float, float]:
        return self.mean or 0.0, 1.0 if self.sigma is None else self.sigma
