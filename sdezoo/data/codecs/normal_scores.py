"""Normal scores: map the values of each column of a table smoothly to normal ones, before the process adds its noise.

Two peaks, a wall or a long tail in a single column cost a network much of its training. So an increasing function maps each column to a
normal one (on a half-line: a log-normal one, in a box: a logit-normal one) of the same mean and standard deviation (of the logarithm, of
the logit). The inverse maps samples back: if the network is right about a normal column, the quantiles of the samples are those of the
data. This is the normal score transform of geostatistics (Deutsch and Journel, GSLIB, 1998, section V.2), with a smooth function in place
of ranks::

    x = m + s S(v),      S(v_k) = Φ⁻¹(F(v_k)),      v the value, or its logarithm, or the logit of its share of the box

Values that are not inside, such as zeros or those on a wall, stay as they are.

`F` is the share of the rows below `v_k`. Knots are midpoints between neighbouring values, so that whole numbers keep their shares; beyond
an end at which several rows lie, there is next to nothing.
`S` is the monotone rational quadratic spline of Gregory and Delbourgo (IMA J. Numer. Anal. 2, 1982), whose inverse has a closed
form. It is linear beyond the first and the last knot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from sdezoo.data.codecs.codec import Codec, damaged, indices

_ROWS, _VALUES = 16, 4
"""Fewer rows, or fewer different values, give a column no knots."""
_PER_KNOT, _KNOTS, _ALL_KNOTS = 12, 48, 2**13
"""Rows for a knot; the largest number of knots of a column, and of a table: they are part of each checkpoint."""
_BEYOND, _FARTHEST, _PRIOR, _STEEPEST = 5, 3.7, 0.25, 0.1
"""At least 5 rows lie beyond the outermost knots, whose scores are at most 3.7. The slope beyond them is fitted to these rows. Its prior is
the slope of a normal column, with this weight, in squared scores. Where values lie closer in the last score before a knot, such as before a
wall, the prior is the slope there, up to ten times as steep."""


class Column(NamedTuple):
    """The map of a column."""

    values: tuple[float, ...]
    """`v` at the knots, increasing."""
    scores: tuple[float, ...]
    """Normal scores at the knots, increasing."""
    slopes: tuple[float, float]
    """Positive slopes of the score before the first knot and after the last."""
    mean: float
    """Mean `m` of `v`."""
    spread: float
    """Standard deviation `s` of `v`."""
    log: bool
    """Whether `v` is the logarithm."""
    box: tuple[float, float] | None = None
    """The walls between which values lie if `v` is the logit of their share of the box."""


@dataclass(frozen=True, eq=False)
class NormalScoreCodec(Codec):
    """Maps columns smoothly to normal, log-normal or logit-normal ones. Entire rows are encoded, so that columns keep their places.

    Args:
        places: increasing indices of the columns.
        maps: the map of each.

    Raises:
        DataError: if a map does not increase.
    """

    kind: ClassVar[str] = "normal-score"

    places: tuple[int, ...]
    maps: tuple[Column, ...]

    def __post_init__(self) -> None:
        numbers = [[*m.values, *m.scores, *m.slopes, m.mean, m.spread, *(m.box or ())] for m in self.maps]
        rising = all(a < b for m in self.maps for knots in (m.values, m.scores) for a, b in pairwise(knots))
        paired = all(len(m.values) == len(m.scores) >= 2 and min(*m.slopes, m.spread) > 0 for m in self.maps)
        boxed = all(m.box is None or (m.box[0] < m.box[1] and not m.log) for m in self.maps)
        if not (
            rising and paired and boxed and len(self.maps) == len(self.places) and all(math.isfinite(v) for row in numbers for v in row)
        ):
            raise damaged()

    def encoded_event(self, event: tuple[int, ...]) -> tuple[int, ...]:
        if not event or self.places[-1] >= event[-1]:
            raise damaged()
        return event

    def encode(self, raw: Tensor) -> Tensor:
        values = raw[..., self.places]
        made = self.from_scores(self._spline(self._scales.coordinates(values)))
        raw[..., self.places] = torch.where(self.inside(raw), made, values)
        return raw

    def decode(self, x: Tensor) -> Tensor:
        mean, spread = self._units
        values = x[..., self.places]
        found = self._scales.values(self._spline.inverse((self._scales.coordinates(values) - mean) / spread))
        x[..., self.places] = torch.where(self.inside(x), found, values)
        return x

    def inside(self, raw: Tensor) -> Tensor:
        """Which values are mapped: positive ones for a logarithm, those inside of a box, else all; bool `(…, places)`.

        Args:
            raw: rows `(…, d)`, encoded or not: the map keeps both ends.
        """
        return self._scales.inside(raw[..., self.places])

    def score(self, raw: Tensor) -> Tensor:
        """The normal scores `S` of the mapped columns, float64 `(N, places)`.

        Args:
            raw: rows `(N, d)`, float64.
        """
        return self._spline(self._scales.coordinates(raw[..., self.places]))

    def from_scores(self, scores: Tensor, among: Sequence[int] | slice = slice(None)) -> Tensor:
        """The values `x` of normal scores, `x = m + s S`, or the value of which that is the logarithm or the logit, shaped like `scores`.

        Args:
            scores: `S` of the mapped columns, float64 `(…, places)`.
            among: indices of these columns among the mapped ones; default: all.
        """
        mean, spread = (unit[among] for unit in self._units)
        return self._scales.among(among).values(mean + spread * scores)

    def log_det(self, raw: Tensor) -> Tensor:
        """Compute `Σ log x'` over the mapped columns, 1 where a value stays: `x' = s S'(v) w(m + s S(v))/w(v)`, `w = dx/dv`.

        Args:
            raw: rows `(N, …, d)`.
        """
        mean, spread = self._units
        v, width = self._scales.coordinates(raw[..., self.places]), self._scales.log_width
        found = (self._spline.slope(v) * spread).log() + width(mean + spread * self._spline(v)) - width(v)
        return torch.where(self.inside(raw), found, 0.0).flatten(1).sum(1)

    def parameters(self) -> dict[str, Any]:
        return {"places": list(self.places), "maps": [_record(each) for each in self.maps]}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        try:
            maps = tuple(_column(record) for record in values["maps"])
        except (KeyError, TypeError, ValueError):
            raise damaged() from None
        return cls(indices(values, "places"), maps)

    @cached_property
    def _spline(self) -> _Spline:
        return _Spline(self.maps)

    @cached_property
    def _units(self) -> tuple[Tensor, Tensor]:
        mean, spread = (torch.tensor([getattr(m, name) for m in self.maps], dtype=torch.float64) for name in ("mean", "spread"))
        return mean, spread

    @cached_property
    def _scales(self) -> _Scales:
        return _Scales.of([(m.log, m.box) for m in self.maps])


_TINY = torch.finfo(torch.float64).tiny


class _Scales(NamedTuple):
    """The coordinate `v` of columns: the value, its logarithm, or the logit of its share of a box. Each tensor is `(columns,)`."""

    log: Tensor
    boxed: Tensor
    low: Tensor
    high: Tensor
    boxes: bool
    """Whether there are boxes; a graph of the decoding cannot ask a tensor."""

    @classmethod
    def of(cls, columns: Sequence[tuple[bool, tuple[float, float] | None]]) -> _Scales:
        ends = [box or (0.0 if log else -math.inf, math.inf) for log, box in columns]
        low, high = torch.tensor(ends, dtype=torch.float64).T
        log, boxed = [log for log, _ in columns], [box is not None for _, box in columns]
        return cls(torch.tensor(log), torch.tensor(boxed), low, high, any(boxed))

    def among(self, columns: Sequence[int] | slice) -> _Scales:
        """Those of some of the columns."""
        return _Scales(self.log[columns], self.boxed[columns], self.low[columns], self.high[columns], self.boxes)

    def inside(self, values: Tensor) -> Tensor:
        """Which values have a coordinate."""
        return (values > self.low) & (values < self.high)

    def coordinates(self, values: Tensor) -> Tensor:
        """`v`; of values that are not inside any number."""
        found = torch.where(self.log, values.clamp_min(_TINY).log(), values)
        if not self.boxes:
            return found
        share = (values - self.low) / (self.high - self.low)
        return torch.where(self.boxed, share.where((share > 0) & (share < 1), 0.5).logit(), found)

    def values(self, v: Tensor) -> Tensor:
        """The values with the coordinates `v`."""
        found = torch.where(self.log, v.where(self.log, 0.0).exp(), v)
        if not self.boxes:
            return found
        low, high = (end.where(self.boxed, 0.0) for end in (self.low, self.high))
        return torch.where(self.boxed, low + (high - low) * v.sigmoid(), found)

    def log_width(self, v: Tensor) -> Tensor:
        """`log dx/dv`, but for a constant: `v` for a logarithm, `log σ(v) σ(−v)` for a logit, else 0."""
        found = torch.where(self.log, v, 0.0)
        return torch.where(self.boxed, torch.nn.functional.logsigmoid(v) + torch.nn.functional.logsigmoid(-v), found)


def _record(each: Column) -> dict[str, Any]:
    found = {**each._asdict(), "values": list(each.values), "scores": list(each.scores), "slopes": list(each.slopes)}
    return found | {"box": list(each.box) if each.box else None}


def _column(record: Mapping[str, Any]) -> Column:
    values, scores, slopes = (tuple(float(v) for v in record[name]) for name in ("values", "scores", "slopes"))
    (low, high), walls = slopes, record.get("box")
    box = None if walls is None else (float(walls[0]), float(walls[1]))
    return Column(values, scores, (low, high), float(record["mean"]), float(record["spread"]), bool(record["log"]), box)


class _Spline:
    """Monotone rational quadratic splines, one a column: from values to scores.

    Between knots, with `ξ` from 0 to 1, `s` the slope of the secant, and `d, e` the slopes at the knots::

        y = y_k + h (s ξ² + d ξ (1 − ξ)) / (s + (d + e − 2 s) ξ (1 − ξ))
    """

    def __init__(self, maps: Sequence[Column]) -> None:
        most = max(len(m.values) for m in maps)
        # Shorter splines are continued by knots on the line beyond their last one, where the spline is that line.
        rows = [_padded(m, most) for m in maps]
        self.x, self.y, self.d = (torch.tensor(part, dtype=torch.float64) for part in zip(*rows, strict=True))

    def __call__(self, x: Tensor) -> Tensor:
        k, (x0, y0, w, h, d, e) = self._piece(x, self.x)
        u, s = ((x - x0) / w).clamp(0, 1), h / w
        inner = y0 + h * (s * u**2 + d * u * (1 - u)) / (s + (d + e - 2 * s) * u * (1 - u))
        return torch.where(k < 0, y0 + d * (x - x0), torch.where(k > 0, y0 + h + e * (x - x0 - w), inner))

    def slope(self, x: Tensor) -> Tensor:
        k, (x0, _, w, h, d, e) = self._piece(x, self.x)
        u, s = ((x - x0) / w).clamp(0, 1), h / w
        inner = s**2 * (e * u**2 + 2 * s * u * (1 - u) + d * (1 - u) ** 2) / (s + (d + e - 2 * s) * u * (1 - u)) ** 2
        return torch.where(k < 0, d, torch.where(k > 0, e, inner))

    def inverse(self, y: Tensor) -> Tensor:
        k, (x0, y0, w, h, d, e) = self._piece(y, self.y)
        s, v = h / w, (y - y0).clamp_min(0).minimum(h)
        bend = d + e - 2 * s
        a, b, c = h * (s - d) + v * bend, h * d - v * bend, -s * v
        # The smaller root, without cancellation.
        u = 2 * c / (-b - (b**2 - 4 * a * c).clamp_min(0).sqrt())
        return torch.where(k < 0, x0 + (y - y0) / d, torch.where(k > 0, x0 + w + (y - y0 - h) / e, x0 + w * u.clamp(0, 1)))

    def _piece(self, at: Tensor, knots: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Where the points lie (before: −1, between: 0, after the knots: 1), and the piece of each: start, width, height, end slopes."""
        flat = at.reshape(-1, at.shape[-1]).T.contiguous()
        k = torch.searchsorted(knots, flat, right=True) - 1
        side = torch.where(k < 0, -1, torch.where(k >= knots.shape[1] - 1, 1, 0))
        k = k.clamp(0, knots.shape[1] - 2)
        x, y, d = self.x, self.y, self.d
        found = (x, y, x.diff(dim=1), y.diff(dim=1), d[:, :-1], d[:, 1:])
        return side.T.reshape(at.shape), tuple(part.gather(1, k).T.reshape(at.shape) for part in found)


def _padded(each: Column, size: int) -> tuple[list[float], list[float], list[float]]:
    x, y = list(each.values), list(each.scores)
    secants = [(b - a) / (q - p) for a, b, p, q in zip(y, y[1:], x, x[1:], strict=False)]
    # The harmonic mean of neighbouring secants keeps a flat piece beside a steep one flat.
    inner = [2 / (1 / a + 1 / b) for a, b in pairwise(secants)]
    slopes = [each.slopes[0], *inner, each.slopes[1]]
    step = (x[-1] - x[0]) / len(x)
    for _ in range(size - len(x)):
        x.append(x[-1] + step)
        y.append(y[-1] + step * each.slopes[1])
        slopes.append(each.slopes[1])
    return x, y, slopes


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
        The codec; nothing if no column is mapped.
    """
    most = min(_KNOTS, _ALL_KNOTS // max(len(places), 1))
    columns = zip(places, log, cells or [0.0] * len(places), boxes or [None] * len(places), strict=True)
    found = [_fitted(rows[:, place], half, box, cell, most) for place, half, cell, box in columns]
    kept = [(place, each) for place, each in zip(places, found, strict=True) if each is not None]
    return (NormalScoreCodec(tuple(place for place, _ in kept), tuple(each for _, each in kept)),) if kept else ()


def _fitted(column: Tensor, log: bool, box: tuple[float, float] | None, cell: float, most: int) -> Column | None:
    scale = _Scales.of([(log, box)])
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
    return Column(tuple(edges[knots].tolist()), tuple(scores[knots].tolist()), slopes, mean, spread, log, box)


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
