"""Heston's model of a price `S` and its variance `V`, two columns, with correlated noise::

    dS = μ S dt + √V S dW_1                                          the price
    dV = κ (θ − V) dt + ξ √V (ρ dW_1 + √(1 − ρ²) dW_2)               its variance, a square-root diffusion

Heston, Rev. Financ. Stud. 6 (1993), eq. 1 to 4, with `μ` the rate and no risk premium. The state is `(log S, V)`, with the drift
`(μ − V/2, κ (θ − V))` and the noise `√V (dW_1, ξ (ρ dW_1 + √(1 − ρ²) dW_2))`, a matrix::

    D = V (1, ρξ; ρξ, ξ²),      ∇·D = (ρξ, ξ²)

The coefficients do not depend on time: the time of the process is real time, to any horizon.

A step takes the variance from its exact distribution, `V' = Gamma(2κθ/ξ² + N) / c` with `N ~ Poisson(c e^{−κh} V)` and
`c = 2κ / (ξ² (1 − e^{−κh}))` (Cox, Ingersoll & Ross, Econometrica 53 (1985)), so that it never leaves the positive numbers, whether or not
`2κθ ≥ ξ²`. Given both ends, the price follows from `∫V` (Broadie & Kaya, Oper. Res. 54 (2006), eq. 11), here by the trapezoidal rule
(Andersen, J. Comput. Finance 11 (2008), section 3.2)::

    log S' = log S + μh + (ρ/ξ)(V' − V − κθh) + (κρ/ξ − ½) I + √((1 − ρ²) I) ε,      I = h (V + V')/2

There is no stationary distribution: the prior is simulated from log-normal rows with the medians and spreads of the data.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import torch
from annotated_types import Interval
from torch import Tensor
from torch.distributions import constraints

from sdezoo.errors import SupportError
from sdezoo.parameters import Positive
from sdezoo.process.columns import count_outside
from sdezoo.process.noise import Noise
from sdezoo.process.process import Shape
from sdezoo.process.sde import MatrixSDE

_LEAST = 1e-6
STEPS = 32
"""Steps by which data are noised."""


@dataclass(frozen=True)
class Heston(MatrixSDE):
    """Heston's price and variance with correlated noise: two positive columns, in real time; meant for `sdezoo paths`."""

    papers: ClassVar[tuple[str, ...]] = ("heston1993closed",)

    mu: float = 0.0
    """Drift rate `μ` of the price."""
    kappa: Positive = 2.0
    """Mean-reversion rate `κ` of the variance."""
    theta: Positive = 0.04
    """Mean `θ` of the variance."""
    xi: Positive = 0.3
    """Volatility `ξ` of the variance."""
    rho: Annotated[float, Interval(ge=-1, le=1)] = -0.7
    """Correlation `ρ` of price and variance."""
    typical: tuple[Positive, Positive] | None = None
    """Price and variance from which the prior is simulated; None: the data's medians, or (1,θ) without data."""
    spread: tuple[Positive, Positive] | None = None
    """Standard deviations of the logarithms of both in the data; None: the data's, or those of a single row without data."""

    @property
    def row_shape(self) -> Shape:
        return (2,)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.positive

    @property
    def prior_from_data(self) -> bool:
        return True

    @property
    def homogeneous(self) -> bool:
        return True

    def adapted(self, x0: Tensor) -> Self:
        logs = x0.double().log()
        typical = self.typical or tuple(logs.quantile(0.5, dim=0).exp().tolist())
        spread = self.spread or tuple(logs.std(0, correction=0).clamp_min(_LEAST).tolist())
        return replace(self, typical=typical, spread=spread)

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """`(log S, V)`; `noise` is unused."""
        return torch.cat([x[..., :1].log(), x[..., 1:]], -1)

    def decode(self, z: Tensor) -> Tensor:
        x = self.decode_unchecked(z)
        outside = count_outside(self.support, x)
        if outside:
            raise SupportError(f"{self.title()}: {outside} prices or variances are not positive and finite.", "Work in float64.")
        return x

    def decode_unchecked(self, z: Tensor) -> Tensor:
        return torch.cat([z[..., :1].exp(), z[..., 1:]], -1)

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        """The logarithms, less those of a typical row, in units of their noise."""
        price, variance = self._typical
        u = torch.cat([z[..., :1] - math.log(price), z[..., 1:].abs().sqrt() - math.sqrt(variance)], -1)
        return u / z.new_tensor([math.sqrt(self.theta), self.xi / 2])

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        v = z[..., 1:]
        return torch.cat([self.mu - v / 2, self.kappa * (self.theta - v)], -1)

    def diffuse(self, z: Tensor, t: Tensor, dw: Tensor) -> Tensor:
        first, second = dw.split(1, -1)
        mixed = self.rho * first + math.sqrt(1 - self.rho**2) * second
        return z[..., 1:].abs().sqrt() * torch.cat([first, self.xi * mixed], -1)  # a solver stage may lie outside the support

    def noise_shape(self, shape: Sequence[int]) -> Shape:
        return tuple(shape)

    def ggt(self, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
        price, variance = s.split(1, -1)
        shared = self.rho * self.xi
        return z[..., 1:].abs() * torch.cat([price + shared * variance, shared * price + self.xi**2 * variance], -1)

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        return z.new_tensor([self.rho * self.xi, self.xi**2]).expand_as(z)

    def stratonovich_correction(self, z: Tensor, t: Tensor) -> Tensor:
        return self.divergence(z, t) / 4

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """Reflection of the variance at 0; a step that would end at 0 exactly keeps it."""
        v = proposal[..., 1:].abs()
        return torch.cat([proposal[..., :1], torch.where(v == 0, z[..., 1:], v)], -1)

    @property
    def forward_scheme(self) -> str:
        return "exact variance, price by the trapezoidal rule, weak order 1"

    def forward_step(self, z: Tensor, t: Tensor, dt: Tensor, noise: Noise) -> Tensor:
        y, v = z.double().split(1, -1)
        h = dt.double().to(z.device)
        c = -2 * self.kappa / (self.xi**2 * torch.expm1(-self.kappa * h))
        met = noise.draw(torch.poisson, c * torch.exp(-self.kappa * h) * v)
        end = noise.gamma(2 * self.kappa * self.theta / self.xi**2 + met) / c
        total = h * (v + end) / 2
        tied = self.rho / self.xi * (end - v - self.kappa * self.theta * h)
        y = y + self.mu * h + tied + (self.kappa * self.rho / self.xi - 0.5) * total
        y = y + ((1 - self.rho**2) * total).sqrt() * noise.normal(y)
        return torch.where(h > 0, torch.cat([y, end], -1), z.double()).to(z)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Sample `z_t | x_0` by 32 steps."""
        z = self.encode(x0)
        for k in range(STEPS):
            z = self.forward_step(z, k * t / STEPS, t / STEPS, noise)
        return z

    def scale(self, t: Tensor) -> Tensor:
        """Standard deviation of `log S`, about: `√(θt)`."""
        return (self.theta * t).sqrt()

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Paths up to `t = 1` from log-normal rows with the medians and spreads of the data."""
        x0 = like.new_tensor(self._typical).expand(tuple(shape))
        if self.spread:
            x0 = x0 * (like.new_tensor(self.spread) * noise.normal(x0)).exp()
        return self.perturb(x0, torch.tensor(1.0, dtype=torch.float64), noise)

    @property
    def _typical(self) -> tuple[float, float]:
        return self.typical or (1.0, self.theta)
