"""Tables with named columns: what `sdezoo.data.tables` reads, with a part of the rows held out."""

from dataclasses import dataclass
from typing import ClassVar

from sdezoo.data.dataset import Data, Dataset, split
from sdezoo.data.tables import ENDINGS, read_table
from sdezoo.data.validation import check_finite
from sdezoo.parameters import Fraction


@dataclass(frozen=True)
class Table(Dataset):
    """A table of numbers, .csv or .parquet, whose columns keep their names, and whole numbers, through sampling.

    A .csv begins with a line of column names. All columns are numeric, and no value is missing.
    """

    suffixes: ClassVar[tuple[str, ...]] = ENDINGS

    path: str
    """The file."""
    holdout: Fraction = 0.1
    """Fraction of the rows that are held out; the same ones every time."""

    def load(self) -> Data:
        found = read_table(self.path)
        check_finite(found.values, found.names)
        return split(found.values, "table", holdout=self.holdout, columns=found.names, types=found.types)
