"""Read and write tables with named columns. `sdezoo.data.opening.table` opens the files, within bounds on memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from torch import Tensor

from sdezoo.data.column_types import ColumnType, or_numbers
from sdezoo.data.conversion import Columns, from_numbers, to_numbers
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.style import cell_texts, lines
from sdezoo.data.opening.table import packed_texts, read_table
from sdezoo.data.reading import check_size
from sdezoo.data.text_style import TextStyle


def read_columns(path: Path, dialect: Dialect | None = None) -> Columns:
    """Read a table as codes. Missing values become NaN, values too large for float32 become infinite.

    Args:
        path: the file.
        dialect: how the file is written, as far as the user says.

    Raises:
        DataError: if the file cannot be read, is too large, has no rows, or has columns that are repeated or hold nested values.
    """
    return columns(path, read_table(path, dialect), () if dialect is None else dialect.text)


def columns(path: Path, table: pa.Table, text: Collection[str] = ()) -> Columns:
    """Convert an Arrow table to codes.

    Args:
        path: the file that it is from, for messages.
        table: the table, see `sdezoo.data.opening.table.read_table`.
        text: names of columns that hold text, even if it looks like numbers.

    Raises:
        DataError: if the values do not fit into memory, or as for `sdezoo.data.conversion.to_numbers`.
    """
    check_size(path, table.num_rows * table.num_columns)
    return to_numbers(table, packed_texts(table), text)


def write_text(parts: Iterable[Tensor], names: Sequence[str], types: Sequence[ColumnType], style: TextStyle, file: BinaryIO) -> None:
    """Write final rows as text under a line of column names, chunk by chunk.

    Args:
        parts: chunks of final rows `(n_i, d)`, float32 on the CPU.
        names: column names.
        types: types of the columns; empty: all float32.
        style: how they are written.
        file: output, written sequentially.

    Raises:
        RunError: as for `sdezoo.data.conversion.from_numbers`.
    """
    head = io.StringIO()
    csv.writer(head, delimiter=style.separator, lineterminator="\n").writerow(names)
    file.write(head.getvalue().encode())
    for part in parts:
        batch = from_numbers(part, names, types)
        cells = [
            cell_texts(column, name, style, rounds=not kind.unit[0])
            for column, name, kind in zip(batch.columns, names, or_numbers(types, len(names)), strict=True)
        ]
        file.write("".join(f"{line}\n" for line in lines(cells, style)).encode())
