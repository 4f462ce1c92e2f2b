"""Sheets of Excel. `sdezoo.data.opening.table` reads them as untrusted input."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import pyarrow as pa

from sdezoo.data.formats import Samples, TableFormat
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.excel import write_sheet
from sdezoo.data.opening.table import read_table
from sdezoo.data.tables import Columns, batch, read_columns


@dataclass(frozen=True)
class Xlsx(TableFormat):
    """A sheet of Excel, .xlsx, with the extra `excel`: float32 as Excel's numbers, whole numbers as such."""

    endings: ClassVar[tuple[str, ...]] = (".xlsx",)

    def write(self, samples: Samples, file: BinaryIO) -> None:
        parts = (batch(part, samples.names, samples.types) for part in samples.parts)
        rows = (row for part in parts for row in zip(*(column.to_pylist() for column in part.columns), strict=True))
        write_sheet(samples.names, rows, file)

    def read(self, path: Path) -> Columns:
        return read_columns(path)

    def open(self, path: Path, dialect: Dialect, notify: Callable[[str], None]) -> pa.Table:
        return read_table(path, dialect, notify)
