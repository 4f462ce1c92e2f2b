"""The encoding of data: map rows in the user's units to states of a process, and back to final rows.

Rows in the user's units have two forms:

- *numbers*: a tensor `(N, *event)`, float32 in `Data` and in samples. Images, points and paths have this form only.
- *columns*: for tables, one array `(N,)` for each column, of the column's dtype. Integers beyond 2²⁴, which float32 rounds, are exact.
  Users receive them as arrays (`typed_columns`). `Encoding.encode` takes tensors, and `Encoding.decode_columns` returns them.

Encoded rows are a tensor `(N, *encoded event)`, float32. They may have more or fewer columns than the raw rows.

`Encoding.decode` returns *final* rows of tables: these values are counted, evaluated and written. Integer columns are rounded. Pixels of
images are not yet at their levels, see `sdezoo.data.bounds.Bounds.final`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdezoo.data.codecs.channels import ConstantChannelCodec
from sdezoo.data.codecs.codec import AffineCodec, CellCodec, Codec, ConstantCodec, Output, damaged, on_lattices
from sdezoo.data.codecs.discrete import CategoryCodec, MissingCodec
from sdezoo.data.codecs.growth import GrowthCodec
from sdezoo.data.codecs.levels import LevelCodec
from sdezoo.data.codecs.normal_scores import NormalScoreCodec
from sdezoo.data.codecs.recurring import RecurringCodec
from sdezoo.data.codecs.relations import DifferenceCodec, ShareCodec, SumCodec
from sdezoo.data.codecs.sign import SignCodec
from sdezoo.data.column_types import ColumnType, column_types

_RELATIONS = (DifferenceCodec, ShareCodec, SumCodec)
_OF_NUMBERS = (AffineCodec, CellCodec, ConstantCodec, GrowthCodec, NormalScoreCodec, SignCodec)
_OTHERS = (CategoryCodec, ConstantChannelCodec, LevelCodec, MissingCodec, RecurringCodec)
CODECS: dict[str, type[Codec]] = {codec.kind: codec for codec in (*_OF_NUMBERS, *_RELATIONS, *_OTHERS)}
"""Codec classes by their names in JSON."""

_Values = Tensor | list[Tensor]
"""Rows between two codecs: numbers, or the columns of their last axis once a codec has acted on some of them."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """A sequence of codecs, fitted once on all rows of the data, and the types of the decoded columns.

    Args:
        codecs: applied in order by `encode`; each acts on the output columns of the previous one.
        types: the type of each column of a table, or the NumPy dtype name of its numbers, such as `int64`; empty: all float32.
    """

    codecs: tuple[Codec, ...]
    types: tuple[ColumnType, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", column_types(self.types))

    @classmethod
    def affine(cls, scale: Tensor | float, shift: Tensor | float, types: Sequence[ColumnType | str] = ()) -> Encoding:
        """Build the encoding `x = scale · raw + shift`.

        Args:
            scale: finite and nonzero, a number or `(d,)`.
            shift: finite, a number or `(d,)`.
            types: see `Encoding`.

        Raises:
            DataError: as for `AffineCodec`.
        """
        return cls((AffineCodec(torch.as_tensor(scale), torch.as_tensor(shift)),), column_types(types))

    def encode(self, raw: Tensor | Sequence[Tensor]) -> Tensor:
        """Encode rows. Computes in float64 on the CPU, because not every device supports float64.

        Args:
            raw: numbers `(N, *event)`, or the columns `(N,)` of a table, each of its own dtype.

        Returns:
            Encoded rows `(N, *encoded event)`, float32 on the device of `raw`.
        """
        return self._encode(raw, torch.float32).to(_device(raw))

    def encode_exactly(self, raw: Tensor | Sequence[Tensor]) -> Tensor:
        """Encode rows without rounding to float32.

        Args:
            raw: as for `encode`.

        Returns:
            Encoded rows `(N, *encoded event)`, float64 on the CPU.
        """
        return self._encode(raw, torch.float64)

    def _encode(self, raw: Tensor | Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """Encode block by block: what a block takes on the way is several times its size."""
        parts = raw.split(_ROWS) if isinstance(raw, Tensor) else list(zip(*(column.split(_ROWS) for column in raw), strict=True))
        whole = None
        for k, part in enumerate(parts):
            found = self.encode_at_once(part).to(dtype)
            if len(parts) == 1:
                return found
            if whole is None:
                whole = found.new_empty(len(raw if isinstance(raw, Tensor) else raw[0]), *found.shape[1:])
            whole[k * _ROWS : (k + 1) * _ROWS] = found
        assert whole is not None, "there is a block, of no rows if need be"
        return whole

    def encode_at_once(self, raw: Tensor | Sequence[Tensor]) -> Tensor:
        """Encode rows as `encode_exactly` does, in one block of any size, as a graph needs it."""
        values = _values(raw)
        for codec in self.codecs:
            values = _encoded(codec, values)
        return _numbers(values)

    def decode(self, x: Tensor) -> Tensor:
        """Decode to final rows. Columns on a lattice (by `types`), such as integers, are rounded to it; nothing is clamped.

        Args:
            x: encoded rows `(N, *encoded event)`.

        Returns:
            Rows `(N, *event)`, float32 on the device of `x`.
        """
        raw = _numbers(self._decoded(x))
        if any(kind.unit[0] for kind in self.types):
            raw = on_lattices(raw, [kind.unit for kind in self.types])
            raw = torch.stack([kind.around(column) for column, kind in zip(raw.unbind(-1), self.types, strict=True)], -1)
        return raw.to(x.device, torch.float32)

    def decode_columns(self, x: Tensor) -> list[Tensor]:
        """Decode to final rows, column by column. Integers are exact in int64; float64 is rounded to the lattice of the column.

        Args:
            x: encoded rows `(N, encoded columns)`.

        Returns:
            Columns `(N,)` on the CPU, each of the dtype of its codec.
        """
        columns = _columns(self._decoded(x))
        units = [kind.unit for kind in self.types] or [(0, 1)] * len(columns)
        return [
            (column * scale / step).round() * step / scale if step and column.is_floating_point() else column
            for column, (step, scale) in zip(columns, units, strict=True)
        ]

    def log_det(self, raw: Tensor | Sequence[Tensor]) -> Tensor | None:
        """Compute `log |det ∂ encode/∂ raw|` at each row: add it to a log-density of encoded rows to get one in the user's units.

        Args:
            raw: numbers `(N, *event)`, or the columns `(N,)` of a table, each of its own dtype.

        Returns:
            Values `(N,)`, float64 on the CPU; None if a codec has no determinant, because such rows have no density.
        """
        values = _values(raw)
        total = torch.zeros(len(raw if isinstance(raw, Tensor) else raw[0]), dtype=torch.float64)
        for codec in self.codecs:
            found = codec.log_det(_taken(codec, values))
            if found is None:
                return None
            total = total + found
            values = _encoded(codec, values)
        return total

    def encoded_event(self, event: Sequence[int]) -> tuple[int, ...]:
        """Compute the shape of an encoded row.

        Args:
            event: shape of a row in the user's units.

        Raises:
            DataError: if the encoding does not apply to rows of this shape.
        """
        shape = tuple(event)
        if self.types and shape[-1:] != (len(self.types),):
            raise damaged()
        for codec in self.codecs:
            shape = codec.encoded_event(shape)
        return shape

    def outputs(self, columns: int) -> list[Output]:
        """Find what each encoded column is, and the column of the table that it comes from.

        Args:
            columns: number of columns of the table.

        Returns:
            For each encoded column, its `source` among the columns of the table, and what codecs say of it.
        """
        found = [Output(i) for i in range(columns)]
        for codec in self.codecs:
            if codec.columns is not None:
                made = [_follows(found[codec.columns[output.source]], output) for output in codec.outputs]
                kept, first = [output for i, output in enumerate(found) if i not in codec.columns], codec.columns[0]
                found = [*kept[:first], *made, *kept[first:]]
        return found

    def sources(self, columns: int) -> list[int]:
        """Find the column that each encoded column comes from.

        Args:
            columns: number of columns of the table.

        Returns:
            For each encoded column, the index of the table's column.
        """
        return [output.source for output in self.outputs(columns)]

    def named(self, names: Sequence[str]) -> tuple[list[str], list[int]]:
        """Name the encoded columns, marks apart from values: the arguments of `sdezoo.process.process.Process.for_columns`.

        Args:
            names: names of the table's columns.

        Returns:
            The names, those of marks after those of the table; and for each encoded column the index of its name.
        """
        outputs = self.outputs(len(names))
        marked = sorted({output.source for output in outputs if output.mark})
        places = {source: len(names) + k for k, source in enumerate(marked)}
        found = [places[output.source] if output.mark else output.source for output in outputs]
        return [*names, *(f"{names[source]} is missing" for source in marked)], found

    @property
    def starts_at_one(self) -> bool:
        """Whether rows are series that start at 1; the start is not encoded."""
        return any(codec.starts_at_one for codec in self.codecs)

    @property
    def without_scores(self) -> Encoding:
        """The same encoding without the map to normal scores."""
        return Encoding(tuple(codec for codec in self.codecs if not isinstance(codec, NormalScoreCodec)), self.types)

    @property
    def categories(self) -> list[int]:
        """The columns of the table that are encoded as categories."""
        return sorted({source for columns, codec in self._stages if isinstance(codec, CategoryCodec) for source in columns})

    @property
    def recurring(self) -> dict[int, tuple[float, ...]]:
        """The columns of the table whose samples take values of the data, and these values."""
        found = (zip(codec.places, codec.values, strict=True) for codec in self.codecs if isinstance(codec, RecurringCodec))
        return {place: values for pairs in found for place, values in pairs}

    @property
    def category_values(self) -> dict[int, tuple[float, ...]]:
        """The codes that each column of categories can have, without NaN for a missing value."""
        pairs = ((columns, codec) for columns, codec in self._stages if isinstance(codec, CategoryCodec))
        return {
            source: tuple(value for value in values if not math.isnan(value))
            for columns, codec in pairs
            for source, values in zip(columns, codec.values, strict=True)
        }

    @property
    def missing(self) -> list[int]:
        """The columns of the table that have missing values."""
        found = set()
        for columns, codec in self._stages:
            if isinstance(codec, MissingCodec):
                found |= set(columns)
            elif isinstance(codec, CategoryCodec):
                found |= {source for source, values in zip(columns, codec.values, strict=True) if math.isnan(values[-1])}
        return sorted(found)

    def known(self, given: Tensor) -> Tensor:
        """Find the encoded columns that follow from given columns alone.

        Args:
            given: which columns of the table are given, bool `(N, columns)`.

        Returns:
            Bool `(N, encoded columns)`.
        """
        columns = list(given.unbind(-1))
        for codec in self.codecs:
            acted = range(len(columns)) if codec.columns is None else codec.columns
            made = codec.known(torch.stack([columns[i] for i in acted], -1)).unbind(-1)
            kept = [column for i, column in enumerate(columns) if i not in acted]
            columns = [*kept[: acted[0]], *made, *kept[acted[0] :]]
        return torch.stack(columns, -1)

    def to_json(self) -> dict[str, Any]:
        """Serialize to JSON values; `from_json` restores the encoding exactly."""
        return {
            "codecs": [{"codec": codec.kind, **codec.parameters()} for codec in self.codecs],
            "types": [kind.record() for kind in self.types],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Encoding:
        """Restore the encoding that `to_json` serialized.

        Args:
            record: the JSON values.

        Raises:
            DataError: if an entry is missing or has the wrong type.
        """
        try:
            codecs = tuple(CODECS[entry["codec"]].from_parameters(entry) for entry in record["codecs"])
            return cls(codecs, column_types(record["types"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise damaged() from None

    @property
    def _stages(self) -> Iterator[tuple[list[int], Codec]]:
        """The codecs of columns, with the columns of the table that they act on."""
        # Any table that has these columns will do.
        columns = 1 + sum(max(codec.columns, default=0) + 1 for codec in self.codecs if codec.columns is not None)
        for k, codec in enumerate(self.codecs):
            if codec.columns is not None:
                sources = Encoding(self.codecs[:k]).sources(columns)
                yield [sources[i] for i in codec.columns], codec

    def _decoded(self, x: Tensor) -> _Values:
        values = _values(x)
        for codec in reversed(self.codecs):
            values = _restored(codec, values, x.shape[0])
        return values


_ROWS = 2**16
"""Rows of a block that is encoded at once."""


def _values(rows: Tensor | Sequence[Tensor]) -> _Values:
    # Copy, because codecs may overwrite their argument.
    if isinstance(rows, Tensor):
        return rows.detach().cpu().to(torch.float64, copy=True)
    return [column.detach().cpu() for column in rows]


def _device(rows: Tensor | Sequence[Tensor]) -> torch.device:
    return rows.device if isinstance(rows, Tensor) else rows[0].device


def _numbers(values: _Values) -> Tensor:
    return values if isinstance(values, Tensor) else torch.stack([column.double() for column in values], -1)  # at least one column


def _columns(values: _Values) -> list[Tensor]:
    return list(values.unbind(-1)) if isinstance(values, Tensor) else values


def _taken(codec: Codec, values: _Values) -> Tensor:
    if codec.columns is None:
        return _numbers(values)
    columns = _columns(values)
    return torch.stack([columns[i].to(codec.dtype) for i in codec.columns], -1)


def _encoded(codec: Codec, values: _Values) -> _Values:
    made = codec.encode(_taken(codec, values))
    if codec.columns is None:
        return made
    kept = [column for i, column in enumerate(_columns(values)) if i not in codec.columns]
    first = codec.columns[0]
    return [*kept[:first], *made.unbind(-1), *kept[first:]]


def _restored(codec: Codec, values: _Values, rows: int) -> _Values:
    """Invert `_encoded`; `rows` is the number of rows, needed if `codec` has no output columns."""
    if codec.columns is None:
        return codec.decode(_numbers(values))
    columns, first = _columns(values), codec.columns[0]
    last = first + (len(codec.columns) if codec.width is None else codec.width)
    made = [column.double() for column in columns[first:last]]
    taken = codec.decode(torch.stack(made, -1) if made else torch.empty(rows, 0, dtype=torch.float64))
    back = columns[:first] + columns[last:]
    for place, column in zip(codec.columns, taken.unbind(-1), strict=True):
        back.insert(place, column)
    return back


def _follows(before: Output, output: Output) -> Output:
    """What an output of a codec is to the table."""
    return Output(before.source, before.mark or output.mark, before.ready or output.ready, before.lattice and output.lattice)
