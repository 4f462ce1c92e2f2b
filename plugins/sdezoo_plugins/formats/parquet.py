"""Apache Parquet. `sdezoo.data.opening` reads it as untrusted input."""

from dataclasses import dataclass
from typing import BinaryIO, ClassVar

from pyarrow import parquet

from sdezoo.data.formats import OpenedFormat, Samples
from sdezoo.data.tables import batch, schema


@dataclass(frozen=True)
class Parquet(OpenedFormat):
    """A table by columns, .parquet: float32, and whole numbers as int64."""

    endings: ClassVar[tuple[str, ...]] = (".parquet",)

    def write(self, samples: Samples, file: BinaryIO) -> None:
        names = samples.names
        with parquet.ParquetWriter(file, schema(names, samples.types)) as table:
            for part in samples.parts:
                table.write_batch(batch(part, names, samples.types))
