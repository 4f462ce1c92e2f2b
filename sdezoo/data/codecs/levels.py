"""Levels of images: those that many pixels have, such as a black ground, get more room.

A network errs by a hundredth or so of the range of the pixels, which is several of 256 levels: where the data are black, samples have
levels 0 to 3. So pixels are mapped by a mixture of the uniform distribution on `[0, 1]` and that of the frequent levels, each spread over
its cell `[(k − ½)/L, (k + ½)/L]`::

    x = Σ_{j < k} w_j + w_k (L raw − k + ½),      w_k = w + a p_k,      Σ_k w_k = 1

with `p_k` the share of the pixels that have the level `k`, if it is frequent, else 0. Pixels of a level stand in the middle of its cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sdezoo.data.codecs.codec import Codec, damaged, indices, numbers

_FREQUENT = 0.01
_ROOM = 0.3
_FEWEST, _MOST = 64, 2**16


@dataclass(frozen=True, eq=False)
class LevelCodec(Codec):
    """Gives frequent levels of images more room. Entire images are encoded, all entries alike.

    Args:
        levels: `L`; values are multiples of 1/L.
        frequent: the frequent levels, increasing.
        widths: the width `w_k` of the cell of each of them.

    Raises:
        DataError: if a level is not between 0 and `levels`, or the widths are not positive or leave no room for the other levels.
    """

    kind: ClassVar[str] = "levels"

    levels: int
    frequent: tuple[int, ...]
    widths: tuple[float, ...]

    def __post_init__(self) -> None:
        among = 0 < len(self.frequent) <= self.levels <= _MOST and self.frequent[-1] <= self.levels
        if not (among and sum(self.widths) < 1 and all(width > 0 for width in self.widths)):
            raise damaged()

    @cached_property
    def _cells(self) -> Tensor:
        """The widths of all cells, float64 `(levels + 1,)`."""
        rest = (1 - sum(self.widths)) / (self.levels + 1 - len(self.frequent))
        cells = torch.full((self.levels + 1,), rest, dtype=torch.float64)
        cells[list(self.frequent)] = torch.tensor(self.widths, dtype=torch.float64)
        return cells

    @cached_property
    def _edges(self) -> Tensor:
        """The lower edges of all cells, float64 `(levels + 1,)`."""
        return self._cells.cumsum(0) - self._cells

    def _level(self, raw: Tensor) -> Tensor:
        return (raw * self.levels).round().clamp(0, self.levels).long()

    def encode(self, raw: Tensor) -> Tensor:
        k = self._level(raw)
        return self._edges[k] + self._cells[k] * (raw * self.levels - k + 0.5)

    def decode(self, x: Tensor) -> Tensor:
        k = (torch.searchsorted(self._edges, x.contiguous(), right=True) - 1).clamp_min(0)
        return (k - 0.5 + (x - self._edges[k]) / self._cells[k]) / self.levels

    def log_det(self, raw: Tensor) -> Tensor:
        return (self._cells * self.levels).log()[self._level(raw)].flatten(1).sum(1)

    def parameters(self) -> dict[str, Any]:
        return {"levels": self.levels, "frequent": list(self.frequent), "widths": list(self.widths)}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        levels, frequent = values.get("levels"), indices(values, "frequent")
        if not isinstance(levels, int):
            raise damaged()
        return cls(levels, frequent, numbers(values, "widths", len(frequent)))


def fit_levels(pixels: Tensor, levels: int | None) -> LevelCodec | None:
    """Find the levels that at least a hundredth of the pixels have.

    Args:
        pixels: values of images, in [0, 1], of any shape.
        levels: `L`, see `LevelCodec`; None: continuous.

    Returns:
        The codec; None if there is no such level, or the lattice is so coarse (64 levels or fewer) that no network errs by a level.
    """
    if levels is None or levels < _FEWEST:
        return None
    shares = torch.bincount((pixels.flatten() * levels).round().long(), minlength=levels + 1).double() / pixels.numel()
    frequent = (shares >= _FREQUENT).nonzero().flatten()
    if not len(frequent):
        return None
    rest = (1 - _ROOM * shares[frequent].sum()) / (levels + 1)
    return LevelCodec(levels, tuple(frequent.tolist()), tuple((rest + _ROOM * shares[frequent]).tolist()))
