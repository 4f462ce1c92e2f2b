"""Tables as text under a line of column names. `sdezoo.data.opening.table` reads them as untrusted input, in any dialect."""

import gzip
import io
from collections.abc import Callable
from csv import writer
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, cast

import pyarrow as pa
from pyarrow import csv

from sdezoo.data.formats import Samples, TableFormat
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.table import read_table
from sdezoo.data.tables import Columns, batch, read_columns, schema


@dataclass(frozen=True)
class Csv(TableFormat):
    """A table as text, .csv: a line of column names, float32 written to the last digit, whole numbers as int64."""

    endings: ClassVar[tuple[str, ...]] = (".csv",)
    separator: ClassVar[str] = ","

    def write(self, samples: Samples, file: BinaryIO) -> None:
        names = samples.names
        head = io.StringIO()
        writer(head, delimiter=self.separator, lineterminator="\n").writerow(names)  # pyarrow puts all names into quotation marks
        file.write(head.getvalue().encode())
        options = csv.WriteOptions(include_header=False, delimiter=self.separator)
        with csv.CSVWriter(file, schema(names, samples.types), write_options=options) as table:
            for part in samples.parts:
                table.write_batch(batch(part, names, samples.types))

    def read(self, path: Path) -> Columns:
        return read_columns(path)

    def open(self, path: Path, dialect: Dialect, notify: Callable[[str], None]) -> pa.Table:
        return read_table(path, dialect, notify)


@dataclass(frozen=True)
class CsvGz(Csv):
    """A compressed table, .csv.gz: as .csv, by gzip."""

    endings: ClassVar[tuple[str, ...]] = (".csv.gz",)

    def write(self, samples: Samples, file: BinaryIO) -> None:
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            super().write(samples, cast("BinaryIO", packed))


@dataclass(frozen=True)
class Tsv(Csv):
    """A table as text, .tsv: as .csv, separated by tabs."""

    endings: ClassVar[tuple[str, ...]] = (".tsv", ".tab")
    separator: ClassVar[str] = "\t"


@dataclass(frozen=True)
class TsvGz(CsvGz):
    """A compressed table, .tsv.gz: as .tsv, by gzip."""

    endings: ClassVar[tuple[str, ...]] = (".tsv.gz",)
    separator: ClassVar[str] = "\t"
