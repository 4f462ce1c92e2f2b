"""Comma-separated values under a line of column names. `sdezoo.data.tables` reads them as untrusted input."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from pyarrow import csv

from sdezoo.data.filling import Filling, fill_csv
from sdezoo.data.formats import Samples, TableFormat
from sdezoo.data.tables import Columns, batch, read_csv, schema


@dataclass(frozen=True)
class Csv(TableFormat):
    """A table as text, .csv: a line of column names, float32 written to the last digit, whole numbers as int64."""

    endings: ClassVar[tuple[str, ...]] = (".csv",)

    def write(self, samples: Samples, file: BinaryIO) -> None:
        names = samples.names
        with csv.CSVWriter(file, schema(names, samples.types)) as table:
            for part in samples.parts:
                table.write_batch(batch(part, names, samples.types))

    def read(self, path: Path) -> Columns:
        return read_csv(path)

    def fill(self, path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int) -> None:
        fill_csv(path, file, columns, draws)
