"""Tab-separated values. `sdezoo.data.opening` reads them as untrusted input."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from sdezoo.data.filling import Filling, fill_text
from sdezoo.data.formats import OpenedFormat, Samples
from sdezoo.data.tables import write_text


@dataclass(frozen=True)
class Tsv(OpenedFormat):
    """A table as text, .tsv: as .csv, separated by tabs."""

    endings: ClassVar[tuple[str, ...]] = (".tsv", ".tab")

    def write(self, samples: Samples, file: BinaryIO) -> None:
        write_text(samples.parts, samples.names, samples.types, "\t", file)

    def fill(self, path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int) -> None:
        fill_text(path, file, columns, draws)
