"""The encoding of data: map rows in the user's units to states of a process, and back to final rows.

Rows in the user's units have two forms:

- *numbers*: a tensor `(N, *event)`, float32 in `Data` and in samples. Images, points and paths have this form only.
- *columns*: for tables, one array `(N,)` for each column, of the column's dtype. Integers beyond 2²⁴, which float32 rounds, are exact.
  Users receive columns as arrays (`typed_columns`). `Encoding.encode` accepts them and `Encoding.decode_columns` returns them as tensors,
  for codecs that need int64.

Encoded rows are a tensor `(N, *encoded event)`, float32. They may have more or fewer columns than the raw rows.

`Encoding.decode` returns *final* rows: these values are counted, evaluated and written. Integer columns are rounded. Images are not
rounded to their lattice; only pictures do that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.codec import CODECS, AffineCodec, Codec, damaged
from sdezoo.errors import RunError

_WHOLE = 2.0**62

_Values = Tensor | list[Tensor]
"""Rows between two codecs: numbers, or the columns of their last axis once a codec has acted on some of them."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """A sequence of codecs, fitted once on all rows of the data, and the dtypes of the decoded columns.

    Args:
        codecs: applied in order by `encode`; each acts on the output columns of the previous one.
        types: NumPy dtype name of each column of a table, such as `int64`; empty: all float32.
    """

    codecs: tuple[Codec, ...]
    types: tuple[str, ...] = ()

    @classmethod
    def affine(cls, scale: Tensor | float, shift: Tensor | float, types: tuple[str, ...] = ()) -> Encoding:
        """Build the encoding `x = scale · raw + shift`.

        Args:
            scale: finite and nonzero, a number or `(d,)`.
            shift: finite, a number or `(d,)`.
            types: see `Encoding`.

        Raises:
            DataError: as for `AffineCodec`.
        """
        return cls((AffineCodec(torch.as_tensor(scale), torch.as_tensor(shift)),), types)

    def encode(self, raw: Tensor | Sequence[Tensor]) -> Tensor:
        """Encode rows. Computes in float64 on the CPU, because not every device supports float64.

        Args:
            raw: numbers `(N, *event)`, or the columns `(N,)` of a table, each of its own dtype.

        Returns:
            Encoded rows `(N, *encoded event)`, float32 on the device of `raw`.
        """
        return self.encode_exactly(raw).to(_device(raw), torch.float32)

    def encode_exactly(self, raw: Tensor | Sequence[Tensor]) -> Tensor:
        """Encode rows without rounding to float32.

        Args:
            raw: as for `encode`.

        Returns:
            Encoded rows `(N, *encoded event)`, float64 on the CPU.
        """
        values = _values(raw)
        for codec in self.codecs:
            values = _encoded(codec, values)
        return _numbers(values)

    def decode(self, x: Tensor) -> Tensor:
        """Decode to final rows. Integer columns (by `types`) are rounded to the nearest integer; nothing is clamped.

        Args:
            x: encoded rows `(N, *encoded event)`.

        Returns:
            Rows `(N, *event)`, float32 on the device of `x`.
        """
        raw = _numbers(self._decoded(x))
        if (whole := _whole(self.types)).any():
            raw = torch.where(whole, raw.round(), raw)
        return raw.to(x.device, torch.float32)

    def decode_columns(self, x: Tensor) -> list[Tensor]:
        """Decode to final rows, column by column. Integers are exact in int64, and rounded to the nearest in float64.

        Args:
            x: encoded rows `(N, encoded columns)`.

        Returns:
            Columns `(N,)` on the CPU, each of the dtype of its codec.
        """
        columns = _columns(self._decoded(x))
        whole = _whole(self.types).expand(len(columns))
        return [column.round() if rounds and column.is_floating_point() else column for column, rounds in zip(columns, whole, strict=True)]

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

    def sources(self, columns: int) -> list[int]:
        """Find the column that each encoded column comes from.

        Args:
            columns: number of columns of the table.

        Returns:
            For each encoded column, the index of the table's column.
        """
        found = list(range(columns))
        for codec in self.codecs:
            if codec.columns is not None:
                made = [found[codec.columns[i]] for i in codec.sources]
                kept, first = [source for i, source in enumerate(found) if i not in codec.columns], codec.columns[0]
                found = [*kept[:first], *made, *kept[first:]]
        return found

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
        return {"codecs": [{"codec": codec.kind, **codec.parameters()} for codec in self.codecs], "types": list(self.types)}

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
            types = tuple(record["types"])
            known = all(isinstance(kind, str) and np.dtype(kind).kind in "fiu" for kind in types)
        except (KeyError, TypeError):
            raise damaged() from None
        if not known:
            raise damaged()
        return cls(codecs, types)

    def _decoded(self, x: Tensor) -> _Values:
        values = _values(x)
        for codec in reversed(self.codecs):
            values = _restored(codec, values, len(x))
        return values


def typed_columns(rows: Tensor, types: Sequence[str], names: Sequence[str]) -> list[np.ndarray]:
    """Convert final rows of a table to columns: int64 for integer `types`, else float32.

    The dtypes depend on `types` alone, so every part of a large table has the same ones.

    Args:
        rows: final rows `(n, d)`, float32 on the CPU; integer columns are rounded to the nearest integer.
        types: see `Encoding`.
        names: column names, for messages.

    Returns:
        Arrays `(n,)`, one a column.

    Raises:
        RunError: if the values of an integer column exceed 2⁶² or are NaN.
    """
    columns = rows.T.contiguous().numpy()
    return [_typed(column, kind, name) for column, kind, name in zip(columns, column_types(types, len(columns)), names, strict=True)]


def column_types(types: Sequence[str], columns: int) -> list[str]:
    """Compute the dtype names of `typed_columns`, `int64` or `float32`.

    Args:
        types: see `Encoding`.
        columns: number of columns, used if `types` is empty.
    """
    return ["int64" if np.dtype(kind).kind in "iu" else "float32" for kind in types or ["float32"] * columns]


def narrowed(column: np.ndarray, kind: str) -> np.ndarray:
    """Convert a column to its original dtype, unless that is an integer type too small for its values.

    Args:
        column: one of `typed_columns`, `(n,)`.
        kind: NumPy name of the dtype.

    Returns:
        The converted column; `column` itself if `kind` is too small.
    """
    dtype = np.dtype(kind)
    if dtype.kind not in "iu":
        return column.astype(dtype)
    fits = np.iinfo(dtype).min <= column.min(initial=0) and column.max(initial=0) <= np.iinfo(dtype).max
    return column.astype(dtype) if fits else column


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


def _whole(types: Sequence[str]) -> Tensor:
    """Mask of integer columns, `(d,)`; 0-dim and False if `types` is empty."""
    return torch.tensor([np.dtype(kind).kind in "iu" for kind in types]) if types else torch.tensor(False)


def _typed(column: np.ndarray, kind: str, name: str) -> np.ndarray:
    if kind == "float32":
        return column
    low, high = column.min(initial=0), column.max(initial=0)
    if not -_WHOLE <= low <= high <= _WHOLE:
        raise RunError(
            f"The integer column '{name}' has samples from {low:g} to {high:g}, which overflow int64.",
            "Write a .npy, which stores float32, or train longer.",
        )
    return column.astype(np.float64).round().astype(np.int64)
