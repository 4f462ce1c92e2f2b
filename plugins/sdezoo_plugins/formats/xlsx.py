"""Sheets of Excel. `sdezoo.data.opening` reads them as untrusted input."""

from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import pyarrow as pa

from sdezoo.data.conversion import from_numbers
from sdezoo.data.formats import OpenedFormat, Samples
from sdezoo.data.opening.excel import Cell, write_sheet
from sdezoo.data.opening.table import OF_EXCEL


@dataclass(frozen=True)
class Xlsx(OpenedFormat):
    """A sheet of Excel, .xlsx, with the extra `excel`: float32 as Excel's numbers, whole numbers as such."""

    endings: ClassVar[tuple[str, ...]] = (".xlsx",)
    takes: ClassVar[tuple[str, ...]] = OF_EXCEL

    def write(self, samples: Samples, file: BinaryIO) -> None:
        samples = samples.table
        parts = (from_numbers(part, samples.names, samples.types) for part in samples.parts)
        rows = (row for part in parts for row in zip(*(_cells(column) for column in part.columns), strict=True))
        write_sheet(samples.names, rows, file)


def _cells(column: pa.Array) -> list[Cell]:
    """The values for Excel, whose times have no time zone and no nanoseconds: with a time zone they are text."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.string()) if column.type.tz else column.cast(pa.timestamp("us"), safe=False)
    return column.to_pylist()
