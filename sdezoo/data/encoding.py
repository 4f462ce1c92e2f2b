"""The encoding of data: from rows in the user's units to the numbers that a process moves, and back to final rows.

Rows in the user's units come in two forms:

- *numbers*: a tensor `(N, *event)`, float32 in `Data` and in samples. Images, points and paths have no other form;
- *columns*: of a table, one array `(N,)` for each column, of the column's own dtype. Whole numbers beyond 2²⁴, which float32 does not
  hold, are exact here. A user is given columns (`typed_columns`); `Encoding.encode` and `Encoding.decode_columns` take and give them
  as tensors, for codecs that need int64.

Encoded rows are a tensor `(N, *encoded event)`, float32, which may have more or fewer columns than the raw rows.

`Encoding.decode` makes rows *final*: what is counted, judged and written are these values. Whole numbers are whole in them. The lattice
of images is left to pictures.
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
"""Rows between two codecs: numbers, or columns, the last axis of numbers, where a codec took some of them."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """A sequence of invertible codecs, fitted once on all rows of the data, and the dtypes of the columns that come out of `decode`.

    Args:
        codecs: in the order in which rows are encoded; each meets the columns that the one before it has made.
        types: the dtype of each column of a table, as NumPy calls it, such as `int64`; empty: all are float32.
    """

    codecs: tuple[Codec, ...]
    types: tuple[str, ...] = ()

    @classmethod
    def affine(cls, scale: Tensor | float, shift: Tensor | float, types: tuple[str, ...] = ()) -> Encoding:
        """The encoding `x = scale · raw + shift`, see `AffineCodec`."""
        return cls((AffineCodec(torch.as_tensor(scale), torch.as_tensor(shift)),), types)

    def encode(self, raw: Tensor | Sequence[Tensor]) -> Tensor:
        """Encoded rows, float32 `(N, *encoded event)` on `raw`'s device.

        Computed in float64 on the CPU, as not every device has float64.

        Args:
            raw: numbers `(N, *event)`, or the columns `(N,)` of a table, each of its own dtype.
        """
        values, device = _values(raw), _device(raw)
        for codec in self.codecs:
            values = _encoded(codec, values)
        return _numbers(values).to(device, torch.float32)

    def decode(self, x: Tensor) -> Tensor:
        """Final rows, float32 `(N, *event)` on `x`'s device: never clamped; whole numbers, by `types`, rounded to the nearest.

        Args:
            x: encoded rows `(N, *encoded event)`.
        """
        raw = _numbers(self._decoded(x))
        if (whole := _whole(self.types)).any():
            raw = torch.where(whole, raw.round(), raw)
        return raw.to(x.device, torch.float32)

    def decode_columns(self, x: Tensor) -> list[Tensor]:
        """Final rows as columns `(N,)` on the CPU, each of the dtype that its codec gives: int64 values are exact, float64 ones rounded.

        Args:
            x: encoded rows `(N, encoded columns)`.
        """
        columns = _columns(self._decoded(x))
        whole = _whole(self.types).expand(len(columns))
        return [column.round() if rounds and column.is_floating_point() else column for column, rounds in zip(columns, whole, strict=True)]

    def log_det(self, raw: Tensor | Sequence[Tensor]) -> Tensor | None:
        """`log |det ∂ encode/∂ raw|` at each row, float64 `(N,)` on the CPU: what a log-density in the user's units has more.

        None where a codec has none: the rows then have probabilities, and no density.
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
        """The shape of an encoded row.

        Args:
            event: the shape of a row in the user's units.

        Raises:
            DataError: where the encoding is not one of such rows.
        """
        shape = tuple(event)
        if self.types and shape[-1:] != (len(self.types),):
            raise damaged()
        for codec in self.codecs:
            shape = codec.encoded_event(shape)
        return shape

    def to_json(self) -> dict[str, Any]:
        """What `from_json` builds the very same encoding from."""
        return {"codecs": [{"codec": codec.kind, **codec.parameters()} for codec in self.codecs], "types": list(self.types)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Encoding:
        """The encoding that `to_json` wrote.

        Raises:
            DataError: where an entry is missing or is not of its kind.
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
    """Final rows of a table as columns `(n,)`: int64 where `types` has whole numbers, else float32.

    The dtypes depend on `types` alone, so that every part of a large table has the same.

    Args:
        rows: numbers `(n, d)` on the CPU; what is not whole in a column of whole numbers is rounded to the nearest.
        types: see `Encoding`.
        names: of the columns, for messages.

    Raises:
        RunError: where int64 is too small for a column.
    """
    columns = rows.T.contiguous().numpy()
    return [_typed(column, kind, name) for column, kind, name in zip(columns, column_types(types, len(columns)), names, strict=True)]


def column_types(types: Sequence[str], columns: int) -> list[str]:
    """The dtypes of `typed_columns`, int64 or float32.

    Args:
        types: see `Encoding`.
        columns: how many there are.
    """
    return ["int64" if np.dtype(kind).kind in "iu" else "float32" for kind in types or ["float32"] * columns]


def narrowed(column: np.ndarray, kind: str) -> np.ndarray:
    """One of `typed_columns` in the dtype that NumPy calls `kind`, unless that is one of whole numbers which does not hold all values."""
    dtype = np.dtype(kind)
    if dtype.kind not in "iu":
        return column.astype(dtype)
    fits = np.iinfo(dtype).min <= column.min(initial=0) and column.max(initial=0) <= np.iinfo(dtype).max
    return column.astype(dtype) if fits else column


def _values(rows: Tensor | Sequence[Tensor]) -> _Values:
    # The copy is the codecs' to overwrite.
    if isinstance(rows, Tensor):
        return rows.detach().cpu().to(torch.float64, copy=True)
    return [column.detach().cpu() for column in rows]


def _device(rows: Tensor | Sequence[Tensor]) -> torch.device:
    return rows.device if isinstance(rows, Tensor) else rows[0].device


def _numbers(values: _Values) -> Tensor:
    return values if isinstance(values, Tensor) else torch.stack([column.double() for column in values], -1)


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
    """The columns that `codec` took, back in their places; `rows`: how many there are, for a codec that made no column."""
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
    """Which columns hold whole numbers, `(d,)`, or 0-dim for none."""
    return torch.tensor([np.dtype(kind).kind in "iu" for kind in types]) if types else torch.tensor(False)


def _typed(column: np.ndarray, kind: str, name: str) -> np.ndarray:
    if kind == "float32":
        return column
    low, high = column.min(initial=0), column.max(initial=0)
    if not -_WHOLE <= low <= high <= _WHOLE:
        raise RunError(
            f"'{name}' is a column of whole numbers, and its samples reach from {low:g} to {high:g}, too far for int64.",
            "Write a .npy, which holds them, or train longer.",
        )
    return column.astype(np.float64).round().astype(np.int64)
