"""Comma-separated values under a line of column names. `sdezoo.data.opening` reads them as untrusted input, in any dialect."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from sdezoo.data.filling import Filling, fill_text
from sdezoo.data.formats import OpenedFormat, Samples
from sdezoo.data.tables import write_text


@dataclass(frozen=True)
class Csv(OpenedFormat):
    """A table as text, .csv: a line of column names, numbers to the last digit, dates, strings and Booleans."""

    endings: ClassVar[tuple[str, ...]] = (".csv",)

    def write(self, samples: Samples, file: BinaryIO) -> None:
        write_text(samples.parts, samples.names, samples.types, ",", file)

    def fill(self, path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int) -> None:
        fill_text(path, file, columns, draws)
