"""Conditions on columns as users write them: `COLUMN=VALUE`, `COLUMN=LOW..HIGH`, `COLUMN=..HIGH`, `COLUMN=LOW..`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sdezoo.errors import DataError, ParameterError

Values = Mapping[str, float | str | tuple[float | None, float | None]]
"""Conditions by column: a value, an interval as a pair (None: open), or text as on the command line."""


class Condition(NamedTuple):
    """A column between two values, both included; an exact value if they are the same."""

    column: str
    low: float
    high: float


def parse(text: str, columns: Sequence[str]) -> Condition:
    """Parse `COLUMN=VALUE` or `COLUMN=LOW..HIGH`, where either end may be left out.

    Args:
        text: the condition.
        columns: names of the columns.

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
    return _condition(name, text[len(name) + 1 :])


def conditions(given: Values | Sequence[str], columns: Sequence[str]) -> list[Condition]:
    """Read conditions.

    Args:
        given: conditions by column, or as texts.
        columns: names of the columns.

    Raises:
        ParameterError: if a condition is malformed, or a column has two.
        DataError: if there is no such column.
    """
    if isinstance(given, Mapping):
        if unknown := [name for name in given if name not in columns]:
            raise DataError(f"There is no column '{unknown[0]}'.", f"Choose from: {', '.join(columns)}.")
        found = [_condition(name, value) for name, value in given.items()]
    else:
        found = [parse(text, columns) for text in given]
    for k, one in enumerate(found):
        if any(one.column == other.column for other in found[:k]):
            raise ParameterError(f"The column '{one.column}' has two conditions.", "Give one, such as an interval LOW..HIGH.")
    return found


def _condition(name: str, value: float | str | tuple[float | None, float | None]) -> Condition:
    if isinstance(value, str):
        low, dots, high = value.partition("..")
        ends = (_number(name, value, low), _number(name, value, high)) if dots else (_number(name, value, value),) * 2
    elif isinstance(value, tuple):
        if len(value) != 2:
            raise ParameterError(f"{name}={value} is not an interval.", "Give a pair of numbers, None for an open end.")
        ends = value
    else:
        ends = (value, value)
    least, most = (end if end is None else float(end) for end in ends)
    if least is None and most is None:
        raise ParameterError(f"{name}={value} has neither a value nor an end.", "Give COLUMN=VALUE, or COLUMN=LOW..HIGH.")
    least, most = -math.inf if least is None else least, math.inf if most is None else most
    if not least <= most or least == math.inf or most == -math.inf:
        raise ParameterError(f"{name}={value} holds no number.", "Give finite numbers, the smaller one first.")
    return Condition(name, least, most)


def _number(name: str, whole: str, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise ParameterError(f"{name}={whole} is not a number or an interval: '{text}'.", "Give a number, or LOW..HIGH.") from None
