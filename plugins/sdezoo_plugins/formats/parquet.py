"""Apache Parquet. `sdezoo.data.tables` reads it as untrusted input."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from pyarrow import parquet

from sdezoo.data.conversion import Columns, from_numbers, schema
from sdezoo.data.formats import Samples, TableFormat
from sdezoo.data.tables import read_parquet


@dataclass(frozen=True)
class Parquet(TableFormat):
    """A table by columns, .parquet, of the types that the data have."""

    endings: ClassVar[tuple[str, ...]] = (".parquet",)

    def write(self, samples: Samples, file: BinaryIO) -> None:
        names = samples.names
        with parquet.ParquetWriter(file, schema(names, samples.types)) as table:
            for part in samples.parts:
                table.write_batch(from_numbers(part, names, samples.types))

    def read(self, path: Path) -> Columns:
        return read_parquet(path)
