"""Values that mark missing ones, such as -999: taken as missing where the user says so, and named where they stand out.

A number of nines is named if three rows or more have it, and if it is farther from all other values of its column than half of their range.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sdezoo.data.opening.dialect import Dialect, instead, is_number
from sdezoo.data.opening.inference import is_numeric
from sdezoo.data.opening.words import is_text, words

_NINES = [sign * (10**digits - 1) for digits in range(1, 9) for sign in (-1, 1)]
_ROWS, _GAP = 3, 0.5


def without_sentinels(table: pa.Table, dialect: Dialect) -> pa.Table:
    """The table with the values that mark missing ones as null. A number does however it is written: `-999` is also `-999.0`.

    Args:
        table: the table.
        dialect: what the user says; its `missing` are the texts that mark missing values, of all columns or of one.
    """
    shared, own = dialect.marks(table.column_names)
    for place, field in enumerate(table.schema):
        column, kind = table.column(place), field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not (missing := (*shared, *own.get(field.name, ()))):
            continue
        marks, numbers = pa.array(missing, pa.string()), pa.array([float(text) for text in missing if is_number(text)], pa.float64())
        if is_numeric(kind):
            found = pc.is_in(column.cast(pa.float64(), safe=False), numbers)
        elif pa.types.is_dictionary(field.type) and is_text(kind):
            texts = words(column)
            found = texts.spread(pc.is_in(texts.texts, marks))
        elif is_text(kind) or pa.types.is_temporal(kind):
            found = pc.is_in(column.cast(pa.string()), marks)
        else:
            continue
        if pc.any(found).as_py():
            table = table.set_column(place, field, pc.if_else(found, pa.scalar(None, column.type), column))
    return table


def name_sentinels(path: Path, table: pa.Table, notify: Callable[[str], None]) -> None:
    """Tell the user of numbers that probably mark missing values.

    Args:
        path: the file, for the message.
        table: the table.
        notify: called with a sentence for each column.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not is_numeric(column.type):
            continue
        low, high, _ = _extremes(column)
        for mark in {low, high}.intersection(_NINES):
            least, most, count = _extremes(column, without=mark)
            if not least < most or count < _ROWS:
                continue
            gap = least - mark if mark < least else mark - most
            if gap > _GAP * (most - least):
                notify(
                    f"{count} values of column '{name}' of '{path}' are {mark:.0f}, far from the others, {least:g} to "
                    f"{most:g}. If that marks a missing value, g{instead(path, missing=f'{name}={mark:.0f}')[1:]}"
                )


def _extremes(column: pa.ChunkedArray, without: float | None = None) -> tuple[float, float, int]:
    """The least and the largest number of a column, infinite if there is none, and how often it has the number left out.

    Args:
        column: numbers, read chunk by chunk to save memory.
        without: a number that is left out.
    """
    least, most, count = math.inf, -math.inf, 0
    for chunk in column.chunks:
        values = chunk.cast(pa.float64(), safe=False)  # half precision has no extremes in Arrow
        if without is not None:
            left = pc.not_equal(values, without)
            count += len(values) - values.null_count - (pc.sum(left).as_py() or 0)
            values = pc.filter(values, left)
        ends = pc.min_max(values).as_py()
        if ends["min"] is not None:
            least, most = min(least, ends["min"]), max(most, ends["max"])
    return least, most, count
