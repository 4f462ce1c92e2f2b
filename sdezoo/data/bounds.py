"""Samples outside the range of the data: how many values, and how far.

Data on a lattice (8-bit images, whole numbers) are written back to it by rounding. A sample of theirs is outside where rounding does not
bring it back: by more than half a step. Nothing is clamped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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
        types: of a table's columns, as NumPy names them, see `sdezoo.data.dataset.Data`: whole numbers are multiples of 1.
    """

    low: Tensor
    high: Tensor
    levels: int | None = None
    types: Sequence[str] = ()

    @property
    def step(self) -> Tensor:
        """Of the lattice, 0-dim or (d,); 0 where data are continuous."""
        if self.types:
            return torch.tensor([float(np.dtype(kind).kind in "iu") for kind in self.types])
        return torch.tensor(1 / self.levels if self.levels else 0.0)

    def outside(self, samples: Tensor) -> Outside:
        """The values of `samples` (n, *event), in the user's units, that lie more than half a step outside; nothing is changed."""
        low, high, step = (bound.to(samples.device, samples.dtype) for bound in (self.low, self.high, self.step))
        beyond = torch.maximum(low - samples, samples - high)
        wrong = ~(beyond <= step / 2)
        if not wrong.any():
            return Outside()
        width = torch.where(high > low, high - low, torch.ones_like(high))
        return Outside(int(wrong.sum()), float((beyond / width)[wrong].max()))
