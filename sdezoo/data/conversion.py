"""Columns of files and data frames to codes, and back: the one place where values of any type become numbers.

`to_numbers` finds the type of each column of an Apache Arrow table (`sdezoo.data.column_types`) and its codes. `from_numbers` gives back
columns of the original types from final rows. A round trip of data is exact, except for floating-point numbers, which are rounded to
float32, and for integers and times that span more than float32 tells apart (2²⁵ steps).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sdezoo.data.column_types import CategoryType, ColumnType, NumberType, TimeType, or_numbers
from sdezoo.data.encoding import typed_columns
from sdezoo.data.opening.dialect import is_number
from sdezoo.data.opening.table import is_text
from sdezoo.errors import DataError, RunError

EXACT = 2**24
"""float32 holds every integer up to here."""

_DIGITS, _DIFFERENT = 6, 10
"""Decimal places of a lattice at most; different values at least for multiples of a number above one in the last place."""
_WORDS, _NUMBERS = 20, 0.5
"""A column of more than 20 different strings, more than half of which are numbers, is a column of numbers with mistakes."""
_SPANS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "day": 86_400 * 10**9}
"""Spans of time in nanoseconds."""


class Columns(NamedTuple):
    """The `d` named columns of a table."""

    names: tuple[str, ...]
    """Column names."""
    values: Tensor
    """Codes `(N, d)`, float32; NaN: missing."""
    types: tuple[ColumnType, ...]
    """Types of the columns; empty: all float32."""


def to_numbers(table: pa.Table, strings: Container[str] = (), text: Container[str] = ()) -> Columns:
    """Convert a table to codes, column by column. Values too large for float32 become infinite.

    Args:
        table: the table; column names are not checked.
        strings: names of columns of strings that were read as dictionaries, to save memory.
        text: names of columns of strings that may look like numbers.

    Raises:
        DataError: if a column holds something other than numbers, strings, Booleans, dates and times, or mixes numbers and text.
    """
    _check_schema(table.schema)
    values = torch.empty(table.num_rows, table.num_columns)
    spans = _shared_spans(table)
    types = []
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        codes, kind = _column(name, _plain(column), spans)
        if isinstance(kind, CategoryType):
            if name not in text and len(kind.values) > _WORDS:
                _refuse_mixture(name, codes, kind.values)
            kind = CategoryType(kind.values) if name in strings else kind
        with np.errstate(over="ignore"):
            values[:, place] = torch.from_numpy(codes.astype(np.float32))
        types.append(kind)
    return Columns(tuple(table.column_names), values, tuple(types))


def schema(names: Sequence[str], types: Sequence[ColumnType]) -> pa.Schema:
    """Build the Arrow schema for a table of final rows.

    Args:
        names: column names.
        types: types of the columns; empty: all float32.
    """
    kinds = or_numbers(types, len(names))
    return pa.schema([pa.field(name, _arrow_type(kind)) for name, kind in zip(names, kinds, strict=True)])


def from_numbers(rows: Tensor, names: Sequence[str], types: Sequence[ColumnType]) -> pa.RecordBatch:
    """Convert final rows to columns of their original types, with the schema of `schema`.

    Integers become int64, numbers on a lattice float64, other numbers float32.

    Args:
        rows: final rows `(n, d)`, float32 on the CPU.
        names: column names.
        types: types of the columns; empty: all float32.

    Raises:
        RunError: if a sample is not a value of its column's type: an integer or a time overflows.
    """
    form = schema(names, types)
    kinds = or_numbers(types, len(names))
    exact = typed_columns(rows, kinds, names)
    missing = rows.T.isnan().numpy()
    columns = zip(exact, missing, kinds, form, strict=True)
    arrays = []
    for values, mask, kind, field in columns:
        try:
            arrays.append(_array(values, mask, kind, field.type))
        except pa.ArrowException:
            raise RunError(f"The column '{field.name}' has samples that {field.type} does not hold.", "Train longer.") from None
    return pa.record_batch(arrays, schema=form)


def recoded(rows: Tensor, own: Sequence[ColumnType], types: Sequence[ColumnType], names: Sequence[str]) -> Tensor:
    """Convert codes of one set of types to those of another, as of a file to those of a model.

    Args:
        rows: codes `(n, d)`.
        own: their types; empty: all float32.
        types: the types to convert to; empty: all float32.
        names: column names, for messages.

    Raises:
        DataError: if a column has another kind of values, or a category that the other vocabulary does not have.
    """
    found = rows.clone()
    for i, (old, new, name) in enumerate(zip(or_numbers(own, len(names)), or_numbers(types, len(names)), names, strict=True)):
        if old == new:
            continue
        codes = rows[:, i].numpy()
        try:
            read = _recoded(codes, old, new, name) if old.kind == new.kind or _reads(old, new) or np.isnan(codes).all() else None
        except pa.ArrowException:
            read = None
        if read is None:
            raise DataError(f"The column '{name}' holds {_WORD[old.kind]}, not {_WORD[new.kind]}.", "Give values like those of the data.")
        found[:, i] = torch.from_numpy(read)
    return found


_WORD = {"number": "numbers", "category": "categories", "time": "dates or times"}


def _reads(old: ColumnType, new: ColumnType) -> bool:
    """Whether a text may show values of the type `new` as `old`: categories as numbers, durations as integers, times in words."""
    if isinstance(new, TimeType):
        return isinstance(old, CategoryType) or (old.whole and new.arrow.startswith("duration"))
    return isinstance(new, CategoryType) and isinstance(old, NumberType)


def _recoded(codes: np.ndarray, old: ColumnType, new: ColumnType, name: str) -> np.ndarray:
    there = ~np.isnan(codes)
    exact = old.exact(codes[there], name)
    out = np.full(len(codes), np.nan, np.float32)
    if isinstance(new, NumberType):
        out[there] = exact - new.offset
    elif isinstance(new, CategoryType):
        values = _words(exact, old)
        place = {str(value): k for k, value in enumerate(new.values)}
        unknown = [value for value in values if value not in place]
        if unknown:
            raise DataError(
                f"The column '{name}' has the category '{unknown[0]}', which the data of the run did not have.",
                f"Give one of {', '.join(map(repr, list(place)[:5]))}{', …' if len(place) > 5 else ''}.",
            )
        out[there] = [place[value] for value in values]
    elif isinstance(new, TimeType) and there.any():
        read = _array(exact, ~there[there], old, _arrow_type(old)).cast(_arrow_type(new), safe=False)
        out[there] = np.round((_int64(read) - new.offset) / new.step)
    return out


def _words(exact: np.ndarray, old: ColumnType) -> list[str]:
    if isinstance(old, CategoryType):
        return [str(old.values[k]) for k in exact]
    return [str(value) for value in exact.tolist()]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([column]) if isinstance(column, pa.Array) else column


def _column(name: str, column: pa.ChunkedArray, spans: dict[str, TimeType]) -> tuple[np.ndarray, ColumnType]:
    """Codes in float64, and the type."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if not is_text(kind.value_type):
            return _column(name, column.cast(kind.value_type), spans)
        codes, found = _strings(name, column)
        return codes, CategoryType(found.values, "dictionary") if isinstance(found, CategoryType) else found
    if is_text(kind):
        return _strings(name, column.cast(pa.string()).dictionary_encode())
    if pa.types.is_temporal(kind):
        return _times(column, spans.get(str(kind)) or _span(kind, [column]))
    if pa.types.is_boolean(kind):
        return _float64(column.cast(pa.int8())), CategoryType((False, True), "bool")
    return _integers(column) if pa.types.is_integer(kind) else _floats(column)


_ACCEPTED = (
    is_text,
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_temporal,
)


def _check_schema(form: pa.Schema) -> None:
    for field in form:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(accepts(kind) for accepts in _ACCEPTED) or pa.types.is_interval(kind):
            raise DataError(
                f"The column '{field.name}' holds {kind}, which is neither a number nor a category nor a time.",
                "Leave the column out of the table.",
            )


def _float64(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _integers(column: pa.ChunkedArray) -> tuple[np.ndarray, ColumnType]:
    dtype = np.dtype(column.type.to_pandas_dtype()).name
    values = _float64(column)
    known = column.drop_null()
    if not len(known):
        return values, NumberType(dtype)
    low, high = (int(end) for end in (known.to_numpy().min(), known.to_numpy().max()))
    if max(abs(low), abs(high)) > EXACT and high < 2**63:
        exact = np.asarray(known.cast(pa.int64()).to_numpy())
        if high - low < 2 * EXACT:
            step = _divisor(exact - low)
            offset = low + (high - low) // (2 * step) * step
            values[~np.isnan(values)] = exact - offset
            return values, NumberType(dtype, step, 0, offset)
        return values, NumberType(dtype, _divisor(exact))
    return values, NumberType(dtype, _divisor(values[~np.isnan(values)]))


def _floats(column: pa.ChunkedArray) -> tuple[np.ndarray, ColumnType]:
    values = _float64(column)
    if pa.types.is_null(column.type):
        return values, NumberType("float64")
    known = values[np.isfinite(values)]
    single = column.type == pa.float32()
    dtype = "float32" if single else "float16" if column.type == pa.float16() else "float64"
    if not len(known) or np.abs(known).max() > EXACT:
        return values, NumberType(dtype)
    for digits in range(_DIGITS + 1):
        scale = 10**digits
        multiples = np.round(known * scale)
        if np.abs(multiples).max() > EXACT:
            break
        again = multiples / scale
        if np.array_equal(again.astype(np.float32) if single else again, known.astype(np.float32) if single else known):
            return values, NumberType(dtype, _divisor(multiples), digits)
    return values, NumberType(dtype)


def _divisor(multiples: np.ndarray) -> int:
    """The largest integer that divides all; 1 for few different ones, which may share a divisor by chance."""
    whole = np.unique(np.abs(multiples.astype(np.int64)))
    return max(1, int(np.gcd.reduce(whole))) if len(whole) >= _DIFFERENT else 1


def _strings(name: str, column: pa.ChunkedArray) -> tuple[np.ndarray, ColumnType]:
    """Codes and type of a column of strings as a dictionary."""
    column = column.unify_dictionaries()
    words = column.chunk(0).dictionary.cast(pa.string()) if column.num_chunks else pa.array([], pa.string())
    indices = pa.chunked_array([chunk.indices for chunk in column.chunks], pa.int32() if not column.num_chunks else None)
    used = np.zeros(len(words), dtype=bool)
    used[np.asarray(indices.drop_null().to_numpy())] = True
    known = words.filter(pa.array(used))
    order = pa.array(np.argsort(np.array(known.to_pylist(), dtype=object), kind="stable"))
    values = tuple(known.take(order).to_pylist())
    if not values:
        return np.full(len(column), np.nan), NumberType("float64")
    rank = np.full(len(words), np.nan)
    rank[np.flatnonzero(used)[np.asarray(order)]] = np.arange(len(values))
    there = np.asarray(column.is_valid().to_numpy(), dtype=bool)
    codes = np.full(len(column), np.nan)
    codes[there] = rank[np.asarray(indices.drop_null().to_numpy())]
    return codes, CategoryType(values)


def _refuse_mixture(name: str, codes: np.ndarray, values: Sequence[str | bool]) -> None:
    words = [k for k, value in enumerate(values) if not is_number(str(value))]
    if not words or len(words) > (1 - _NUMBERS) * len(values):
        return
    wrong = np.isin(codes, words)
    first = int(wrong.argmax())
    raise DataError(
        f"The column '{name}' mixes numbers and text: {int(wrong.sum())} of {len(codes)} values are no numbers, the first is "
        f"'{values[int(codes[first])]}' in row {first} (counted from 0).",
        "Correct these rows, or leave their values empty.",
    )


def _int64(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """The int64 of times without missing values."""
    storage = column.type.bit_width
    return np.asarray(column.cast(pa.int32() if storage == 32 else pa.int64()).to_numpy(), dtype=np.int64)


def _shared_spans(table: pa.Table) -> dict[str, TimeType]:
    """One type for all columns of times of one Arrow type, so that they can be compared, if float32 tells all of their values apart."""
    kinds = {column.type for column in table.columns if pa.types.is_temporal(column.type) and not pa.types.is_interval(column.type)}
    found = {}
    for kind in kinds:
        columns = [_plain(column) for column in table.columns if column.type == kind]
        shared = _span(kind, columns)
        if shared.step == _exact_step([_int64(column.drop_null()) for column in columns], _own(kind)):
            found[str(kind)] = shared
    return found


def _own(kind: pa.DataType) -> int:
    """Nanoseconds in the unit of a type of times."""
    return _SPANS[kind.unit if hasattr(kind, "unit") else "ms" if kind == pa.date64() else "day"]


def _exact_step(columns: Sequence[np.ndarray], own: int) -> int:
    """The common step of times; of few different ones, which may share one by chance, the longest span of time that divides it."""
    known = np.unique(np.concatenate(columns))
    if len(known) < 2:
        return 1
    step = int(np.gcd.reduce(known - known.min()))
    return (
        step
        if len(known) >= _DIFFERENT
        else max([span // own for span in _SPANS.values() if step * own % span == 0 and span >= own], default=1)
    )


def _span(kind: pa.DataType, columns: Sequence[pa.ChunkedArray]) -> TimeType:
    """The type of columns of times: the coarsest step that is exact, or the finest span of time of which float32 holds all multiples."""
    values = [_int64(column.drop_null()) for column in columns]
    known = np.concatenate(values)
    if not len(known):
        return TimeType(str(kind), 0)
    low, high, step = int(known.min()), int(known.max()), _exact_step(values, _own(kind))
    if coarse := (high - low) // step >= 2 * EXACT:
        own = _own(kind)
        spans = [span // own for span in _SPANS.values() if span % own == 0 and span >= own * step]
        step = next((span for span in spans if (high - low) // span < 2 * EXACT), spans[-1] if spans else step)
        low = low // step * step
    return TimeType(str(kind), low + (high - low) // (2 * step) * step, step, coarse)


def _times(column: pa.ChunkedArray, found: TimeType) -> tuple[np.ndarray, ColumnType]:
    there = np.asarray(column.is_valid().to_numpy(), dtype=bool)
    codes = np.full(len(column), np.nan)
    codes[there] = np.round((_int64(column.drop_null()) - found.offset) / found.step)
    return codes, found


def _arrow_type(kind: ColumnType) -> pa.DataType:
    if isinstance(kind, TimeType):
        return _named_type(kind.arrow)
    if isinstance(kind, CategoryType):
        return {"bool": pa.bool_(), "dictionary": pa.dictionary(pa.int32(), pa.string())}.get(kind.form, pa.string())
    return pa.int64() if kind.whole else pa.float64() if kind.unit[0] else pa.float32()


def _named_type(name: str) -> pa.DataType:
    """The Arrow type with this name."""
    head, _, rest = name.partition("[")
    unit, _, zone = rest.rstrip("]").partition(", tz=")
    if head == "timestamp":
        return pa.timestamp(unit, zone or None)
    makers = {"date32": pa.date32, "date64": pa.date64}
    if head in makers:
        return makers[head]()
    return {"time32": pa.time32, "time64": pa.time64, "duration": pa.duration}[head](unit)


def is_time(name: str) -> bool:
    """Whether there is an Arrow type of times with this name, and its time zone is known.

    Args:
        name: the name.
    """
    try:
        kind = _named_type(name)
        pa.array([0]).cast(pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind).cast(pa.string())
    except (KeyError, ValueError, pa.ArrowException):
        return False
    return str(kind) == name


def _time_storage(kind: TimeType) -> pa.DataType:
    return pa.int32() if _named_type(kind.arrow).bit_width == 32 else pa.int64()


def _array(values: np.ndarray, missing: np.ndarray, kind: ColumnType, form: pa.DataType) -> pa.Array:
    mask = missing if missing.any() else None
    if isinstance(kind, CategoryType):
        found = pa.array(list(kind.values)).take(pa.array(values, mask=mask))
        return found.dictionary_encode().cast(form) if kind.form == "dictionary" else found
    if isinstance(kind, TimeType):
        return pa.array(values, mask=mask).cast(_time_storage(kind)).cast(form)
    if kind.unit[0] or mask is None:
        return pa.array(values, mask=mask)
    return pa.array(values, from_pandas=True)
