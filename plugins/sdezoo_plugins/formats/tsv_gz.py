"""Tab-separated values, compressed by gzip. `sdezoo.data.opening` reads them as untrusted input."""

from dataclasses import dataclass
from typing import ClassVar

from sdezoo.data.formats import TextFormat


@dataclass(frozen=True)
class TsvGz(TextFormat):
    """A compressed table, .tsv.gz: as .tsv, by gzip."""

    endings: ClassVar[tuple[str, ...]] = (".tsv.gz",)
    separator: ClassVar[str] = "\t"
    packed: ClassVar[bool] = True
