"""Tab-separated values. `sdezoo.data.opening` reads them as untrusted input."""

from dataclasses import dataclass
from typing import ClassVar

from sdezoo.data.formats import TextFormat


@dataclass(frozen=True)
class Tsv(TextFormat):
    """A table as text, .tsv: as .csv, separated by tabs."""

    endings: ClassVar[tuple[str, ...]] = (".tsv", ".tab")
    separator: ClassVar[str] = "\t"
