"""Data in a box with values exactly on its walls, such as shares that are often 0 or 1, and indicators.

An entry is `low`, `high` or in between, where it has the coordinate `u = logit((x − low)/(high − low))`. As in `zero-inflated`, the state
holds coordinates and marks, concatenated along the first dimension of the data::

    z_0 = ((u − c)/s, 0)   inside,      z_0 = (0, −2)   at low,      z_0 = (0, 2)   at high
    x   = low + (high − low)/(1 + e^{−(c + sζ)})   if |mark| < 1,      low   if mark ≤ −1,      high   if mark ≥ 1

Both are noised in the same way, `z_t = z_0 + √v ε`, `v = (σ_max/r)² (r^{2t} − 1)`. `c` and `s` are mean and deviation of `u` over the
values inside, for each column. If there are none, a column has two marks only, told apart by their sign.

Samples are in the box, and on its walls as often as the data, by construction. The data have a joint distribution of walls and values,
and no density.

Noised marks for a mixed distribution: Chen, Zhang & Hinton, arXiv 2208.04202 (bits, rounded by their sign).
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import numpy as np
import torch
from annotated_types import Gt
from torch import Tensor
from torch.distributions import Transform, constraints

from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.affine import AffineSDE, Coefficients, leading_spread
from sdezoo.process.columns import ColumnFit, piles_up
from sdezoo_plugins.sdes.shared.exploding import TERMINAL, WithMarks, exploding

MARK = 2.0
NEAR, FEW, SHARE, LEVELS, PILE, PERCENT = 0.9, 3, 0.01, 10, 0.04, 100
"""A column is in a box from 0 to 1 if it goes beyond 0.9; in another one if a hundredth of its rows, three at least, are on each wall,
or 4 % on the upper one, such as full marks, and it has more than ten different values. It is in a box from 0 to 100 if that is its largest
value, in three rows at least if all are whole numbers: percentages. If rows pile up at their least value, it is the lower wall."""


class Walled(WithMarks):
    """`(ζ, mark)`, concatenated along the first dimension of an event, to a value inside the box or on one of its walls.

    Args:
        low: lower wall, the float32 number closest to it, since data are float32.
        high: upper wall, likewise.
        center: `c`, one for each entry of the last dimension, or one for all.
        spread: `s`, as `center`.
        threshold: size of the marks on a wall, as `center`.
    """

    def __init__(self, low: float, high: float, center: tuple[float, ...], spread: tuple[float, ...], threshold: tuple[float, ...]) -> None:
        super().__init__()
        low, high = _single(low), _single(high)
        self.low, self.high, self.center, self.spread, self.threshold = low, high, center, spread, threshold
        self.codomain = constraints.unit_interval if (low, high) == (0, 1) else constraints.interval(low, high)

    def _call(self, x: Tensor) -> Tensor:
        zeta, mark = x.double().chunk(2, 1)
        center, spread, wall = (zeta.new_tensor(values) for values in (self.center, self.spread, self.threshold))
        inside = self.low + (self.high - self.low) * torch.sigmoid(center + spread * zeta)
        return torch.where(mark >= wall, self.high, torch.where(mark <= -wall, self.low, inside)).to(x.dtype)

    def _inverse(self, y: Tensor) -> Tensor:
        y64 = y.double()
        there = (y64 > self.low) & (y64 < self.high)
        u = torch.logit(torch.where(there, (y64 - self.low) / (self.high - self.low), 0.5))
        center, spread = u.new_tensor(self.center), u.new_tensor(self.spread)
        zeta = torch.where(there & (spread > 0), (u - center) / torch.where(spread > 0, spread, 1.0), 0.0)
        return torch.cat([zeta, torch.where(there, 0.0, torch.where(y64 <= self.low, -MARK, MARK))], 1).to(y.dtype)


@dataclass(frozen=True)
class Walls(AffineSDE):
    """Data in a box with values exactly on its walls: each value has a mark, noised too, that says whether it is on a wall."""

    papers: ClassVar[tuple[str, ...]] = ("chen2023analog",)

    low: float = 0.0
    """Lower wall."""
    high: float = 1.0
    """Upper wall."""
    sigma_max: Positive | None = None
    """Terminal standard deviation of the noise in coordinates; None: four times the data's leading principal standard deviation."""
    growth: Annotated[float, Gt(1)] = 50.0
    """`r`, the growth of the noise: its scale near `t = 0` is `sigma_max / r`."""
    center: tuple[float, ...] | None = None
    """`c`, one number per column or one for all; None: mean of `u` over a column's values inside."""
    spread: tuple[NonNegative, ...] | None = None
    """`s`, one number per column or one for all; None: standard deviation of `u` over a column's values inside, 1 for images."""
    threshold: tuple[NonNegative, ...] | None = None
    """Size of the marks on a wall, one number per column or one for all; None: 1, or 0 for a column without values inside."""

    @classmethod
    def column_fit(cls, column: Tensor) -> ColumnFit | None:
        low, high = float(column.min()), float(column.max())
        end = low if piles_up(column) else 0.0
        if low >= 0 and NEAR < high <= 1 and (low == end or high == 1):
            box = f":low={np.float32(end)!s},high=1.0" if end else ""
            return ColumnFit(4, f"between {end:g} and 1, with values on the walls", f"{cls.title()}{box}")
        rows = max(FEW, SHARE * len(column))
        above = int((column == high).sum())
        percent = low >= 0 and high == PERCENT and (above >= FEW or bool((column != column.round()).any()))
        low = end if percent else low
        below, piled = int((column == low).sum()), percent or above >= max(FEW, PILE * len(column))
        if (min(below, above) < rows and not piled) or (len(column.unique()) <= LEVELS and not percent):
            return None
        where = "both walls" if below >= rows else "the upper wall"
        values = "values" if percent else "many values"
        return ColumnFit(
            4,
            f"between {low:g} and {high:g}, with {values} on {where}",
            f"{cls.title()}:low={np.float32(low)!s},high={np.float32(high)!s}",
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising(low=self.low, high=self.high)

    @property
    def coordinates(self) -> Transform:
        return Walled(self.low, self.high, self.center or (0.0,), self.spread or (1.0,), self.threshold or (MARK / 2,))

    def adapted(self, x0: Tensor) -> Self:
        if self.sigma_max is not None:
            return self
        measured = self
        if x0.ndim == 2:
            columns = [self._inside(column) for column in x0.double().T]
            center = self.center or tuple(float(u.mean()) if len(u) else 0.0 for u in columns)
            spread = self.spread or tuple(float(u.std()) if len(u.unique()) > 1 else 0.0 for u in columns)
            threshold = self.threshold or tuple(MARK / 2 if len(u) else 0.0 for u in columns)
            measured = replace(self, center=center, spread=spread, threshold=threshold)
        return replace(measured, sigma_max=TERMINAL * leading_spread(measured.encode(x0)))

    def known_entries(self, known: Tensor) -> Tensor:
        """The value and the mark of each known entry."""
        return torch.cat([known, known], 1)

    def coefficients(self, t: Tensor) -> Coefficients:
        return exploding(t, (self.sigma_max or TERMINAL) / self.growth, self.growth)

    def _inside(self, column: Tensor) -> Tensor:
        """The coordinates `u` of the values that are on no wall."""
        low, high = _single(self.low), _single(self.high)
        share = (column - low) / (high - low)
        return torch.logit(share[(share > 0) & (share < 1)])


def _single(value: float) -> float:
    return float(np.float32(value))
