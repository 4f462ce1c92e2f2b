"""Sheets of Excel. `sdezoo.data.opening` reads them as untrusted input."""

from dataclasses import dataclass
from typing import BinaryIO, ClassVar

from sdezoo.data.conversion import from_numbers
from sdezoo.data.formats import OpenedFormat, Samples
from sdezoo.data.opening.excel import write_sheet


@dataclass(frozen=True)
class Xlsx(OpenedFormat):
    """A sheet of Excel, .xlsx, with the extra `excel`: float32 as Excel's numbers, whole numbers as such."""

    endings: ClassVar[tuple[str, ...]] = (".xlsx",)

    def write(self, samples: Samples, file: BinaryIO) -> None:
        parts = (from_numbers(part, samples.names, samples.types) for part in samples.parts)
        rows = (row for part in parts for row in zip(*(column.to_pylist() for column in part.columns), strict=True))
        write_sheet(samples.names, rows, file)
