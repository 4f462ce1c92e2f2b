"""Fill the missing cells of a table and leave the others as they are: the text of a .csv, the types of a .parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from sdezoo.data.reading import reading
from sdezoo.errors import DataError

DRAW = "draw"
"""Name of the column that numbers the draws, from 1, if there are several."""


class Filling(NamedTuple):
    """Values for the missing cells of one column.

    Args:
        missing: which rows are missing, bool `(N,)`.
        values: values of all rows in each draw, `(draws, N)`; those of other rows are not used.
    """

    missing: np.ndarray
    values: np.ndarray


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


def fill_csv(path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int) -> None:
    """Write a .csv with its missing cells filled, once for each draw, all under one line of names.

    Args:
        path: the table to fill.
        file: the output.
        columns: values by column.
        draws: number of draws. If there are several, the first column numbers them.

    Raises:
        DataError: if the file has changed since it was read, or has a column `draw`.
    """
    with reading(path, "a table", csv.Error):
        names, *rows = [row for row in csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")) if row]
    check_draws(names, draws, path)
    count = len(next(iter(columns.values())).missing)
    if len(rows) != count or any(len(row) != len(names) for row in rows):
        raise DataError(f"'{path}' does not have {count} rows of {len(names)} cells.", "Write the table again, with all cells of a row.")
    out = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    table = csv.writer(out, lineterminator="\n")
    table.writerow([DRAW, *names] if draws > 1 else names)
    places = {name: names.index(name) for name in columns}
    for draw in range(draws):
        for i, row in enumerate(rows):
            cells = list(row)
            for name, filling in columns.items():
                if filling.missing[i]:
                    cells[places[name]] = str(filling.values[draw, i])
            table.writerow([draw + 1, *cells] if draws > 1 else cells)
    out.detach()


def fill_parquet(path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int) -> None:
    """Write a .parquet with its missing cells filled; otherwise as `fill_csv`.

    Args:
        path: the table to fill.
        file: the output.
        columns: values by column.
        draws: number of draws.

    Raises:
        DataError: as for `fill_csv`.
    """
    with reading(path, "a table", pa.ArrowException):
        whole = parquet.read_table(path)
    check_draws(whole.column_names, draws, path)
    tables = []
    for draw in range(draws):
        table = whole
        for name, filling in columns.items():
            place = table.column_names.index(name)
            kind, values = table.schema.field(place).type, pa.array(filling.values[draw])
            if pa.types.is_null(kind):
                found = values
            else:
                parts = [pa.array(filling.missing), values.cast(kind, safe=False), table.column(place).combine_chunks()]
                found = pc.call_function("if_else", parts)
            table = table.set_column(place, pa.field(name, found.type), found)
        if draws > 1:
            table = table.add_column(0, DRAW, pa.array(np.full(len(table), draw + 1)))
        tables.append(table)
    parquet.write_table(pa.concat_tables(tables), file)
