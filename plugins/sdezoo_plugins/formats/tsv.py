"""Tab-separated values. `sdezoo.data.opening` reads them as untrusted input."""

from dataclasses import dataclass
from typing import BinaryIO, ClassVar

from sdezoo.data.formats import OpenedFormat, Samples
from sdezoo.data.tables import write_text


@dataclass(frozen=True)
class Tsv(OpenedFormat):
    """A table as text, .tsv: as .csv, separated by tabs."""

    endings: ClassVar[tuple[str, ...]] = (".tsv", ".tab")

    def write(self, samples: Samples, file: BinaryIO) -> None:
        write_text(samples.parts, samples.names, samples.types, "\t", file)
