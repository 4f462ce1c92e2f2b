"""Read and write tables with named columns. `sdezoo.data.opening.table` opens the files, within bounds on memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from pyarrow import csv as arrow_csv
from torch import Tensor

from sdezoo.data.encoding import column_types, typed_columns
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.table import listed, read_table
from sdezoo.data.reading import check_size
from sdezoo.errors import DataError


class Columns(NamedTuple):
    """The `d` named columns of a table."""

    names: tuple[str, ...]
    """Column names."""
    values: Tensor
    """Values `(N, d)`, float32."""
    types: tuple[str, ...]
    """NumPy dtype names of the columns in the file, see `sdezoo.data.dataset.Data`; empty: float32."""


def read_columns(path: Path, dialect: Dialect | None = None) -> Columns:
    """Read a table. Missing values become NaN, values too large for float32 become infinite.

    Args:
        path: the file.
        dialect: how the file is written, as far as the user says.

    Raises:
        DataError: if the file cannot be read, is too large, has no rows, or has columns that are repeated or not numbers.
    """
    return columns(path, read_table(path, dialect))


def columns(path: Path, table: pa.Table) -> Columns:
    """Convert an Arrow table to numbers.

    Args:
        path: the file that it is from, for messages.
        table: the table, see `sdezoo.data.opening.table.read_table`.

    Raises:
        DataError: if the values do not fit into memory, or columns are not numbers.
    """
    if other := [field.name for field in table.schema if not _is_numeric(field.type)]:
        raise DataError(
            f"'{path}' has columns that are not numbers: {listed(other)}.",
            "Remove these columns, or encode them as numbers.",
        )
    check_size(path, table.num_rows * table.num_columns)
    values = torch.empty(table.num_rows, table.num_columns)
    for place, column in enumerate(table.columns):
        values[:, place] = _float32(column)
    return Columns(tuple(table.column_names), values, _types(table.schema))


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


def write_text(parts: Iterable[Tensor], names: Sequence[str], types: Sequence[str], separator: str, file: BinaryIO) -> None:
    """Write final rows as text under a line of column names, chunk by chunk.

    Args:
        parts: chunks of final rows `(n_i, d)`, float32 on the CPU.
        names: column names.
        types: column dtypes, see `sdezoo.data.encoding.Encoding`.
        separator: what separates columns.
        file: output, written sequentially.

    Raises:
        RunError: as for `batch`.
    """
    head = io.StringIO()
    csv.writer(head, delimiter=separator, lineterminator="\n").writerow(names)  # pyarrow puts all names into quotation marks
    file.write(head.getvalue().encode())
    options = arrow_csv.WriteOptions(include_header=False, delimiter=separator)
    with arrow_csv.CSVWriter(file, schema(names, types), write_options=options) as table:
        for part in parts:
            table.write_batch(batch(part, names, types))


def _float32(column: pa.Array | pa.ChunkedArray) -> Tensor:
    with np.errstate(over="ignore"):
        return torch.from_numpy(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float32))


def _types(schema: pa.Schema) -> tuple[str, ...]:
    kinds = (field.type for field in schema)
    return tuple(np.dtype(kind.to_pandas_dtype()).name if pa.types.is_integer(kind) else "float64" for kind in kinds)


def _is_numeric(kind: pa.DataType) -> bool:
    # A column without any value has the type null. It is read as NaN and reported as missing values later.
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(accepts(kind) for accepts in numeric)
