"""Choose the columns that become normal scores, by likelihood.

Measures of one thing, such as width, height and area, have logarithms of which a sum is nearly constant. Maps of each column to a normal
one bend such planes. So a normal distribution of all columns is fitted, each column either as its normal score or as it is, and the
likelier choice is taken. With the standardized coordinates `u` of a column and its scores `S(u)`, the mean logarithm of the likelihood of
a row is, but for a constant::

    J = Σ_{columns as scores} (E[log S'(u)] + w − k/N) − ½ log |C|

`C` is the covariance matrix of the coordinates as chosen, around their linear regression on the columns of two values. A length with one
mode for each of two species is normal within each, and a map to a single mode would widen both. The `k` knots of a map are fitted to the
`N` rows, which makes these likelier than new rows, by `k/N` in the mean (Akaike, IEEE Trans. Autom. Control 19, 1974). A score is worth
`w = 0.05` more, since it keeps the quantiles of its column. `J` is raised column by column, from all columns as scores and from none, and
the better end is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sdezoo.data.codecs.normal_scores import NormalScoreCodec

WORTH = 0.05
"""`w`, in nats."""
_WIDEST, _ROWS, _ENOUGH, _SWEEPS, _LEAST = 64, 4, 2**14, 5, 1e-9
"""Columns that are compared with each other; the least rows for each, and the most of all; sweeps over the columns; and the least variance
of a direction."""
_GIVEN = 256
"""The most columns of two values; of more, none is taken into account."""


def likelier_as_scores(rows: Tensor, every: NormalScoreCodec, free: Tensor) -> list[bool]:
    """Return for each mapped column whether it becomes its normal score.

    Columns are compared in blocks of 64, in up to 16,384 rows. Without four rows for each column of a block, all of them become scores.

    Args:
        rows: training rows `(N, d)`, float64; NaN is left out.
        every: the maps of all columns that may become scores.
        free: for each of these columns, whether it may stay as it is, bool `(places,)`.
    """
    rows, chosen = rows[:: 1 + (len(rows) - 1) // _ENOUGH], []
    given = _given(rows, every.places)
    for first in range(0, len(every.maps), _WIDEST):
        block = slice(first, first + _WIDEST)
        chosen += _chosen(rows, NormalScoreCodec(every.places[block], every.maps[block]), free[block], given).tolist()
    return chosen


def _given(rows: Tensor, mapped: Sequence[int]) -> Tensor:
    """An orthonormal basis of the columns of two values, `(N, r)`, without their means; none if there are not four rows for each column."""
    two = ((rows == rows.amin(0)) != (rows == rows.amax(0))).all(0)
    two[list(mapped)] = False
    if not 0 < int(two.sum()) <= min(_GIVEN, len(rows) // _ROWS):
        return rows[:, :0]
    columns = rows[:, two] - rows[:, two].mean(0)
    basis, sizes, _ = torch.linalg.svd(columns / columns.std(0), full_matrices=False)
    return basis[:, sizes > 1e-6 * sizes.sum()]  # the columns of a category depend on each other


def _chosen(rows: Tensor, maps: NormalScoreCodec, free: Tensor, given: Tensor) -> Tensor:
    """The choice for the columns of a block, bool `(d,)`."""
    count, columns = len(rows), len(free)
    if count < _ROWS * columns or not free.any():
        return torch.ones_like(free)
    inside = maps.inside(rows)
    plain, scores, slopes = (torch.where(inside, each, 0.0) for each in maps.standardized(rows))
    knots = torch.tensor([len(column.values) for column in maps.maps])
    gain = slopes.mean(0) + WORTH - knots / count
    both = torch.cat([plain, scores], 1)
    both = both - both.mean(0)
    both = both - given @ (given.T @ both)
    covariance = both.T @ both / (count - 1 - given.shape[1]) + _LEAST * torch.eye(2 * columns, dtype=both.dtype)

    def likelihood(choice: Tensor) -> float:
        at = _places(choice)
        return float(gain[choice].sum() - torch.linalg.slogdet(covariance[at][:, at]).logabsdet / 2)

    return max((_raised(covariance, gain, free, start) for start in (torch.ones_like(free), ~free)), key=likelihood)


def _places(choice: Tensor) -> Tensor:
    """Where the chosen coordinates stand in a matrix of all columns as they are, and then of all scores."""
    return torch.arange(len(choice)) + len(choice) * choice


def _raised(covariance: Tensor, gain: Tensor, free: Tensor, choice: Tensor) -> Tensor:
    """Change one column after the other where that raises `J`, until none does."""
    columns = len(gain)
    for _ in range(_SWEEPS):
        before = choice.clone()
        for i in free.nonzero()[:, 0].tolist():
            rest = _places(choice)[torch.arange(columns) != i]
            own = torch.tensor([i, columns + i])
            across = covariance[rest][:, own]
            left = covariance.diagonal()[own] - (across * torch.linalg.solve(covariance[rest][:, rest], across)).sum(0)
            as_it_is, as_score = -left.clamp_min(_LEAST).log() / 2
            choice[i] = as_score + gain[i] > as_it_is
        if (choice == before).all():
            break
    return choice
