"""What processes with noise `√x` at a boundary share: two clocks, and a network input in which the noise is the same everywhere.

A clock is a time change `β(t)` from 0 at `t = 0` to 1 at `t = 1`. Drift and squared diffusion carry its speed `β'`::

    β(t) = (g^{2t} − 1)/(g² − 1)      geometric: the noise `√β'` grows by the factor `g`
    β(t) = c t + (1 − c) t²           quadratic, if `start` is given

Networks learn at times uniform in `t`. The geometric clock spends the same time at every order of magnitude of the noise, down to a small
part of the narrowest column. The quadratic clock spends nearly all of it at noise as wide as the prior: at `c = 0.05`, only 5 % of the
times have `√β < 0.1`, and columns much narrower come out too wide.

In the network input `y` the noise has the standard deviation `r √β` for small `β`, and the mean reverts at the rate `λ`. With the mean
`m_i` and the standard deviation `s_i` of column `i` of the data, the standardized input is::

    (y_i − m_i)/√(s_i² + v),      v = r² (1 − e^{−2λβ})/(2λ)
"""

import math
from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, Self

import torch
from annotated_types import Gt, Interval
from torch import Tensor

from sdezoo.errors import ParameterError
from sdezoo.parameters import NonNegative
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional
from sdezoo.process.sde import Stationary
from sdezoo.process.standardized import by_column, column_moments, wide

GROWTH = 50.0
"""The least growth that is set from data."""

SHARE = 0.03
"""Noise at the first time `lo`, in units of the spread of the narrowest column."""

RESOLVED = 8 * torch.finfo(torch.float32).eps / 2
"""Eight times the distance of two float32 numbers below 1: noise at `lo` that is set from data is no smaller in any state."""


def clock(t: Tensor, growth: float, start: float | None, factor: float = 1.0) -> Tensor:
    """`β(t)`, times a factor.

    Args:
        t: times in [0, 1].
        growth: `g` of the geometric clock, above 1; unused if `start` is given.
        start: `c` of the quadratic clock; None: the geometric clock.
        factor: the factor.

    Returns:
        `factor β`, shaped like `t`, in its dtype.
    """
    if start is not None:
        return factor * t * (start + (1 - start) * t)
    k = 2 * math.log(growth)
    return torch.expm1(k * t) * (factor / math.expm1(k))


def clock_speed(t: Tensor, growth: float, start: float | None, factor: float = 1.0) -> Tensor:
    """`β'(t)`, times a factor.

    Args:
        t: as for `clock`.
        growth: as for `clock`.
        start: as for `clock`.
        factor: the factor.

    Returns:
        `factor β'`, shaped like `t`, in its dtype.
    """
    if start is not None:
        return factor * (start + 2 * (1 - start) * t)
    k = 2 * math.log(growth)
    return torch.exp(k * t) * (factor * k / math.expm1(k))


def root(x: Tensor) -> Tensor:
    """`√|x|`, the noise of a solver stage that may lie outside the support. Without `abs`, whose second derivative loads torch's compiler.

    Args:
        x: any shape.
    """
    return torch.where(x < 0, -x, x).sqrt()


def growth_for(first: float, lo: float) -> float:
    """The growth `g` at which `β(lo)` is `first`; 50 if that is more.

    Args:
        first: `β(lo)`, positive.
        lo: the first time, below 1.

    Returns:
        `g`.
    """
    growth = GROWTH
    for _ in range(40):  # each round leaves less than an eighth of the error of log g
        growth = max(GROWTH, math.sqrt(1 + math.expm1(2 * math.log(growth) * lo) / first))
    return growth


Growth = Annotated[float, Gt(1)]
Start = Annotated[float, Interval(gt=0, le=1)]


class SquareRoot(Stationary, Conditional):
    """A process with noise `√x` at a boundary. Abstract: `even`, `even_noise`, `resolved`, and the fields below, each with default None."""

    growth: Growth | None
    """Growth `g` of the noise from `t = 0` to 1. None: set from the data, so that the noise starts at 3 % of the spread of the narrowest
    column, but not below what float32 resolves; 50 if that is less."""
    start: Start | None
    """Speed `c` at the data of the quadratic clock `c t + (1 − c) t²`; 1: constant speed. None: the geometric clock."""
    center: tuple[float, ...] | None
    """Means of the network input, one number per column or one for all; None: set from the data, or 0 with `start`."""
    spread: tuple[NonNegative, ...] | None
    """Standard deviations of the network input, one number per column or one for all; None: set from the data, or the network input is not
    standardized with `start`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.growth is not None and self.start is not None:
            raise ParameterError(
                f"{self.title()}: growth={self.growth:g} and start={self.start:g} are of two different clocks.",
                "Give growth for the geometric clock, or start for the quadratic one.",
            )

    @abstractmethod
    def even(self, z: Tensor) -> Tensor:
        """The coordinates `y` of a state `z`, in which the noise is the same everywhere; `(B, …)`."""

    @abstractmethod
    def even_noise(self, columns: int) -> tuple[float, float]:
        """`r` and `λ`: the noise of `y` and its rate of mean reversion, for a last dimension of `columns`."""

    @abstractmethod
    def resolved(self, z: Tensor) -> float:
        """The smallest `β` whose noise is at least `RESOLVED` at all states `z`, up to a factor of order one."""

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """Map data to the state at `t = 0`; `noise` is unused. Default: the data unchanged."""
        return x

    @property
    def homogeneous(self) -> bool:
        """Whether the clock is `β = t`."""
        return self.start == 1

    def own_sampler(self) -> str | None:
        """`heun` with the geometric clock: near the data every step shrinks the noise by the same factor, which few Euler steps follow
        too coarsely."""
        return "heun" if self.start is None else None

    def fitted(self, x0: Tensor) -> Self:
        """The process with clock and network input set from data, where they are not given; itself if `start` is given.

        Args:
            x0: clean data, `(N, *event)`. Columns of a table have their own `center` and `spread`.
        """
        if self.start is not None:
            return self
        z = self.encode(wide(x0))
        y = self.even(z)
        center, spread = column_moments(by_column(y), self.center, self.spread)
        growth = self.growth
        if growth is None:
            widths = [value for value in spread if value > 0]
            noise = self.even_noise(y.shape[-1])[0]
            growth = growth_for(max((SHARE * min(widths) / noise) ** 2, self.resolved(z)), self.t_span[0]) if widths else GROWTH
        return replace(self, growth=growth, center=center, spread=spread)  # pyright: ignore[reportArgumentType]

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        """`even` less `center`, in units of its noised standard deviation if `spread` is set."""
        y = self.even(z)
        if self.center is not None:
            y = y - y.new_tensor(self.center)
        if self.spread is None:
            return y
        noise, rate = self.even_noise(y.shape[-1])
        variance = noise**2 / (2 * rate) * -torch.expm1(-2 * rate * self.clock(t))
        return y / (y.new_tensor(self.spread) ** 2 + variance.to(y)).sqrt()

    def clock(self, t: Tensor, factor: float = 1.0) -> Tensor:
        """`factor β(t)`."""
        return clock(t, self.growth or GROWTH, self.start, factor)

    def clock_speed(self, t: Tensor, factor: float = 1.0) -> Tensor:
        """`factor β'(t)`."""
        return clock_speed(t, self.growth or GROWTH, self.start, factor)
