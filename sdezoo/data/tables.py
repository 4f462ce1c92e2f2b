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
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from pyarrow import csv as arrow_csv
from pyarrow import parquet
from torch import Tensor

from sdezoo.data.encoding import column_types, typed_columns
from sdezoo.data.reading import check_size, reading
from sdezoo.errors import DataError

_COLUMNS = 100_000
_WIDE = 1024
_LINE = 2**24  # longest line of column names in bytes
_BATCH = 65_536


class Columns(NamedTuple):
    """The `d` named columns of a table."""

    names: tuple[str, ...]
    """Column names."""
    values: Tensor
    """Values `(N, d)`, float32."""
    types: tuple[str, ...]
    """NumPy dtype names of the columns in the file, see `sdezoo.data.dataset.Data`; empty: float32."""


def read_csv(path: Path) -> Columns:
    """Read a `.csv` that starts with a line of column names. Missing values become NaN, values too large for float32 become infinite.

    Args:
        path: the file.

    Raises:
        DataError: if the file cannot be read, is too large, has no rows, or has columns that are repeated or not numbers.
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


def schema(names: Sequence[str], types: Sequence[str]) -> pa.Schema:
    """Build the Arrow schema for a table of final rows.

    Args:
        names: column names.
        types: column dtypes, see `sdezoo.data.encoding.Encoding`.
    """
    kinds = column_types(types, len(names))
    return pa.schema([pa.field(name, pa.from_numpy_dtype(np.dtype(kind))) for name, kind in zip(names, kinds, strict=True)])


def batch(part: Tensor, names: Sequence[str], types: Sequence[str]) -> pa.RecordBatch:
    """Convert final rows to an Arrow record batch with the schema of `schema`.

    Args:
        part: final rows `(n, d)`, float32 on the CPU.
        names: column names.
        types: column dtypes, see `sdezoo.data.encoding.Encoding`.

    Raises:
        RunError: if an integer column overflows int64.
    """
    return pa.record_batch([pa.array(column) for column in typed_columns(part, types, names)], schema=schema(names, types))


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
            found = np.loadtxt(path, np.float32, comments=None, delimiter=",", skiprows=1, ndmin=2, encoding="utf-8", quotechar='"')
        _check_rows(path, len(found), [])
        if found.shape[1] != len(names):
            raise DataError(f"'{path}' has {len(names)} column names for rows of {found.shape[1]}.", "Give each column one name.")
        return Columns(tuple(names), torch.from_numpy(found), ())
    table = arrow_csv.read_csv(path)
    _check_rows(path, table.num_rows, _not_numbers(table.schema))
    check_size(path, table.num_rows * len(names))
    values = torch.empty(table.num_rows, len(names))
    for place, column in enumerate(table.columns):
        values[:, place] = _float32(column)
    return Columns(tuple(table.column_names), values, _types(table.schema))


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
        names = file.schema_arrow.names
        _check_names(path, names)
        _check_rows(path, file.metadata.num_rows, _not_numbers(file.schema_arrow))
        check_size(path, file.metadata.num_rows * len(names))
        batches = (torch.stack([_float32(column) for column in batch.columns], 1) for batch in file.iter_batches(_BATCH))
        return Columns(tuple(names), torch.cat([torch.empty(0, len(names)), *batches]), _types(file.schema_arrow))


def _float32(column: pa.Array | pa.ChunkedArray) -> Tensor:
    with np.errstate(over="ignore"):
        return torch.from_numpy(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float32))


def _check_names(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise DataError(f"'{path}' has no rows of data.", "Give a table with at least two rows.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"'{path}' has more than one column named {_named(repeated)}.", "Give each column its own name.")


def _check_rows(path: Path, rows: int, other: list[str]) -> None:
    """Reject a table without rows, or with columns that are not numbers (`other`)."""
    if not rows:
        raise DataError(f"'{path}' has no rows of data.", "Give a table with at least two rows.")
    if other:
        raise DataError(
            f"'{path}' has columns that are not numbers: {_named(other)}.",
            "Remove these columns, or encode them as numbers.",
        )


def _types(schema: pa.Schema) -> tuple[str, ...]:
    kinds = (field.type for field in schema)
    return tuple(np.dtype(kind.to_pandas_dtype()).name if pa.types.is_integer(kind) else "float64" for kind in kinds)


def _not_numbers(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if not _is_numeric(field.type)]


def _named(columns: list[str], most: int = 5) -> str:
    more = f" and {len(columns) - most} more" if len(columns) > most else ""
    return ", ".join(f"'{name}'" for name in columns[:most]) + more


def _is_numeric(kind: pa.DataType) -> bool:
    # A column without any value has the type null. It is read as NaN and reported as missing values later.
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(accepts(kind) for accepts in numeric)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
