"""Count sample values outside the range of the data, and make pixels final.

Decoded rows of tables are final, see `sdezoo.data.encoding`: nothing is clamped, and values outside the range of the data are counted.
Pixels of images with levels, such as the 256 of 8 bits, take the nearest level. They are counted before: a pixel is outside if it is
beyond the range by more than half a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def nearest_levels(images: Tensor, levels: int) -> Tensor:
    """Round pixels to the nearest of the levels `0, 1/L, …, 1`.

    Args:
        images: pixels of any shape; not changed.
        levels: `L`.
    """
    return (images.clamp(0, 1) * levels).round() / levels


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

    def final(self, samples: Tensor) -> Tensor:
        """Make decoded rows final: pixels take the nearest level of the data, other values stay as they are.

        Args:
            samples: rows `(n, *event)` in the user's units; not changed.
        """
        return samples if self.levels is None else nearest_levels(samples, self.levels)

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
