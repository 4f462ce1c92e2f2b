"""Codecs of what is no number: categories and missing values.

A diffusion needs coordinates in which a category is a point. `CategoryCodec` takes the corners of a simplex, one coordinate a category,
as TabDDPM (Kotelnikov et al., arXiv 2209.15421) and argmax flows (Hoogeboom et al., arXiv 2102.05379) do, and lets the process run on the
continuous relaxation, as analog bits (Chen, Zhang & Hinton, arXiv 2208.04202). Two categories need one coordinate, the bit.

All corners are equally far from each other, twice the distance of a mark from 0. Categories are therefore decided at more noise than
values in standard deviations, so that values follow them. The score of the data sends a state to a corner with the probability of the
corner, so any threshold between corners leaves marginals unbiased. A network that has learned only mean and variance of a coordinate sends
it to a Gaussian. The threshold of a category is therefore where a Gaussian of the coordinate's moments exceeds it as often as the category
occurs: `m + s Φ⁻¹(1 − p)`, with share `p`, mean `m` and deviation `s`. Decoded is the category whose coordinate is farthest above its
threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sdezoo.data.codecs.codec import Codec, Output, damaged, indices
from sdezoo.errors import DataError

MARK = 2.0
"""Size of a mark: a bit is `−MARK` or `MARK`, as far apart as any two categories."""

_HALF = MARK / math.sqrt(2)


@lru_cache(maxsize=1024)
def threshold(size: float, shares: tuple[float, ...]) -> Tensor:
    """Thresholds of coordinates that are `size` with the probabilities `shares`, else `−size`, float64.

    Args:
        size: half the distance of the two values.
        shares: probabilities, in (0, 1).
    """
    # Kept: a graph of the decoding holds them as constants.
    p = torch.tensor(shares, dtype=torch.float64)
    return size * (2 * p - 1) - 2 * size * (p * (1 - p)).sqrt() * torch.special.ndtri(p)


@dataclass(frozen=True, eq=False)
class CategoryCodec(Codec):
    """Columns of few values as the corners of simplices.

    A value of a column of `K > 2` is encoded as `K` coordinates, `√2` for its own and `−√2` for the others, one of two as `−2` or `2`.

    Args:
        columns: increasing indices of the columns.
        values: the values of each, at least two, increasing; NaN, for a missing value, last.
        shares: how often each value occurs, in (0, 1).
    """

    kind: ClassVar[str] = "category"

    columns: tuple[int, ...]  # pyright: ignore[reportIncompatibleVariableOverride]
    values: tuple[tuple[float, ...], ...] = ()
    shares: tuple[tuple[float, ...], ...] = ()

    @property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return sum(self._widths)

    @property
    def outputs(self) -> Sequence[Output]:
        return [Output(i, ready=True, lattice=False) for i, width in enumerate(self._widths) for _ in range(width)]

    def encode(self, raw: Tensor) -> Tensor:
        found = []
        for column, values in zip(raw.unbind(-1), self.values, strict=True):
            known = torch.tensor(values, dtype=torch.float64)
            place = torch.searchsorted(known[~known.isnan()], column.nan_to_num().contiguous()).clamp_max(len(known) - 1)
            place = torch.where(column.isnan(), len(known) - 1, place)
            if not torch.equal(known[place].nan_to_num(math.inf), column.nan_to_num(math.inf)):
                raise DataError("A column of categories has a value that the data did not have.", "Give rows like those of the data.")
            ours = torch.arange(len(known)) == place[..., None]
            found.append(torch.where(ours, _HALF, -_HALF) if len(known) > 2 else torch.where(ours[..., 1:], MARK, -MARK))
        return torch.cat(found, -1).double()

    def decode(self, x: Tensor) -> Tensor:
        found = []
        for part, values, shares in zip(x.split(self._widths, -1), self.values, self.shares, strict=True):
            above = part - (threshold(_HALF, shares) if len(values) > 2 else threshold(MARK, shares[1:]))
            place = above.argmax(-1) if len(values) > 2 else (above[..., 0] > 0).long()
            found.append(torch.tensor(values, dtype=torch.float64)[place])
        return torch.stack(found, -1)

    def log_det(self, raw: Tensor) -> None:
        """None: categories have probabilities, no density.

        Args:
            raw: columns `(N, …, k)`.
        """

    def parameters(self) -> dict[str, Any]:
        values = [[None if math.isnan(value) else value for value in one] for one in self.values]
        return {"columns": list(self.columns), "values": values, "shares": [list(one) for one in self.shares]}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        columns, known = indices(values), values.get("values")
        if not isinstance(known, list) or len(known) != len(columns):
            raise damaged()
        read = [tuple(math.nan if value is None else float(value) for value in _numbers(one)) for one in known]
        if any(len(one) < 2 or not all(a < b for a, b in pairwise(one[: len(one) - math.isnan(one[-1])])) for one in read):
            raise damaged()
        shares = _shares(values, [len(one) for one in read])
        return cls(columns, tuple(read), shares)

    @property
    def _widths(self) -> list[int]:
        return [len(one) if len(one) > 2 else 1 for one in self.values]


@dataclass(frozen=True, eq=False)
class MissingCodec(Codec):
    """Columns with missing values: the values, a fixed one where none is known, and then marks, `2` where values are missing.

    Columns that are missing in the same rows share a mark: samples then miss all of them or none.

    Args:
        columns: increasing indices of the columns.
        fills: what stands for a missing value, one number a column. It has no effect on samples: a value beside a mark is not decoded.
        shares: how often values are missing, in (0, 1), one number a mark.
        marks: number of the mark of each column, new ones in order, from 0; empty: each column has its own.
    """

    kind: ClassVar[str] = "missing"

    columns: tuple[int, ...]  # pyright: ignore[reportIncompatibleVariableOverride]
    fills: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    marks: tuple[int, ...] = ()

    @property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.columns) + len(self.shares)

    @property
    def outputs(self) -> Sequence[Output]:
        marks = (Output(i, mark=True, ready=True, lattice=False) for i in self._firsts)
        return [*(Output(i) for i in range(len(self.columns))), *marks]

    def known(self, given: Tensor) -> Tensor:
        marks = [given[..., self._marked == k].any(-1) for k in range(len(self.shares))]
        return torch.cat([given, torch.stack(marks, -1)], -1)

    def encode(self, raw: Tensor) -> Tensor:
        missing = raw.isnan()
        if not torch.equal(missing, missing[..., self._firsts][..., self._marked]):
            raise DataError(
                "Some columns are missing in the same rows of the data, but not in the same of these rows.",
                "Give rows like those of the data.",
            )
        values = torch.where(missing, torch.tensor(self.fills, dtype=torch.float64), raw)
        return torch.cat([values, torch.where(missing[..., self._firsts], MARK, -MARK).double()], -1)

    def decode(self, x: Tensor) -> Tensor:
        values, marks = x.split([len(self.columns), len(self.shares)], -1)
        return torch.where((marks > threshold(MARK, self.shares))[..., self._marked], math.nan, values)

    def log_det(self, raw: Tensor) -> None:
        """None: marks have probabilities, no density.

        Args:
            raw: columns `(N, …, k)`.
        """

    def parameters(self) -> dict[str, Any]:
        shared = {"marks": list(self.marks)} if self.marks else {}
        return {"columns": list(self.columns), "fills": list(self.fills), "shares": list(self.shares), **shared}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        columns, fills = indices(values), _numbers(values.get("fills"))
        marks = values.get("marks", [*range(len(columns))])
        if len(fills) != len(columns) or None in fills or not isinstance(marks, list) or len(marks) != len(columns):
            raise damaged()
        if any(type(mark) is not int or not 0 <= mark <= len({*marks[:i]}) for i, mark in enumerate(marks)):
            raise damaged()
        (shares,) = _shares({"shares": [values.get("shares")]}, [len({*marks})])
        return cls(columns, tuple(float(fill) for fill in fills if fill is not None), shares, tuple(marks) if "marks" in values else ())

    @property
    def _marked(self) -> Tensor:
        """Number of the mark of each column."""
        return torch.tensor(self.marks or range(len(self.columns)))

    @property
    def _firsts(self) -> list[int]:
        """The first column of each mark."""
        return [self.marks.index(k) for k in range(len(self.shares))] if self.marks else [*range(len(self.columns))]


def _shares(values: Mapping[str, Any], counts: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """The shares of a record, with their numbers."""
    found = values.get("shares")
    if not isinstance(found, list) or len(found) != len(counts):
        raise damaged()
    for one, count in zip(found, counts, strict=True):
        if len(_numbers(one)) != count or not all(share is not None and 0 < share < 1 for share in one):
            raise damaged()
    return tuple(tuple(float(share) for share in one) for one in found)


def _numbers(given: object) -> list[float | None]:
    if not isinstance(given, list) or not all(value is None or type(value) in (int, float) for value in given):
        raise damaged()
    return given
