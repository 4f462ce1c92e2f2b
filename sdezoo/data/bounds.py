"""Samples outside the range of the data: how many values, and how far.

Samples are final rows, see `sdezoo.data.encoding`: whole numbers are whole already. Images on a lattice (8-bit) are written back to it by
rounding, in pictures. A value of theirs is outside where rounding does not bring it back: by more than half a step. Nothing is clamped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Outside:
    """Values outside the range of the data.

    Args:
        count: how many. farthest: the largest distance from the range, in units of its width; 0 where none is outside.
    """

    count: int = 0
    farthest: float = 0.0

    def __add__(self, other: Outside) -> Outside:
        return Outside(self.count + other.count, max(self.farthest, other.farthest))

    @property
    def by(self) -> str:
        """How far, in words that follow "outside the range of the data"; empty where none is outside."""
        return f", by up to {100 * self.farthest:.2g} % of its width" if self.count else ""


@dataclass(frozen=True, eq=False)
class Bounds:
    """The range of data in the user's units, with the lattice that they lie on.

    Args:
        low, high: smallest and largest value; 0-dim, or (d,).
        levels: values are multiples of 1/levels; None: of nothing.
    """

    low: Tensor
    high: Tensor
    levels: int | None = None

    def outside(self, samples: Tensor) -> Outside:
        """The values of `samples` (n, *event), in the user's units, that lie more than half a step outside; nothing is changed."""
        low, high = (bound.to(samples.device, samples.dtype) for bound in (self.low, self.high))
        beyond = torch.maximum(low - samples, samples - high)
        wrong = ~(beyond <= (0.5 / self.levels if self.levels else 0.0))
        if not wrong.any():
            return Outside()
        width = torch.where(high > low, high - low, torch.ones_like(high))
        return Outside(int(wrong.sum()), float((beyond / width)[wrong].max()))
