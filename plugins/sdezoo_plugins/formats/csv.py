"""Comma-separated values under a line of column names, in any dialect. `sdezoo.data.opening` reads them as untrusted input."""

from dataclasses import dataclass
from typing import ClassVar

from sdezoo.data.formats import TextFormat


@dataclass(frozen=True)
class Csv(TextFormat):
    """A table as text, .csv: a line of column names, numbers to the last digit, dates, strings and Booleans."""

    endings: ClassVar[tuple[str, ...]] = (".csv",)
