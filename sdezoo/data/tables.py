"""Tables with named columns, and what reading one costs.

A column costs pyarrow some 11 KB, however short it is, and a .csv of a megabyte may have half a million: wide ones are read by NumPy.
A .parquet may hold any number of equal values in a few bytes: it is read in batches, so that memory is taken as values come out, and
`check_size` refuses, on what it promises, more than memory has.
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
_LINE = 2**24  # bytes of the line of column names
_BATCH = 65_536


class Columns(NamedTuple):
    """The names of `d` columns, their values `(N, d)`, float32, and their types as `sdezoo.data.dataset.Data` has them."""

    names: tuple[str, ...]
    values: Tensor
    types: tuple[str, ...]


def read_csv(path: Path) -> Columns:
    """A `.csv`, which begins with a line of column names. Missing values are NaN, and too large ones infinite.

    Raises:
        DataError: where it cannot be read, has no rows, columns of one name, or columns that are not numbers, or is too large.
    """
    with reading(path, "a table", pa.ArrowException, csv.Error):
        return _csv(path)


def read_parquet(path: Path) -> Columns:
    """A `.parquet`. Missing values are NaN, and too large ones infinite.

    Raises:
        DataError: as `read_csv`.
    """
    with reading(path, "a table", pa.ArrowException):
        return _parquet(path)


def schema(names: Sequence[str], types: Sequence[str]) -> pa.Schema:
    """Of a table that final rows are written to.

    Args:
        names: of the columns.
        types: their dtypes, see `sdezoo.data.encoding.Encoding`.
    """
    kinds = column_types(types, len(names))
    return pa.schema([pa.field(name, pa.from_numpy_dtype(np.dtype(kind))) for name, kind in zip(names, kinds, strict=True)])


def batch(part: Tensor, names: Sequence[str], types: Sequence[str]) -> pa.RecordBatch:
    """Final rows `(n, d)`, float32 on the CPU, as rows of a table of that `schema`.

    Raises:
        RunError: where int64 is too small for a column of whole numbers.
    """
    return pa.record_batch([pa.array(column) for column in typed_columns(part, types, names)], schema=schema(names, types))


def _csv(path: Path) -> Columns:
    check_size(path, path.stat().st_size // 4)
    names = _header(path)
    if names and all(map(_is_number, names)):
        raise DataError(
            f"'{path}' begins with a line of numbers, not with the names of its columns.",
            "Put a line of column names on top.",
        )
    _check_names(path, names)
    if len(names) > _WIDE:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of no rows, which are refused below
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
    """The column names of a .csv."""
    with path.open("rb") as file:
        line = file.readline(_LINE).partition(b"\r")[0]
    if not line:
        raise EOFError("it is empty, or its first line is")
    if line.count(b",") >= _COLUMNS or len(line) == _LINE:
        raise DataError(f"'{path}' has more than {_COLUMNS} columns, or names too long for them.", "Give fewer columns, or a .npy.")
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
    """`other`: columns that are not numbers."""
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
    # A column without any value has the type null; it is reported as missing values.
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(accepts(kind) for accepts in numeric)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
