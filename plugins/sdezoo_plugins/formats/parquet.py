"""Apache Parquet. `sdezoo.data.opening` reads it as untrusted input."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import pyarrow as pa
from pyarrow import parquet

from sdezoo.data.conversion import from_numbers, schema
from sdezoo.data.filling import Filling, fill_parquet
from sdezoo.data.formats import OpenedFormat, Samples
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.pandas_types import as_noted, dtypes_of, fits, noted
from sdezoo.data.opening.table import OF_PARQUET
from sdezoo.data.text_style import TextStyle


@dataclass(frozen=True)
class Parquet(OpenedFormat):
    """A table by columns, .parquet, of the types that the data have."""

    endings: ClassVar[tuple[str, ...]] = (".parquet",)
    takes: ClassVar[tuple[str, ...]] = OF_PARQUET
    fillable: ClassVar[bool] = True

    def write(self, samples: Samples, file: BinaryIO) -> None:
        samples = samples.table
        names = samples.names
        form, dtypes = schema(names, samples.types, stored=True), samples.style.pandas if samples.style else {}
        own = {name: dtype for name, dtype in dtypes.items() if name in names and fits(dtype, form.field(name).type)}
        form = noted(form, own)
        with parquet.ParquetWriter(file, form) as table:
            for part in samples.parts:
                table.write_batch(as_noted(from_numbers(part, names, samples.types, stored=True), form, own))

    def style(self, path: Path, table: pa.Table, dialect: Dialect) -> TextStyle | None:
        with path.open("rb") as file:
            if file.read(4) != b"PAR1":
                return None
        dtypes = dtypes_of(parquet.read_schema(path))
        return TextStyle(pandas=dtypes) if dtypes else None

    def fill(self, path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int, dialect: Dialect) -> None:
        fill_parquet(path, file, columns, draws)
