"""How the cells of a table in text are written: found in the first rows of a file, and written so again."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.text import Text
from sdezoo.data.opening.time_texts import OF_DAYS, write_times
from sdezoo.data.reading import reading
from sdezoo.data.text_style import TextStyle

_ROWS, _BYTES = 256, 2**16
"""The first rows that are looked at, in so many bytes at most."""
_FAR, _CELLS = 10**5, 10**7
"""How many rows, and cells, are searched for a missing value."""
_OTHER = {"true": "false", "True": "False", "TRUE": "FALSE", "1": "0"} | {"false": "true", "False": "True", "FALSE": "TRUE", "0": "1"}


def find_style(path: Path, table: pa.Table, dialect: Dialect, file: BinaryIO | None = None) -> TextStyle:
    """Find how a table in text is written.

    Args:
        path: the file.
        table: what was read from it, see `sdezoo.data.opening.table.read_table`.
        dialect: how the file is written, as far as the user says.
        file: the file, open; None: it is opened.

    Raises:
        DataError: if the file cannot be read again.
    """
    with reading(path, "a table", csv.Error), nullcontext(file) if file else path.open("rb") as opened:
        source = Text(path, opened, dialect)
        names, separator = list(source.layout.names), source.layout.separator
        head = source.rows().read(_BYTES).decode(errors="replace")
        lines = head.splitlines(keepends=True)
        rows = [row for row in csv.reader(lines[:-1] if len(head) >= _BYTES // 2 else lines, delimiter=separator) if row]
        rows = list(islice((row for row in rows if len(row) == len(names)), min(_ROWS, len(table))))
        kept = dict(zip(table.column_names, table.slice(0, len(rows)).columns, strict=True))
        texts = {name: [row[place] for row in rows] for place, name in enumerate(names) if name in kept}
        known = {name: kept[name] for name in texts}
        marks = {name: Counter(text for text, gap in _pairs(texts[name], column.is_null()) if gap) for name, column in known.items()}
        marks |= {name: Counter([text]) for name, text in _first_gaps(Text(path, opened, dialect), table, marks)}
    missing = sum(marks.values(), Counter()).most_common(1)
    gaps = {name: found.most_common(1)[0][0] for name, found in marks.items() if found}
    mark = dialect.decimal_mark or decimal_mark(known, texts)
    decimals = {name: _decimals(texts[name], mark) for name, column in known.items() if pa.types.is_floating(column.type)}
    return TextStyle(
        separator=separator,
        decimal="." if mark == separator else mark,
        missing=missing[0][0] if missing else "",
        gaps={name: text for name, text in gaps.items() if text or missing[0][0]},
        decimals={name: found for name, found in decimals.items() if found[0]},
        booleans={name: _booleans(texts[name], column) for name, column in known.items() if pa.types.is_boolean(column.type)},
    )


def _first_gaps(source: Text, table: pa.Table, known: Mapping[str, Counter[str]]) -> Iterator[tuple[str, str]]:
    """The columns with missing values of which none is known, and the text of their first, if it is not far from the beginning."""
    names = list(source.layout.names)
    wanted = [name for name, found in known.items() if not found and table[name].null_count]
    first = {name: pc.index(table[name].is_null(), pa.scalar(True)).as_py() for name in wanted}
    rows: dict[int, list[str]] = {}
    for name, row in first.items():
        if row < _FAR and row * len(names) < _CELLS:
            rows.setdefault(row, []).append(name)
    if not rows:
        return
    with io.TextIOWrapper(source.rows(), errors="replace", newline="") as stream:
        found = (row for row in csv.reader(stream, delimiter=source.layout.separator) if len(row) == len(names))
        for number, row in enumerate(islice(found, max(rows) + 1)):
            yield from ((name, row[names.index(name)]) for name in rows.get(number, ()))


def decimal_mark(columns: Mapping[str, pa.ChunkedArray], texts: Mapping[str, Sequence[str]]) -> str:
    """The decimal mark of a file: a comma if a text with one is the number that was read.

    Args:
        columns: what was read, by column.
        texts: the texts of the same rows.
    """
    for name, column in columns.items():
        if not pa.types.is_floating(column.type):
            continue
        for value, text in zip(column.to_pylist(), texts[name], strict=True):
            if value is not None and "," in text:
                with suppress(ValueError):
                    if float(text.replace(".", "").replace(",", ".")) == value:
                        return ","
    return "."


def cell_texts(values: pa.Array, name: str, style: TextStyle, *, rounds: bool = False) -> pa.Array:
    """Write the values of a column as the cells of a text, missing ones as `style` says, texts in quotation marks where they need them.

    Args:
        values: the values.
        name: name of the column.
        style: how the table is written.
        rounds: whether numbers are rounded to the decimal places of the column, if all of its numbers had the same.
    """
    if pa.types.is_floating(values.type):
        found = _number_texts(values, *style.decimals.get(name, (0, 0)), rounds)
        found = found if style.decimal == "." else pc.replace_substring(found, ".", style.decimal)
    elif pa.types.is_boolean(values.type):
        false, true = style.booleans.get(name, ("false", "true"))
        found = pc.if_else(values, true, false)
    else:
        found = _shorter(values).cast(pa.string())
        if not pa.types.is_integer(values.type):
            found = found.dictionary_encode()
            words = pa.array([_quoted(word, style.separator) for word in found.dictionary.to_pylist()], pa.string())
            found = words.take(found.indices)
    return found.fill_null(style.gaps.get(name, style.missing))


def _shorter(values: pa.Array) -> pa.Array:
    """Times without fractions of seconds if none has any; durations in words."""
    kind = values.type
    if pa.types.is_duration(kind):
        whole = values.cast(pa.duration("s"), safe=False)
        return write_times(whole if whole.cast(kind).equals(values) else values, OF_DAYS)
    if not (pa.types.is_timestamp(kind) or pa.types.is_time(kind)) or kind.unit == "s":
        return values
    whole = values.cast(pa.time32("s") if pa.types.is_time(kind) else pa.timestamp("s", kind.tz), safe=False)
    return whole if whole.cast(kind).equals(values) else values


def lines(columns: Sequence[pa.Array], style: TextStyle) -> Iterable[str]:
    """Join the cells of rows to lines.

    Args:
        columns: texts of the cells, without missing ones.
        style: how the table is written.
    """
    joined = pc.binary_join_element_wise(*columns, style.separator) if len(columns) > 1 else columns[0]
    # An empty line is no row.
    return (line or '""' for line in joined.to_pylist())


def _quoted(text: str, separator: str) -> str:
    if not set(text) & {'"', "\r", "\n", separator}:
        return text
    return '"' + text.replace('"', '""') + '"'


def _number_texts(values: pa.Array, least: int, most: int, rounds: bool) -> pa.Array:
    numbers = values.to_numpy(zero_copy_only=False)
    gaps = pc.or_kleene(pc.is_null(values), pc.is_nan(values)).fill_null(fill_value=True)
    known = numbers[~np.isnan(numbers)]
    largest = float(np.abs(known).max(initial=0))
    on_lattice = rounds or np.array_equal(np.round(known, most), known)
    if least == most > 0 and on_lattice and largest < 10.0 ** (30 - most):
        found = pc.if_else(gaps, pa.scalar(None, values.type), values).cast(pa.float64()).cast(pa.decimal128(38, most)).cast(pa.string())
    else:
        with np.errstate(over="ignore"):
            single = numbers.astype(np.float32)
        # Numbers that float32 holds have the fewest digits there.
        values = pa.array(single, mask=np.asarray(gaps)) if np.array_equal(single, numbers, equal_nan=True) else values
        found = values.cast(pa.string())
        if least:
            found = pc.if_else(pc.match_substring_regex(found, r"^-?\d+$"), pc.binary_join_element_wise(found, ".0", ""), found)
    return pc.if_else(gaps, pa.scalar(None, pa.string()), found)


def _pairs(texts: Sequence[str], column: pa.ChunkedArray) -> Iterable[tuple[str, object]]:
    return zip(texts, column.to_pylist(), strict=True)


def _decimals(texts: Sequence[str], mark: str) -> tuple[int, int]:
    """The least and the largest number of decimal places."""
    form = re.compile(rf"(?=.*\d)(?!.*\d[eE][-+\d])[^{mark}]*(?:[{mark}](\d*)[^\d{mark}]*)?", re.DOTALL)
    places = [min(len(found[1] or ""), 18) for found in map(form.fullmatch, texts) if found]
    return (min(places), max(places)) if places else (0, 0)


def _booleans(texts: Sequence[str], column: pa.ChunkedArray) -> tuple[str, str]:
    """The texts of false and true."""
    shown = {value: text.strip() for text, value in _pairs(texts, column) if value is not None}
    if not shown:
        return "false", "true"
    value, text = next(iter(shown.items()))
    other = shown.get(not value) or _OTHER.get(text, "false" if value else "true")
    return (other, text) if value else (text, other)
