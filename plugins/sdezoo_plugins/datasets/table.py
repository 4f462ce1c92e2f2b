"""Tables with named columns."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from pyarrow import csv, parquet

from sdezoo.errors import DataError
from sdezoo.parameters import Fraction
from sdezoo.runs.data import Data, Dataset, check_finite, check_size, reading, split


@dataclass(frozen=True)
class Table(Dataset):
    """A table of numbers, .csv or .parquet, whose columns keep their names through sampling.

    A .csv begins with a line of column names. All columns are numeric, and no value is missing.

    Args:
        path: the file.
        holdout: fraction of the rows that are held out; the same ones every time.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".parquet")

    path: str
    holdout: Fraction = 0.1

    def load(self) -> Data:
        with reading(self.path, "a table", pa.ArrowException):
            table = _parquet(Path(self.path)) if self.path.lower().endswith(".parquet") else _csv(Path(self.path))
            columns = tuple(table.column_names)
            wide = np.stack([column.cast(pa.float64(), safe=False).to_numpy() for column in table.columns], axis=1)
        # Missing values are NaN by now, and what float32 cannot hold is infinite: both are refused with their position.
        with np.errstate(over="ignore"):
            values = torch.from_numpy(wide.astype(np.float32))
        check_finite(values, columns)
        return split(values, "table", holdout=self.holdout, columns=columns)


def _csv(path: Path) -> pa.Table:
    check_size(path, path.stat().st_size // 4)
    table = csv.read_csv(path)
    if table.column_names and all(map(_is_number, table.column_names)):
        raise DataError(
            f"'{path}' begins with a line of numbers, not with the names of its columns.",
            "Put a line of column names on top.",
        )
    _check_columns(path, table.schema, table.num_rows)
    return table


def _parquet(path: Path) -> pa.Table:
    with parquet.ParquetFile(path) as file:
        _check_columns(path, file.schema_arrow, file.metadata.num_rows)
        return file.read()


def _check_columns(path: Path, schema: pa.Schema, rows: int) -> None:
    """Refuse what is not a table of numbers, before it is converted."""
    if not rows or not schema.names:
        raise DataError(f"'{path}' has no rows of data.", "Give a table with at least two rows.")
    check_size(path, rows * len(schema.names))
    repeated = [name for name, count in Counter(schema.names).items() if count > 1]
    if repeated:
        raise DataError(f"'{path}' has more than one column named {_named(repeated)}.", "Give each column its own name.")
    other = [field.name for field in schema if not _is_numeric(field.type)]
    if other:
        raise DataError(
            f"'{path}' has columns that are not numbers: {_named(other)}.",
            "Remove these columns, or encode them as numbers.",
        )


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
