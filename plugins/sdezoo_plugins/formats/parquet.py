"""Apache Parquet. `sdezoo.data.opening` reads it as untrusted input."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from pyarrow import parquet

from sdezoo.data.conversion import from_numbers, schema
from sdezoo.data.filling import Filling, fill_parquet
from sdezoo.data.formats import OpenedFormat, Samples
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.table import OF_PARQUET


@dataclass(frozen=True)
class Parquet(OpenedFormat):
    """A table by columns, .parquet, of the types that the data have."""

    endings: ClassVar[tuple[str, ...]] = (".parquet",)
    takes: ClassVar[tuple[str, ...]] = OF_PARQUET
    fillable: ClassVar[bool] = True

    def write(self, samples: Samples, file: BinaryIO) -> None:
        samples = samples.table
        names = samples.names
        with parquet.ParquetWriter(file, schema(names, samples.types, stored=True)) as table:
            for part in samples.parts:
                table.write_batch(from_numbers(part, names, samples.types, stored=True))

    def fill(self, path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int, dialect: Dialect) -> None:
        fill_parquet(path, file, columns, draws)
