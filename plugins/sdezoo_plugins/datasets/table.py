"""Tables with named columns, in any installed table format, with a fraction of the rows held out."""

from dataclasses import dataclass
from math import inf
from pathlib import Path

from sdezoo.data.dataset import Data, Dataset, split
from sdezoo.data.formats import TableFormat
from sdezoo.data.validation import check_finite
from sdezoo.parameters import Fraction
from sdezoo.zoo.formats import endings, find_format
from sdezoo.zoo.registry import FORMATS


@dataclass(frozen=True)
class Table(Dataset):
    """A table, .csv or .parquet: numbers, categories, dates, missing values; samples keep its column names and types.

    A file without the ending of a table format is read as .csv. A .csv starts with a line of column names.
    """

    path: str
    """Path of the file."""
    holdout: Fraction = 0.1
    """Fraction of the rows that are held out; the same ones every time."""

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return endings(TableFormat)

    def load(self) -> Data:
        path = Path(self.path)
        found = (find_format(path, TableFormat) or FORMATS.build("csv")).read(path)
        check_finite(found.values.nan_to_num(0, inf, -inf), found.names)  # missing values are for the user to decide on
        return split(found.values, "table", holdout=self.holdout, columns=found.names, types=found.types)
