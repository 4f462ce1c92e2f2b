"""Count sample values outside the range of the data, and how far outside they lie.

Samples are final rows, see `sdezoo.data.encoding`: integer columns are already rounded. Images on a lattice (8-bit) are rounded to it only
when a picture is written. A pixel counts as outside if rounding does not bring it back, that is, beyond half a step. Nothing is clamped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Outside:
    """Statistics of the values outside the range of the data.

    Args:
        count: number of values outside.
        farthest: largest distance from the range, in units of its width; 0 if no value is outside.
    """

    count: int = 0
    farthest: float = 0.0

    def __add__(self, other: Outside) -> Outside:
        return Outside(self.count + other.count, max(self.farthest, other.farthest))

    @property
    def by(self) -> str:
        """The distance in words, to follow "outside the range of the data"; empty if no value is outside."""
        return f", by up to {100 * self.farthest:.2g} % of its width" if self.count else ""


@dataclass(frozen=True, eq=False)
class Bounds:
    """The range of the data in the user's units, and their lattice.

    Args:
        low: smallest value; 0-dim, or `(d,)`.
        high: largest value; 0-dim, or `(d,)`.
        levels: values are multiples of 1/levels; None: continuous.
        missing: columns of a table in which NaN is a missing value.
    """

    low: Tensor
    high: Tensor
    levels: int | None = None
    missing: Sequence[int] = ()

    def outside(self, samples: Tensor) -> Outside:
        """Count the values that lie outside the range by more than half a lattice step. So does NaN, if it is no missing value.

        Args:
            samples: rows `(n, *event)` in the user's units; not changed.
        """
        low, high = (bound.to(samples.device, samples.dtype) for bound in (self.low, self.high))
        beyond = torch.maximum(low - samples, samples - high)
        wrong = ~(beyond <= (0.5 / self.levels if self.levels else 0.0))
        if self.missing:
            wrong[..., list(self.missing)] &= ~samples[..., list(self.missing)].isnan()
        if not wrong.any():
            return Outside()
        width = torch.where(high > low, high - low, torch.ones_like(high))
        return Outside(int(wrong.sum()), float((beyond / width)[wrong].max()))
