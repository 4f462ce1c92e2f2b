"""Apache Parquet. `sdezoo.data.opening.table` reads it as untrusted input."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import pyarrow as pa
from pyarrow import parquet

from sdezoo.data.formats import Samples, TableFormat
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.table import read_table
from sdezoo.data.tables import Columns, batch, read_columns, schema


@dataclass(frozen=True)
class Parquet(TableFormat):
    """A table by columns, .parquet: float32, and whole numbers as int64."""

    endings: ClassVar[tuple[str, ...]] = (".parquet",)

    def write(self, samples: Samples, file: BinaryIO) -> None:
        names = samples.names
        with parquet.ParquetWriter(file, schema(names, samples.types)) as table:
            for part in samples.parts:
                table.write_batch(batch(part, names, samples.types))

    def read(self, path: Path) -> Columns:
        return read_columns(path)

    def open(self, path: Path, dialect: Dialect, notify: Callable[[str], None]) -> pa.Table:
        return read_table(path, dialect, notify)
