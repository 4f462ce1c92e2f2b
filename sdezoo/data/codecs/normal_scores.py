"""Normal scores: map the values of each column of a table smoothly to normal ones, before the process adds its noise.

Two peaks, a wall or a long tail in a single column cost a network much of its training. So an increasing function maps each column to a
normal one (on a half-line: a log-normal one, in a box: a logit-normal one) of the same mean and standard deviation (of the logarithm, of
the logit). The inverse maps samples back: if the network is right about a normal column, the quantiles of the samples are those of the
data. This is the normal score transform of geostatistics (Deutsch and Journel, GSLIB, 1998, section V.2), with a smooth function in place
of ranks::

    x = m + s S(v),      S(v_k) = Φ⁻¹(F(v_k)),      v the value, or its logarithm, or the logit of its share of the box

Values that are not inside, such as zeros or those on a wall, stay as they are.

`S` is the monotone rational quadratic spline of Gregory and Delbourgo (IMA J. Numer. Anal. 2, 1982), whose inverse has a closed
form. It is linear beyond the first and the last knot. `sdezoo.training.preprocessing.normal_scores` fits it.
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

    def standardized(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Standardized coordinates `u = (v − m)/s` of the mapped columns, their scores `S(v)`, and `log dS/du`; float64 `(N, places)` each.

        Args:
            raw: rows `(N, d)`, float64; values that are not inside get any number.
        """
        mean, spread = self._units
        v = self._scales.coordinates(raw[..., self.places])
        return (v - mean) / spread, self._spline(v), (self._spline.slope(v) * spread).log()

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
    def _scales(self) -> Scales:
        return Scales.of([(m.log, m.box) for m in self.maps])


_TINY = torch.finfo(torch.float64).tiny


class Scales(NamedTuple):
    """The coordinate `v` of columns: the value, its logarithm, or the logit of its share of a box. Each tensor is `(columns,)`."""

    log: Tensor
    boxed: Tensor
    low: Tensor
    high: Tensor
    boxes: bool
    """Whether there are boxes; a graph of the decoding cannot ask a tensor."""

    @classmethod
    def of(cls, columns: Sequence[tuple[bool, tuple[float, float] | None]]) -> Scales:
        ends = [box or (0.0 if log else -math.inf, math.inf) for log, box in columns]
        low, high = torch.tensor(ends, dtype=torch.float64).T
        log, boxed = [log for log, _ in columns], [box is not None for _, box in columns]
        return cls(torch.tensor(log), torch.tensor(boxed), low, high, any(boxed))

    def among(self, columns: Sequence[int] | slice) -> Scales:
        """Those of some of the columns."""
        return Scales(self.log[columns], self.boxed[columns], self.low[columns], self.high[columns], self.boxes)

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
