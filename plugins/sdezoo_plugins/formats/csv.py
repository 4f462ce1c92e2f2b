"""Comma-separated values under a line of column names. `sdezoo.data.tables` reads them as untrusted input."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from pyarrow import csv

from sdezoo.data.conversion import Columns, from_numbers, schema
from sdezoo.data.formats import Samples, TableFormat
from sdezoo.data.tables import read_csv


@dataclass(frozen=True)
class Csv(TableFormat):
    """A table as text, .csv: a line of column names, numbers to the last digit, dates, strings and Booleans."""

    endings: ClassVar[tuple[str, ...]] = (".csv",)

    def write(self, samples: Samples, file: BinaryIO) -> None:
        names = samples.names
        with csv.CSVWriter(file, schema(names, samples.types)) as table:
            for part in samples.parts:
                table.write_batch(from_numbers(part, names, samples.types))

    def read(self, path: Path) -> Columns:
        return read_csv(path)
