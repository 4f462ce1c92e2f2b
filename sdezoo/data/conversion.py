"""Columns of files and data frames to codes, and back: the one place where values of any type become numbers.

`to_numbers` finds the type of each column of an Apache Arrow table (`sdezoo.data.column_types`) and its codes. `from_numbers` gives back
columns of the original types from final rows. A round trip of data is exact, except for floating-point numbers, which are rounded to
float32, and for integers and times that span more than float32 tells apart (2²⁵ steps).
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from sdezoo.data.column_types import CategoryType, ColumnType, NumberType, TimeType, offset_of, or_numbers, typed_columns
from sdezoo.data.opening.dialect import is_number
from sdezoo.data.opening.inference import (
    as_float64,
    as_int64,
    check_small,
    column_parts,
    float_type,
    integer_type,
    shared_times,
    stored_texts,
    stored_type,
    time_type,
)
from sdezoo.data.opening.numerals import CATEGORIES
from sdezoo.data.opening.time_texts import COMPACT, form_of, parse_real_times, read_times, write_times
from sdezoo.data.opening.words import is_text, levels, ranked
from sdezoo.errors import DataError, RunError, shortened

_NUMBERS = 0.5
"""A column of more than 20 different strings, more than half of which are numbers, is a column of numbers with mistakes."""
_HELD = 2**16
"""Different strings of a column that are held as Python objects."""


class Columns(NamedTuple):
    """The `d` named columns of a table."""

    names: tuple[str, ...]
    """Column names."""
    values: Tensor
    """Codes `(N, d)`, float32; NaN: missing."""
    types: tuple[ColumnType, ...]
    """Types of the columns; empty: all float32."""


def to_numbers(table: pa.Table, strings: Mapping[str, str] | None = None, text: Container[str] = ()) -> Columns:
    """Convert a table to codes, column by column. Values too large for float32 become infinite.

    Args:
        table: the table; column names are not checked.
        strings: columns of strings that were read as dictionaries, to save memory, and their types in the file.
        text: names of columns of strings that may look like numbers.

    Raises:
        DataError: if a column holds something other than numbers, strings, Booleans, dates and times, or mixes numbers and text.
    """
    _check_schema(table.schema)
    table, strings = read_times(table, text), strings or {}
    values = torch.empty(table.num_rows, table.num_columns)
    columns = [_plain(column) for column in table.columns]
    spans = shared_times(columns)
    types = []
    for field, column, codes in zip(table.schema, columns, values.numpy().T, strict=True):
        name = field.name
        with np.errstate(over="ignore"):
            kind = _column(name, column, spans, codes)
        if isinstance(kind, TimeType) and (form := form_of(field)):
            kind = replace(kind, form=form)
        if isinstance(kind, CategoryType):
            if name not in text and len(kind.values) > CATEGORIES:
                _refuse_mixture(name, codes, kind.values)
            kind = CategoryType(kind.values, stored=stored_texts(strings[name])) if name in strings else kind
        types.append(kind)
    return Columns(tuple(table.column_names), values, tuple(types))


def schema(names: Sequence[str], types: Sequence[ColumnType], *, stored: bool = False) -> pa.Schema:
    """Build the Arrow schema for a table of final rows.

    Args:
        names: column names.
        types: types of the columns; empty: all float32.
        stored: whether decimals and strings have the types in which they were stored.
    """
    kinds = or_numbers(types, len(names))
    found = [stored_type(kind) if stored else None for kind in kinds]
    return pa.schema([pa.field(name, own or _arrow_type(kind)) for name, kind, own in zip(names, kinds, found, strict=True)])


def from_numbers(rows: Tensor, names: Sequence[str], types: Sequence[ColumnType], *, stored: bool = False) -> pa.RecordBatch:
    """Convert final rows to columns of their original types, with the schema of `schema`.

    Numbers have the dtype of their column, see `held`.

    Args:
        rows: final rows `(n, d)`, float32 on the CPU.
        names: column names.
        types: types of the columns; empty: all float32.
        stored: as for `schema`.

    Raises:
        RunError: if a sample is not a value of its column's type: an integer or a time overflows.
    """
    form = schema(names, types, stored=stored)
    kinds = or_numbers(types, len(names))
    exact = typed_columns(rows, kinds, names)
    missing = rows.T.isnan().numpy()
    columns = zip(exact, missing, kinds, form, strict=True)
    arrays = []
    for values, mask, kind, field in columns:
        if isinstance(kind, TimeType) and not kind.has_year(values[~mask]):
            raise RunError(f"The column '{field.name}' has samples beyond the years 1 to 9999.", "Train longer.")
        try:
            arrays.append(_array(values, mask, kind, _arrow_type(kind)).cast(field.type))
        except pa.ArrowException:
            raise RunError(f"The column '{field.name}' has samples that {field.type} does not hold.", "Train longer.") from None
    return pa.record_batch(arrays, schema=form)


def held(types: Sequence[ColumnType], parts: Iterable[Tensor]) -> tuple[ColumnType, ...]:
    """The types with wider dtypes for the numbers that theirs do not hold: int64 for integers, float32 for float16, float64 for decimals.

    Args:
        types: types of the columns.
        parts: chunks of final rows `(n_i, d)`; not read if no dtype is too narrow for any number of float32.
    """
    if not any(isinstance(kind, NumberType) and (kind.stored or kind.dtype not in _ANY) for kind in types):
        return tuple(types)
    ends = [torch.stack([part.nan_to_num(inf, inf, -inf).amin(0), part.nan_to_num(-inf, inf, -inf).amax(0)]) for part in parts if len(part)]
    low, high = (end.double().tolist() for end in (torch.stack(ends)[:, 0].amin(0), torch.stack(ends)[:, 1].amax(0)))
    return tuple(_holding(kind, *each) for kind, *each in zip(types, low, high, strict=True))


_ANY = ("int64", "float32", "float64")


def _holding(kind: ColumnType, low: float, high: float) -> ColumnType:
    if isinstance(kind, NumberType) and kind.stored and low <= high:
        own: Any = stored_type(kind)
        room = 10.0 ** (own.precision - own.scale) - 1
        return kind if max(-low - kind.offset, high + kind.offset) <= room else replace(kind, stored="")
    if not isinstance(kind, NumberType) or kind.dtype in _ANY or low > high:
        return kind
    info = np.iinfo(kind.dtype) if kind.whole else np.finfo(kind.dtype)
    fits = info.min <= low + kind.offset and high + kind.offset <= info.max
    return kind if fits else replace(kind, dtype="int64" if kind.whole else "float32")


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
        return isinstance(old, CategoryType) or (old.whole and (new.form in COMPACT or new.arrow.startswith("duration")))
    return isinstance(new, CategoryType) and isinstance(old, NumberType)


def _recoded(codes: np.ndarray, old: ColumnType, new: ColumnType, name: str) -> np.ndarray:
    there = ~np.isnan(codes)
    exact = old.exact(codes[there], name)
    out = np.full(len(codes), np.nan, np.float32)
    if isinstance(new, NumberType):
        out[there] = exact - new.offset
    elif isinstance(new, CategoryType):
        values, of_rows = _words(exact, old)
        place = {str(value): k for k, value in enumerate(new.values)}
        found = np.fromiter((place.get(str(value), -1) for value in values), np.int64, len(values))[of_rows]
        if (found < 0).any():
            unknown = values[int(of_rows[(found < 0).argmax()])]
            raise DataError(
                f"The column '{name}' has the category '{unknown}', which the data of the run did not have.",
                f"Give one of {shortened(map(repr, place))}.",
            )
        out[there] = found
    elif isinstance(new, TimeType) and there.any():
        times = _named_type(new.arrow)
        if isinstance(old, TimeType):
            read = _array(exact, ~there[there], replace(old, form=""), _named_type(old.arrow)).cast(times, safe=False)
        else:
            texts = _array(exact, ~there[there], old, _arrow_type(old))
            read = parse_real_times(texts.cast(pa.string()), new.form, times) if new.form else texts.cast(times, safe=False)
            if read.null_count:
                raise pa.ArrowInvalid
        out[there] = np.round((as_int64(read) - new.offset) / new.step)
    return out


def _words(exact: np.ndarray, old: ColumnType) -> tuple[Sequence[Any], np.ndarray]:
    """Values as categories, and which of them each row has."""
    if isinstance(old, CategoryType):
        return old.values, exact
    values, of_rows = np.unique(exact, return_inverse=True)
    return values.tolist(), of_rows


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([column]) if isinstance(column, pa.Array) else column


def _column(name: str, column: pa.ChunkedArray, spans: dict[str, TimeType], codes: np.ndarray) -> ColumnType:
    """Fill in the codes `(N,)`, float32, and return the type."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if not is_text(kind.value_type):
            return _column(name, column.cast(kind.value_type), spans, codes)
        found = _strings(column, codes)
        return CategoryType(found.values, "dictionary", "", *levels(column, found.values)) if isinstance(found, CategoryType) else found
    if is_text(kind):
        found = _strings(column, codes)
        return replace(found, stored=stored_texts(str(kind))) if isinstance(found, CategoryType) else found
    if pa.types.is_temporal(kind):
        return _times(column, spans.get(str(kind)) or time_type(kind, [column]), codes)
    if pa.types.is_boolean(kind):
        column, found = column.cast(pa.int8()), CategoryType((False, True), "bool")
    else:
        found = integer_type(column, name) if pa.types.is_integer(kind) else float_type(column)
        found = replace(found, stored=str(kind)) if pa.types.is_decimal(kind) else found
    offset = offset_of(found)
    for first, part in column_parts(column):
        if not offset:
            exact = as_float64(part)
            check_small(exact, f"The column '{name}'")
            codes[first : first + len(part)] = exact
        else:
            there = np.asarray(part.is_valid())
            codes[first : first + len(part)] = np.nan
            known = part.drop_null()
            codes[first : first + len(part)][there] = (as_int64(known) if found.whole else as_float64(known)) - offset
    return found


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


def _strings(column: pa.ChunkedArray, codes: np.ndarray) -> ColumnType:
    """Fill in the codes of a column of strings, or of a dictionary of strings, and return the type."""
    try:
        values = ranked(column, codes)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"Texts of a column are not UTF-8, or take more than 2 GiB ({' '.join(str(error).split())[:80]}).",
            "Check that the file is complete, or leave out the column.",
        ) from None
    values = tuple(values) if len(values) <= _HELD else values
    return CategoryType(values) if values else NumberType("float64")


def _refuse_mixture(name: str, codes: np.ndarray, values: Sequence[str | bool]) -> None:
    words = np.fromiter((not is_number(str(value)) for value in values), bool, len(values))
    if not 0 < words.sum() <= (1 - _NUMBERS) * len(values):
        return
    wrong = ~np.isnan(codes)
    wrong[wrong] = words[codes[wrong].astype(np.int64)]
    first = int(wrong.argmax())
    raise DataError(
        f"The column '{name}' mixes numbers and text: {int(wrong.sum())} of {len(codes)} values are no numbers, the first is "
        f"'{values[int(codes[first])]}' in row {first} (counted from 0).",
        "Correct these rows, or leave their values empty.",
    )


def _times(column: pa.ChunkedArray, found: TimeType, codes: np.ndarray) -> TimeType:
    for first, part in column_parts(column):
        codes[first : first + len(part)] = np.nan
        known = np.round((as_int64(part.drop_null()) - found.offset) / found.step)
        codes[first : first + len(part)][np.asarray(part.is_valid())] = known
    return found


def _arrow_type(kind: ColumnType) -> pa.DataType:
    if isinstance(kind, TimeType):
        return pa.int64() if kind.form in COMPACT else pa.string() if kind.form else _named_type(kind.arrow)
    if isinstance(kind, CategoryType):
        words = pa.dictionary(pa.int32(), pa.string(), ordered=kind.ordered)
        return {"bool": pa.bool_(), "dictionary": words}.get(kind.form, pa.string())
    return pa.from_numpy_dtype(np.dtype(kind.dtype)) if isinstance(kind, NumberType) else pa.float32()


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


def is_form(form: str, name: str) -> bool:
    """Whether times can be written in a form.

    Args:
        form: the form, see `sdezoo.data.opening.time_texts`.
        name: name of their Arrow type.
    """
    try:
        write_times(pa.array([0]).cast(pa.int32() if _named_type(name).bit_width == 32 else pa.int64()).cast(_named_type(name)), form)
    except (ValueError, pa.ArrowException):
        return False
    return len(form) <= 64


def _time_storage(kind: TimeType) -> pa.DataType:
    return pa.int32() if _named_type(kind.arrow).bit_width == 32 else pa.int64()


def _array(values: np.ndarray, missing: np.ndarray, kind: ColumnType, form: pa.DataType) -> pa.Array:
    mask = missing if missing.any() else None
    if isinstance(kind, CategoryType):
        found = pa.array(list(kind.values)).take(pa.array(values, mask=mask))
        if kind.form != "dictionary" or not kind.levels:
            return found.dictionary_encode().cast(form) if kind.form == "dictionary" else found
        known = pa.array(kind.levels)
        return pa.DictionaryArray.from_arrays(pc.index_in(found, known), known, ordered=kind.ordered)
    if isinstance(kind, TimeType):
        times = pa.array(values, mask=mask).cast(_time_storage(kind)).cast(_named_type(kind.arrow))
        return write_times(times, kind.form) if kind.form else times
    return pa.array(values, mask=mask).cast(form)
