"""Apache Parquet. `sdezoo.data.tables` reads it as untrusted input."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from pyarrow import parquet

from sdezoo.data.filling import Filling, fill_parquet
from sdezoo.data.formats import Samples, TableFormat
from sdezoo.data.tables import Columns, batch, read_parquet, schema


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
        return read_parquet(path)

    def fill(self, path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int) -> None:
        fill_parquet(path, file, columns, draws)
