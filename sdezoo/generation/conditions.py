"""Conditions on columns as users write them: `COLUMN=VALUE`, `COLUMN=LOW..HIGH`, `COLUMN=..HIGH`, `COLUMN=LOW..`."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, time, timedelta
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import torch

from sdezoo.data.column_types import CategoryType, ColumnType, TimeType, offset_of, or_numbers
from sdezoo.data.conversion import from_numbers, schema, to_numbers
from sdezoo.data.opening.time_texts import parse_real_times
from sdezoo.errors import DataError, ParameterError, shortened

Value = float | str | date | timedelta
"""A value as users give it."""

Values = Mapping[str, Value | tuple[Value | None, Value | None]]
"""Conditions by column: a value, an interval as a pair (None: open), or text as on the command line."""


class Condition(NamedTuple):
    """A column between two codes (see `sdezoo.data.column_types`), both included; an exact value if they are the same."""

    column: str
    low: float
    high: float


def parse(text: str, columns: Sequence[str], types: Sequence[ColumnType] = ()) -> Condition:
    """Parse `COLUMN=VALUE` or `COLUMN=LOW..HIGH`, where either end may be left out.

    Args:
        text: the condition.
        columns: names of the columns.
        types: types of the columns; empty: all float32.

    Raises:
        ParameterError: if the text has another form.
        DataError: if there is no such column.
    """
    named = [name for name in columns if text.startswith(f"{name}=")]
    if not named:
        name, equals, _ = text.partition("=")
        if not equals:
            raise ParameterError(f"given={text} is not a condition.", "Give COLUMN=VALUE, or COLUMN=LOW..HIGH.")
        raise DataError(f"There is no column '{name}'.", f"Choose from: {', '.join(columns)}.")
    name = max(named, key=len)
    return _condition(name, text[len(name) + 1 :], _type(name, columns, types))


def conditions(given: Values | Sequence[str], columns: Sequence[str], types: Sequence[ColumnType] = ()) -> list[Condition]:
    """Read conditions.

    Args:
        given: conditions by column, or as texts.
        columns: names of the columns.
        types: types of the columns; empty: all float32.

    Raises:
        ParameterError: if a condition is malformed, or a column has two.
        DataError: if there is no such column.
    """
    if isinstance(given, Mapping):
        if unknown := [name for name in given if name not in columns]:
            raise DataError(f"There is no column '{unknown[0]}'.", f"Choose from: {', '.join(columns)}.")
        found = [_condition(name, value, _type(name, columns, types)) for name, value in given.items()]
    else:
        found = [parse(text, columns, types) for text in given]
    for k, one in enumerate(found):
        if any(one.column == other.column for other in found[:k]):
            raise ParameterError(f"The column '{one.column}' has two conditions.", "Give one, such as an interval LOW..HIGH.")
    return found


def _type(name: str, columns: Sequence[str], types: Sequence[ColumnType]) -> ColumnType:
    return or_numbers(types, len(columns))[list(columns).index(name)]


def _condition(name: str, value: Value | tuple[Value | None, Value | None], kind: ColumnType) -> Condition:
    if isinstance(kind, CategoryType):
        return Condition(name, *((float(_category(name, value, kind)),) * 2))
    if isinstance(value, str):
        low, dots, high = value.partition("..")
        ends = (low, high) if dots else (value, value)
    elif isinstance(value, tuple):
        if len(value) != 2:
            raise ParameterError(f"{name}={value} is not an interval.", "Give a pair of values, None for an open end.")
        ends = value
    else:
        ends = (value, value)
    least, most = (_code(name, value, end, kind) for end in ends)
    if least is None and most is None:
        raise ParameterError(f"{name}={value} has neither a value nor an end.", "Give COLUMN=VALUE, or COLUMN=LOW..HIGH.")
    least, most = -math.inf if least is None else least, math.inf if most is None else most
    if not least <= most or least == math.inf or most == -math.inf:
        raise ParameterError(f"{name}={value} holds no value.", "Give finite values, the smaller one first.")
    return Condition(name, least, most)


def _category(name: str, value: object, kind: CategoryType) -> int:
    words = [str(word) for word in kind.values]
    text = str(value).strip().capitalize() if kind.form == "bool" else str(value)
    if text not in words:
        raise DataError(f"The column '{name}' has no category '{value}'.", f"Choose from: {shortened(words)}.")
    return words.index(text)


def _code(name: str, whole: object, value: Value | None, kind: ColumnType) -> float | None:
    """The code of one end of a condition; None if it is open."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(kind, TimeType):
        return _time(name, whole, value, kind)
    return _number(name, whole, value, offset_of(kind))


def _number(name: str, whole: object, value: Value, offset: float) -> float:
    try:
        if offset and isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
            return float(int(value) - int(offset)) if offset == int(offset) else float(value) - offset
        exact = float(value)  # pyright: ignore[reportArgumentType]
        # A number of 15 digits is that many after the subtraction, and not a neighbour.
        return (
            round(exact - offset, 15 - math.ceil(math.log10(abs(exact)))) if offset and exact and math.isfinite(exact) else exact - offset
        )
    except (TypeError, ValueError):
        raise ParameterError(f"{name}={whole} is not a number or an interval: '{value}'.", "Give a number, or LOW..HIGH.") from None


def _time(name: str, whole: object, value: Value, kind: TimeType) -> float:
    try:
        given = _times(pa.array([value.strip() if isinstance(value, str) else value]), kind)
    except (pa.ArrowException, TypeError, ValueError):
        shown = from_numbers(torch.zeros(1, 1), [name], [kind]).column(0).cast(pa.string())[0].as_py()
        raise ParameterError(
            f"{name}={whole} is not a date or time like those of the column: '{value}'.", f"Give one such as {shown}, or LOW..HIGH."
        ) from None
    read = to_numbers(pa.table({name: given}))
    exact = int(read.types[0].exact(read.values[:, 0].numpy(), name)[0])
    return (exact - kind.offset) / kind.step


def _times(given: pa.Array, kind: TimeType) -> pa.Array:
    """A time of the type of a column. Texts have the form of the column, or that of ISO 8601; without a zone, that of the column."""
    times = schema(["time"], [replace(kind, form="")]).field(0).type
    if pa.types.is_string(given.type):
        if kind.form and not (read := parse_real_times(given, kind.form, times)).null_count:
            return read
        if pa.types.is_duration(times):
            return given.cast(pa.int64()).cast(times)
        if pa.types.is_time(times):
            given = pa.array([time.fromisoformat(given[0].as_py())])
    if pa.types.is_timestamp(times) and times.tz and not getattr(given.type, "tz", None):
        with suppress(pa.ArrowInvalid):  # a text with a zone
            local = given.cast(pa.timestamp(times.unit))
            return pc.assume_timezone(local, times.tz, ambiguous="earliest", nonexistent="earliest")
    return given.cast(times)
