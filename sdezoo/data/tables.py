"""Read and write tables with named columns, within bounds on memory.

pyarrow takes about 11 KB a column, however short, and a .csv of one megabyte may have half a million columns. Wide files are therefore
read by NumPy. A .parquet may hold any number of equal values in a few bytes. It is read in batches, so memory is allocated as values are
decoded, and `check_size` rejects a declared size that does not fit in memory.
"""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from sdezoo.data.conversion import Columns, check_schema, is_text, to_numbers
from sdezoo.data.reading import check_size, reading
from sdezoo.errors import DataError

_COLUMNS = 100_000
_WIDE = 1024
_LINE = 2**24  # longest line of column names in bytes
_BATCH = 65_536


def read_csv(path: Path) -> Columns:
    """Read a `.csv` that starts with a line of column names. Missing values become NaN, values too large for float32 become infinite.

    Args:
        path: the file.

    Raises:
        DataError: if the file cannot be read, is too large, has no rows, or has columns that are repeated or hold nested values.
    """
    with reading(path, "a table", pa.ArrowException, csv.Error):
        return _csv(path)


def read_parquet(path: Path) -> Columns:
    """Read a `.parquet`. Missing values become NaN, values too large for float32 become infinite.

    Args:
        path: the file.

    Raises:
        DataError: as for `read_csv`.
    """
    with reading(path, "a table", pa.ArrowException):
        return _parquet(path)


def _csv(path: Path) -> Columns:
    check_size(path, path.stat().st_size // 4)
    names = _header(path)
    if names and all(map(_is_number, names)):
        raise DataError(
            f"'{path}' starts with a line of numbers, not with column names.",
            "Add a first line with the column names.",
        )
    _check_names(path, names)
    if len(names) > _WIDE:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns if there are no rows; `_check_rows` rejects them
            form = {"comments": None, "delimiter": ",", "skiprows": 1, "ndmin": 2, "encoding": "utf-8", "quotechar": '"'}
            found = np.loadtxt(path, np.float32, converters=lambda text: float(text or "nan"), **form)
        _check_rows(path, len(found))
        if found.shape[1] != len(names):
            raise DataError(f"'{path}' has {len(names)} column names for rows of {found.shape[1]}.", "Give each column one name.")
        return Columns(tuple(names), torch.from_numpy(found), ())
    table = arrow_csv.read_csv(path, convert_options=arrow_csv.ConvertOptions(strings_can_be_null=True))
    _check_rows(path, table.num_rows)
    check_size(path, table.num_rows * len(names))
    return to_numbers(table)


def _header(path: Path) -> list[str]:
    """Read the column names of a .csv."""
    with path.open("rb") as file:
        line = file.readline(_LINE).partition(b"\r")[0]
    if not line:
        raise EOFError("it is empty, or its first line is")
    if line.count(b",") >= _COLUMNS or len(line) == _LINE:
        raise DataError(f"'{path}' has more than {_COLUMNS} columns, or column names that are too long.", "Give fewer columns, or a .npy.")
    return next(csv.reader([line.decode("utf-8-sig")]), [])


def _parquet(path: Path) -> Columns:
    with parquet.ParquetFile(path) as file:
        texts = [field.name for field in file.schema_arrow if is_text(field.type)]
    # A few bytes of a file may stand for any number of long strings, so strings are read as dictionaries.
    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        names = file.schema_arrow.names
        _check_names(path, names)
        _check_rows(path, file.metadata.num_rows)
        check_size(path, file.metadata.num_rows * len(names))
        check_schema(file.schema_arrow)
        return to_numbers(pa.Table.from_batches(file.iter_batches(_BATCH), file.schema_arrow), texts)


def _check_names(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise DataError(f"'{path}' has no rows of data.", "Give a table with at least two rows.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"'{path}' has more than one column named {_named(repeated)}.", "Give each column its own name.")


def _check_rows(path: Path, rows: int) -> None:
    if not rows:
        raise DataError(f"'{path}' has no rows of data.", "Give a table with at least two rows.")


def _named(columns: list[str], most: int = 5) -> str:
    more = f" and {len(columns) - most} more" if len(columns) > most else ""
    return ", ".join(f"'{name}'" for name in columns[:most]) + more


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
