"""Comma-separated values, compressed by gzip. `sdezoo.data.opening` reads them as untrusted input."""

from dataclasses import dataclass
from typing import ClassVar

from sdezoo.data.formats import TextFormat


@dataclass(frozen=True)
class CsvGz(TextFormat):
    """A compressed table, .csv.gz: as .csv, by gzip."""

    endings: ClassVar[tuple[str, ...]] = (".csv.gz",)
    packed: ClassVar[bool] = True
