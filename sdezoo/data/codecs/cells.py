"""Values of a lattice, anywhere in their cells: in training a normal score is drawn anew within the cell of its value.

The map to normal scores makes the values of a lattice a few points, which are hard to learn if they are far apart. Samples are rounded to
the lattice, so each value may stand anywhere in its cell. Drawn from the normal law between the scores `a` and `b` of the edges, it makes a
normal column (uniform dequantization, Theis et al., arXiv 1511.01844)::

    S = Φ⁻¹(Φ(a) + U (Φ(b) − Φ(a)))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sdezoo.data.codecs.codec import AffineCodec
from sdezoo.data.codecs.normal_scores import NormalScoreCodec

_INSIDE = 1e-7


@dataclass(frozen=True, eq=False)
class Cells:
    """The encoded columns whose values have cells.

    Args:
        first: encodes rows by the codecs before the map to normal scores, float64.
        scores: that map.
        last: the codec after it.
        steps: the width of a cell of each encoded column, float64 `(d,)`; 0: no lattice.
        sources: the column of the table that each encoded column comes from.
    """

    first: Callable[[Tensor], Tensor]
    scores: NormalScoreCodec
    last: AffineCodec
    steps: Tensor
    sources: tuple[int, ...]

    @cached_property
    def places(self) -> list[int]:
        """The encoded columns that have cells."""
        return [place for place in self.scores.places if self.steps[place] > 0]

    def edges(self, raw: Tensor) -> Tensor:
        """The scores of the edges of each value's cell, float64 `(2, N, places)`; NaN for values without one: missing
        ones, zeros, and those on a wall.

        Args:
            raw: rows in the user's units, `(N, d)`.
        """
        values, at = self.first(raw), self._among
        low, high = (self.scores.score(values + side * self.steps / 2)[:, at] for side in (-1, 1))
        gone = raw.cpu()[:, [self.sources[place] for place in self.places]].isnan()
        gone |= ~self.scores.inside(values)[:, at]
        return torch.stack([low, high]).masked_fill(gone, torch.nan)

    def draw(self, x: Tensor, edges: Tensor, uniform: Tensor) -> Tensor:
        """The rows with values drawn anew within their cells.

        Args:
            x: encoded rows `(B, d)`.
            edges: of their cells, `(2, B, places)`.
            uniform: uniform numbers in [0, 1), `(B, places)`.
        """
        low, high = edges
        # In the left half, where small shares are exact.
        flip = low > 0
        low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
        below, above = torch.special.ndtr(low), torch.special.ndtr(high)
        found = torch.special.ndtri(below + (_INSIDE + (1 - 2 * _INSIDE) * uniform.cpu().double()) * (above - below))
        made = self.scores.from_scores(torch.where(flip, -found, found), self._among)
        scale, shift = (part.double().expand(x.shape[1])[self.places] for part in (self.last.scale, self.last.shift))
        made = (scale * made + shift).to(x.device, x.dtype)
        drawn = x.clone()
        # A value so far out that its cell has no share stays.
        drawn[:, self.places] = torch.where(made.isfinite(), made, x[:, self.places])
        return drawn

    @staticmethod
    def evenly(edges: Tensor, keys: Tensor) -> Tensor:
        """Numbers for `draw` that are evenly spaced among the values of a cell: columns are then as normal as rows are many.

        Args:
            edges: of the cells, `(2, N, places)`.
            keys: random numbers `(N, places)`: the values of a cell are put into their order.

        Returns:
            Numbers in (0, 1), `(N, places)`.
        """
        found = torch.empty_like(keys)
        for column, (low, key) in enumerate(zip(edges[0].nan_to_num(torch.inf).T, keys.T, strict=True)):
            order = key.argsort()
            order = order[low[order].argsort(stable=True)]
            counts = low[order].unique_consecutive(return_counts=True)[1]
            first = (counts.cumsum(0) - counts).repeat_interleave(counts)
            found[order, column] = ((torch.arange(len(low)) - first + 0.5) / counts.repeat_interleave(counts)).to(found)
        return found

    @cached_property
    def _among(self) -> list[int]:
        return [self.scores.places.index(place) for place in self.places]
