"""What holds between columns of every row: an order, or a sum. Whatever is sampled, it holds, and on the lattices of the columns too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sdezoo.data.codecs.codec import Codec, Output, damaged, indices, on_lattices

Units = tuple[tuple[int, int], ...]
"""The lattice of each column: values are multiples of `step / scale`; `(0, 1)`: there is none."""


@dataclass(frozen=True, eq=False)
class DifferenceCodec(Codec):
    """Columns `v_1 ≤ v_2 ≤ …` as `v_1` and the differences `v_{k+1} − v_k`: whatever is sampled, the order holds.

    Rounded to one lattice, the order stays. On several, a value that would be rounded below the one before is rounded up, and differences
    are on no lattice that is known.

    Args:
        columns: increasing indices of the columns.
        order: positions in `columns` of `v_1`, `v_2`, ….
        units: the lattices of the columns if they differ; empty: all have the same, or none.
    """

    kind: ClassVar[str] = "difference"

    columns: tuple[int, ...]  # pyright: ignore[reportIncompatibleVariableOverride]
    order: tuple[int, ...] = ()
    units: Units = ()

    @property
    def outputs(self) -> Sequence[Output]:
        return [Output(source, lattice=not self.units) for source in self.sources]

    def encode(self, raw: Tensor) -> Tensor:
        ranked = raw[..., self.order]
        found = torch.empty_like(raw)
        found[..., self.order] = torch.cat([ranked[..., :1], ranked.diff(dim=-1)], -1)
        return found

    def known(self, given: Tensor) -> Tensor:
        found = given.clone()
        found[..., self.order[1:]] &= given[..., self.order[:-1]]
        return found

    def decode(self, x: Tensor) -> Tensor:
        found = torch.empty_like(x)
        found[..., self.order] = x[..., self.order].cumsum(-1)
        for place, before in zip(self.order, (None, *self.order[:-1]), strict=True) if self.units else ():
            step, scale = self.units[place]
            if not step:
                continue
            rounded = (found[..., place] * scale / step).round() * step / scale
            if before is not None:
                above = (found[..., before] * scale / step).ceil() * step / scale
                rounded = torch.where(rounded < found[..., before], above, rounded)
            found[..., place] = rounded
        return found

    def log_det(self, raw: Tensor) -> Tensor:
        """0: the matrix is triangular, with ones on its diagonal."""
        return torch.zeros(len(raw), dtype=torch.float64)

    def parameters(self) -> dict[str, Any]:
        return {"columns": list(self.columns), "order": list(self.order), **_recorded(self.units)}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        columns, order = indices(values), values.get("order")
        if not isinstance(order, list) or sorted(map(str, order)) != sorted(map(str, range(len(columns)))):
            raise damaged()
        return cls(columns, tuple(int(i) for i in order), _read(values, len(columns)))


@dataclass(frozen=True, eq=False)
class ShareCodec(Codec):
    """Columns that sum to a constant, as shares of their sum.

    If columns are on a lattice, the coarser ones are rounded, and what they leave of the constant is given to those on the finest one: each
    gets its share rounded down, and the units that are left go to the largest remainders (Hamilton's method). So the sum is exact. A
    column that has no zero and would get nothing gets a unit of the largest.

    Args:
        columns: increasing indices of the columns.
        total: the constant.
        units: the lattices of the columns; empty, or none for one of them: the sum is as exact as rounding lets it be.
        positive: which columns have no zero, so that one unit at least is theirs; empty: none.
    """

    kind: ClassVar[str] = "share"

    columns: tuple[int, ...]  # pyright: ignore[reportIncompatibleVariableOverride]
    total: float = 1.0
    units: Units = ()
    positive: tuple[bool, ...] = ()

    @property
    def outputs(self) -> Sequence[Output]:
        return [Output(source, lattice=False) for source in self.sources]

    def encode(self, raw: Tensor) -> Tensor:
        return raw / raw.sum(-1, keepdim=True)

    def known(self, given: Tensor) -> Tensor:
        return given.all(-1, keepdim=True).expand_as(given)

    def decode(self, x: Tensor) -> Tensor:
        found = x * self.total
        if not self.units or not all(step for step, _ in self.units):
            return found
        step, scale = torch.tensor(self.units, dtype=torch.float64).T
        least = torch.tensor(self.positive or [False] * len(self.units)).double()
        finest = min(range(len(self.units)), key=lambda i: self.units[i][0] / self.units[i][1])
        fine = torch.tensor([unit == self.units[finest] for unit in self.units])
        whole = self.total * scale[finest] / step[finest]

        def left_by(counts: Tensor) -> Tensor:
            """What the coarser columns leave, in units of the finest."""
            return (whole - (counts * step / scale * scale[finest] / step[finest])[..., ~fine].sum(-1, keepdim=True)).round()

        counts = (found * scale / step).round().maximum(least)  # in units of each column
        counts = torch.where(left_by(counts) < least[fine].sum(), (found * scale / step).floor().maximum(least), counts)
        left = left_by(counts)
        counts[..., fine] = torch.where(left >= 0, _apportioned(left, found[..., fine], least[fine]), counts[..., fine])
        return counts * step / scale

    def log_det(self, raw: Tensor) -> None:
        """None: the columns have a density on the simplex alone."""

    def parameters(self) -> dict[str, Any]:
        positive = {"positive": list(self.positive)} if self.positive else {}
        return {"columns": list(self.columns), "total": self.total, **_recorded(self.units), **positive}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        total, columns, positive = values.get("total"), indices(values), values.get("positive", [])
        if not isinstance(total, int | float) or not 0 < total < float("inf"):
            raise damaged()
        if not isinstance(positive, list) or len(positive) not in (0, len(columns)) or not all(type(each) is bool for each in positive):
            raise damaged()
        return cls(columns, float(total), _read(values, len(columns)), tuple(positive))


@dataclass(frozen=True, eq=False)
class SumCodec(Codec):
    """Leaves out a column that is the sum of others, and restores it: whatever is sampled, the sum holds.

    What is added up are values on the lattices of their columns, so that the sum is exact.

    Args:
        columns: increasing indices of all these columns.
        place: position in `columns` of the sum.
        units: the lattices of the columns.
        offset: what the sum of the codes of the others lacks of the code of their sum: columns may be counted from other numbers than 0.
    """

    kind: ClassVar[str] = "sum"

    columns: tuple[int, ...]  # pyright: ignore[reportIncompatibleVariableOverride]
    place: int = 0
    units: Units = ()
    offset: float = 0.0

    @property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.columns) - 1

    @property
    def sources(self) -> Sequence[int]:
        return [i for i in range(len(self.columns)) if i != self.place]

    def encode(self, raw: Tensor) -> Tensor:
        return raw[..., self.sources]

    def decode(self, x: Tensor) -> Tensor:
        x = on_lattices(x, [self.units[i] for i in self.sources])
        return torch.cat([x[..., : self.place], x.sum(-1, keepdim=True) + self.offset, x[..., self.place :]], -1)

    def log_det(self, raw: Tensor) -> None:
        """None: the columns have a density where the sum holds alone."""

    def parameters(self) -> dict[str, Any]:
        return {"columns": list(self.columns), "place": self.place, **_recorded(self.units), "offset": self.offset}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        columns, place, offset = indices(values), values.get("place"), values.get("offset")
        units = _read(values, len(columns))
        if type(place) is not int or not 0 <= place < len(columns) or len(columns) < 3 or not units:
            raise damaged()
        if not isinstance(offset, int | float) or not math.isfinite(offset):
            raise damaged()
        return cls(columns, place, units, float(offset))


def _apportioned(units: Tensor, shares: Tensor, least: Tensor) -> Tensor:
    """Whole numbers in proportion to `shares`, `(N, k)`, that sum to `units`, `(N, 1)`; the largest gives others what `least` asks for."""
    exact = units * shares / shares.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    down = exact.floor()
    rank = (exact - down).argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    counts = down + (rank < units - down.sum(-1, keepdim=True))
    lifted = counts.maximum(least)
    most = torch.nn.functional.one_hot(lifted.argmax(-1), lifted.shape[-1])
    return lifted - most * (lifted - counts).sum(-1, keepdim=True)


def _recorded(units: Units) -> dict[str, Any]:
    return {"units": [list(unit) for unit in units]} if units else {}


def _read(values: Mapping[str, Any], columns: int) -> Units:
    """The lattices of a record."""
    units = values.get("units", [])
    if not isinstance(units, list) or len(units) not in (0, columns):
        raise damaged()
    if not all(isinstance(unit, list) and len(unit) == 2 and all(type(part) is int for part in unit) for unit in units):
        raise damaged()
    if not all(step >= 0 < scale for step, scale in units):
        raise damaged()
    return tuple((step, scale) for step, scale in units)
