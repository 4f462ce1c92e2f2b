"""Fill the missing cells of a table and leave the others as they are: the text of a .csv or .tsv, the types of a .parquet."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.inference import is_numeric
from sdezoo.data.opening.numerals import Amounts
from sdezoo.data.opening.pandas_types import Extended, storage
from sdezoo.data.opening.style import cell_texts, find_style
from sdezoo.data.opening.table import read_table
from sdezoo.data.opening.text import Text
from sdezoo.data.opening.words import is_text, words
from sdezoo.data.reading import check_size, reading
from sdezoo.data.text_style import TextStyle
from sdezoo.errors import DataError

DRAW = "draw"
"""Name of the column that numbers the draws, from 1, if there are several."""


class Filling(NamedTuple):
    """Values for the missing cells of one column.

    Args:
        missing: which rows are missing, bool `(N,)`.
        values: values of all rows, an Arrow array `(N,)` for each draw; those of other rows are not used.
    """

    missing: np.ndarray
    values: Sequence[pa.Array]


def check_draws(names: Sequence[str], draws: int, path: Path) -> None:
    """Check that a column can be added for the number of a draw.

    Args:
        names: column names of the file.
        draws: number of draws.
        path: the file.

    Raises:
        DataError: if there are several draws, and a column has the name of that column.
    """
    if draws > 1 and DRAW in names:
        raise DataError(f"'{path}' has a column '{DRAW}', which is to number the draws.", "Rename it, or draw once.")


def fill_text(path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int, dialect: Dialect) -> None:
    """Write a table as text with its missing cells filled, once for each draw, all under one line of names.

    Separator and decimal mark are those of the file, and cells that are not missing keep their text. The encoding is UTF-8.

    Args:
        path: the table to fill.
        file: the output.
        columns: values by column.
        draws: number of draws. If there are several, the first column numbers them.
        dialect: how the table is written, as far as the user says.

    Raises:
        DataError: if the file has changed since it was read, or has a column `draw`.
    """
    with reading(path, "a table", csv.Error), path.open("rb") as opened:
        table = read_table(path, dialect, file=opened)
        source = Text(path, opened, dialect)
        names, separator = list(source.layout.names), source.layout.separator
        rows = [row for row in csv.reader(io.TextIOWrapper(source.rows(), "utf-8", newline=""), delimiter=separator) if row]
        style = find_style(path, table, dialect, opened)
    check_draws(names, draws, path)
    count = len(next(iter(columns.values())).missing)
    if not len(table) == len(rows) == count or any(len(row) != len(names) for row in rows):
        raise DataError(f"'{path}' does not have {count} rows of {len(names)} cells.", "Write the table again, with all cells of a row.")
    texts = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    filled = {name: [_texts(values, name, table[name], texts[name], style) for values in one.values] for name, one in columns.items()}
    out = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    writer.writerow([DRAW, *names] if draws > 1 else names)
    places = {name: names.index(name) for name in columns}
    for draw in range(draws):
        for i, row in enumerate(rows):
            cells = list(row)
            for name, filling in columns.items():
                if filling.missing[i]:
                    cells[places[name]] = filled[name][draw][i]
            writer.writerow([draw + 1, *cells] if draws > 1 else cells)
    out.detach()


def _texts(values: pa.Array, name: str, column: pa.ChunkedArray, texts: Sequence[str], style: TextStyle) -> list[str]:
    """Values as the file writes them: numbers in its style, or in that of the column, others as a cell of equal value."""
    if is_numeric(values.type):
        amounts = Amounts.of(texts, column.to_pylist(), style.decimal) if is_numeric(column.type) else None
        if amounts is None:
            return cell_texts(values, name, style).to_pylist()
        style = replace(style, decimal=amounts.decimal, decimals={name: amounts.decimals})
        plain = cell_texts(pc.call_function("abs", [values]), name, style).to_pylist()
        below = pc.call_function("less", [values, pa.scalar(0, values.type)]).to_pylist()
        return [amounts.write(text, negative=bool(negative)) for text, negative in zip(plain, below, strict=True)]
    written = dict(zip(column.cast(pa.string()).to_pylist(), texts, strict=True))
    return [written.get(text, text or "") for text in values.cast(pa.string()).to_pylist()]


def fill_parquet(path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int) -> None:
    """Write a .parquet with its missing cells filled; otherwise as `fill_text`.

    Args:
        path: the table to fill.
        file: the output.
        columns: values by column.
        draws: number of draws.

    Raises:
        DataError: as for `fill_text`.
    """
    with reading(path, "a table", pa.ArrowException):
        whole = _whole(path)
    check_draws(whole.column_names, draws, path)
    tables = []
    for draw in range(draws):
        table = whole
        for name, filling in columns.items():
            place = table.column_names.index(name)
            field, values = table.schema.field(place), filling.values[draw]
            kind = field.type
            if pa.types.is_null(kind):
                found = values
            elif extended := Extended.of(field):
                stored = pa.chunked_array([storage(part) for part in table.column(place).chunks]).combine_chunks()
                found = pc.call_function("if_else", [pa.array(filling.missing), extended.stored(values, name), stored])
                table = table.set_column(place, extended.field(name), found)
                continue
            else:
                plain = kind.value_type if pa.types.is_dictionary(kind) else kind
                made = _plain(values)
                try:
                    made = made.cast(plain, safe=pa.types.is_integer(plain))
                except pa.ArrowInvalid:  # a value that the type does not hold
                    plain = kind = made.type
                found = pc.call_function(
                    "if_else", [pa.array(filling.missing), made, _plain(table.column(place).combine_chunks()).cast(plain)]
                )
                found = found.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else found
            table = table.set_column(place, pa.field(name, found.type), found)
        if draws > 1:
            table = table.add_column(0, DRAW, pa.array(np.full(len(table), draw + 1)))
        tables.append(table)
    parquet.write_table(pa.concat_tables(tables), file)


def _whole(path: Path) -> pa.Table:
    """A Parquet file with a text for each row, if memory has room for them: a file may hold a long text once for many rows."""
    form = parquet.read_schema(path)
    texts = [field.name for field in form if is_text(field.type)]
    table = parquet.read_table(path, read_dictionary=texts)
    held = [words(column) for column in table.columns if pa.types.is_dictionary(column.type) and is_text(column.type.value_type)]
    lengths = [pc.binary_length(one.texts).to_numpy() for one in held]
    check_size(path, int(sum((one.counts * length).sum() for one, length in zip(held, lengths, strict=True))) // 4)
    for name in texts:
        parts = [pc.cast(_plain(part), form.field(name).type) for part in table[name].chunks]
        table = table.set_column(table.column_names.index(name), form.field(name), pa.chunked_array(parts, form.field(name).type))
    return table


def _plain(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
