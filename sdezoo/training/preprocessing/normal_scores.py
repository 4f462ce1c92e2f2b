"""Fit the maps of columns to normal scores, see `sdezoo.data.codecs.normal_scores`, to the shares `F` of rows below a value.

Knots are midpoints between neighbouring values, so that whole numbers keep their shares; beyond an end at which several rows lie, there is
next to nothing.

A column may end where many values are, such as an angle at 360 degrees. Then it has two more knots: its last value, and three scores
further, one gap between neighbouring values beyond it, from where on the map is that of a normal column. Such an end is told from a tail
by the gaps `D_i` from the end inwards: they have the same mean at an end, and means `θ/i` in an exponential tail (Rényi's representation).
Of `k` gaps, the logarithm of the ratio of the likelihoods is::

    Λ = k ln(Σ i D_i / Σ D_i) − ln k!
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sdezoo.data.codecs.normal_scores import Column, NormalScoreCodec, Scales
from sdezoo.training.preprocessing.coordinate_choice import likelier_as_scores

_ROWS, _VALUES = 16, 4
"""Fewer rows, or fewer different values, give a column no knots."""
_PER_KNOT, _KNOTS, _ALL_KNOTS = 12, 48, 2**13
"""Rows for a knot; the largest number of knots of a column, and of a table: they are part of each checkpoint."""
_BEYOND, _FARTHEST, _PRIOR, _STEEPEST = 5, 3.7, 0.25, 0.1
"""At least 5 rows lie beyond the outermost knots, whose scores are at most 3.7. The slope beyond them is fitted to these rows. Its prior is
the slope of a normal column, with this weight, in squared scores. Where values lie closer in the last score before a knot, such as before a
wall, the prior is the slope there, up to ten times as steep."""
_GAPS, _MOST_GAPS, _LIKELIER, _AFTER = 20, 60, 3.0, 3.0
"""An end is looked for in an eighth of the rows, 20 to 60 gaps. It is one if it is `e³` times as likely as a tail."""


def fit_normal_scores(
    rows: Tensor,
    places: Sequence[int],
    log: Sequence[bool],
    cells: Sequence[float] = (),
    boxes: Sequence[tuple[float, float] | None] = (),
) -> tuple[NormalScoreCodec, ...]:
    """Fit the maps of columns; columns of too few rows or values are left as they are.

    Args:
        rows: training rows `(N, d)`, float64; NaN is left out.
        places: increasing indices of the columns to map.
        log: for each of them, whether it is on a half-line, so that its logarithm is mapped.
        cells: for each of them, the step of its lattice, each value in the middle of its cell; 0: no lattice. Empty: none has one.
        boxes: for each of them, the walls between which its values lie, on which they are not mapped; None: no walls. Empty: none has some.

    Returns:
        The codec; nothing if no column is mapped. Columns that others nearly determine, along a plane, are left as they are where that is
        likelier, see `coordinate_choice`.
    """
    most = min(_KNOTS, _ALL_KNOTS // max(len(places), 1))
    columns = zip(places, log, cells or [0.0] * len(places), boxes or [None] * len(places), strict=True)
    found = [_fitted(rows[:, place], half, box, cell, most) for place, half, cell, box in columns]
    kept = {place: each for place, each in zip(places, found, strict=True) if each is not None}
    if not kept:
        return ()
    every = NormalScoreCodec(tuple(kept), tuple(each for each, _ in kept.values()))
    chosen = likelier_as_scores(rows, every, torch.tensor([free for _, free in kept.values()]))
    mapped = {place: kept[place][0] for place, as_score in zip(kept, chosen, strict=True) if as_score}
    return (NormalScoreCodec(tuple(mapped), tuple(mapped.values())),) if mapped else ()


def _fitted(column: Tensor, log: bool, box: tuple[float, float] | None, cell: float, most: int) -> tuple[Column, bool] | None:
    """The map of a column, and whether it may also do without: it has neither an end nor a frequent value of a lattice."""
    scale = Scales.of([(log, box)])
    column = column[scale.inside(column)]
    values, counts = column.unique(return_counts=True)
    rows = len(column)
    if rows < _ROWS or len(values) < _VALUES or most < 2:
        return None
    seen = scale.coordinates(column)
    mean, spread = float(seen.mean()), float(seen.std())
    edges, shares, frequent = _edges(values, counts, (float(scale.low), float(scale.high)), cell, most)
    edges = scale.coordinates(edges)
    scores = torch.special.ndtri(shares)
    knots = _knots(edges, scores, frequent, rows, most)
    if len(knots) < 2 or not spread > 0:
        return None
    first, last = knots[0], knots[-1]
    slopes = (_slope(edges.flip(0), scores.flip(0), len(edges) - 1 - first, spread), _slope(edges, scores, last, spread))
    ordered, half = seen.sort().values, cell / 2 * (1 - 1e-6)
    ends = scale.coordinates(torch.stack([values[0] - half, values[-1] + half]))
    low = [(-v, -score) for v, score in reversed(_end(-ordered.flip(0), -float(ends[0])))]
    high = _end(ordered, float(ends[1]))
    start, stop = (low or [(-math.inf, -math.inf)])[-1], (high or [(math.inf, math.inf)])[0]
    found = [(float(edges[k]), float(scores[k])) for k in knots]
    inner = [(v, score) for v, score in found if start[0] < v < stop[0] and start[1] < score < stop[1]]
    placed, scored = zip(*low, *inner, *high, strict=True)
    slopes = (1 / spread if low else slopes[0], 1 / spread if high else slopes[1])
    return Column(placed, scored, slopes, mean, spread, log, box), not (low or high or frequent.any())


def _end(seen: Tensor, end: float) -> list[tuple[float, float]]:
    """Two knots where a column ends, coordinate and score of each; none if it has a tail, or too few rows to tell.

    Args:
        seen: coordinates of the rows, increasing.
        end: that of the end of the last cell.
    """
    rows = len(seen)
    k = min(rows // 8, _MOST_GAPS)
    if k < _GAPS:
        return []
    gaps = seen[-k - 1 :].diff().flip(0)
    mean, weighted = float(gaps.mean()), float((gaps * torch.arange(1, k + 1)).mean())
    if not mean > 0 or k * math.log(weighted / mean) - math.lgamma(k + 1) < _LIKELIER:
        return []
    score = -float(torch.special.ndtri(torch.tensor(0.5 / (rows + 1), dtype=torch.float64)))
    return [(end, score), (end + mean, score + _AFTER)]


def _edges(values: Tensor, counts: Tensor, ends: tuple[float, float], cell: float, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Edges between the values, the share of rows below each, and which of them end the cell of a frequent value.

    Where several rows have the smallest or the largest value, as on a lattice, the outer edge of its cell counts too. Of `n + 1` rows in
    any order the last is beyond all others with a probability of at most `1/(n + 1)`. Between two frequent values without a value between
    them the share is half a row's.
    """
    rows, width = int(counts.sum()), values.diff()
    edges, shares = (values[1:] + values[:-1]) / 2, counts.cumsum(0)[:-1].double() / rows
    enough = max(_PER_KNOT, int(counts.topk(min(most, len(counts))).values[-1]))
    frequent = (counts >= enough) & (cell > 0)
    before, after = frequent[:-1], frequent[1:]
    edges = torch.where(before, values[:-1] + cell / 2, torch.where(after, values[1:] - cell / 2, edges))
    between = before & after & (width > 1.5 * cell)
    shares = shares - between / (4 * rows)
    parts = [(edges, shares, before | after), (values[1:][between] - cell / 2, shares[between] + 1 / (2 * rows), between[between])]
    low, high = values[0] - (edges[0] - values[0]), values[-1] + (values[-1] - edges[-1])
    if counts[0] > 1 and low > ends[0]:
        parts.append((low[None], shares.new_tensor([1 / (rows + 1)]), frequent[:1]))
    if counts[-1] > 1 and high < ends[1]:
        parts.append((high[None], shares.new_tensor([rows / (rows + 1)]), frequent[-1:]))
    edges, shares, marked = (torch.cat(each) for each in zip(*parts, strict=True))
    order = edges.argsort()
    return edges[order], shares[order], marked[order]


def _knots(edges: Tensor, scores: Tensor, ends: Tensor, rows: int, most: int) -> list[int]:
    """The edges that are knots: at the ends of the cells of frequent values, else as near as may be to equal steps of the score."""
    far = min(-float(torch.special.ndtri(torch.tensor(_BEYOND / rows, dtype=torch.float64))), _FARTHEST)
    levels = torch.linspace(-far, far, min(max(rows // _PER_KNOT, 3), most), dtype=torch.float64)
    gap = float(levels[1] - levels[0]) / 2
    right = torch.searchsorted(scores, levels).clamp(1, len(scores) - 1)
    nearest = torch.where(levels - scores[right - 1] < scores[right] - levels, right - 1, right)
    knots = ends.nonzero().flatten().tolist()
    for k in nearest.unique().tolist():
        apart = (scores[knots] - scores[k]).abs() >= gap
        if abs(float(scores[k])) <= far + gap and bool(apart.all()) and not bool((edges[knots] == edges[k]).any()):
            knots.append(k)
    return sorted(knots)


def _slope(edges: Tensor, scores: Tensor, last: int, spread: float) -> float:
    """Slope of the scores beyond the knot `last`: the inverse of the least-squares slope of the values over the scores, with a prior."""
    values, away = edges - edges[last], scores - scores[last]
    inner = int((away[:last].abs() >= 1).sum()) - 1
    before = min(max(float(values[inner] / away[inner]), _STEEPEST * spread), spread) if inner >= 0 else spread
    value = (float((values * away)[last + 1 :].sum()) + _PRIOR * before) / (float((away**2)[last + 1 :].sum()) + _PRIOR)
    return 1 / value
