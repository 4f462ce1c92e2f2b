"""Choose the columns that become normal scores, by likelihood.

Measures of one thing, such as width, height and area, have logarithms of which a sum is nearly constant. Maps of each column to a normal
one bend such planes. So a normal distribution of all columns is fitted, each column either as its normal score or as it is, and the
likelier choice is taken. With the standardized coordinates `u` of a column and its scores `S(u)`, the mean logarithm of the likelihood of
a row is, but for a constant::

    J = Σ_{columns as scores} (E[log S'(u)] + w) − ½ log |C|

`C` is the covariance matrix of the coordinates as chosen. A score is worth `w = 0.05` more, since it keeps the quantiles of its column.
`J` is raised column by column, from all columns as scores and from none, and the better end is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdezoo.data.codecs.normal_scores import NormalScoreCodec

WORTH = 0.05
"""`w`, in nats."""
_WIDEST, _ROWS, _ENOUGH, _SWEEPS, _LEAST = 64, 4, 2**14, 5, 1e-9
"""Columns that are compared with each other; the least rows for each, and the most of all; sweeps over the columns; and the least variance
of a direction."""


def likelier_as_scores(rows: Tensor, every: NormalScoreCodec, free: Tensor) -> list[bool]:
    """Return for each mapped column whether it becomes its normal score.

    Columns are compared in blocks of 64, in up to 16,384 rows. Without four rows for each column of a block, all of them become scores.

    Args:
        rows: training rows `(N, d)`, float64; NaN is left out.
        every: the maps of all columns that may become scores.
        free: for each of these columns, whether it may stay as it is, bool `(places,)`.
    """
    rows, chosen = rows[:: 1 + (len(rows) - 1) // _ENOUGH], []
    for first in range(0, len(every.maps), _WIDEST):
        block = slice(first, first + _WIDEST)
        chosen += _chosen(rows, NormalScoreCodec(every.places[block], every.maps[block]), free[block]).tolist()
    return chosen


def _chosen(rows: Tensor, maps: NormalScoreCodec, free: Tensor) -> Tensor:
    """The choice for the columns of a block, bool `(d,)`."""
    count, columns = len(rows), len(free)
    if count < _ROWS * columns or not free.any():
        return torch.ones_like(free)
    inside = maps.inside(rows)
    plain, scores, slopes = (torch.where(inside, each, 0.0) for each in maps.standardized(rows))
    gain = slopes.mean(0) + WORTH
    both = torch.cat([plain, scores], 1)
    both = both - both.mean(0)
    covariance = both.T @ both / (count - 1) + _LEAST * torch.eye(2 * columns, dtype=both.dtype)

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
