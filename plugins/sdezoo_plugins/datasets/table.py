"""Tables with named columns, in any format of tables that is installed, with a part of the rows held out."""

from dataclasses import dataclass
from pathlib import Path

from sdezoo.data.dataset import Data, Dataset, split
from sdezoo.data.formats import TableFormat
from sdezoo.data.validation import check_finite
from sdezoo.parameters import Fraction
from sdezoo.zoo.formats import endings, find_format
from sdezoo.zoo.registry import FORMATS


@dataclass(frozen=True)
class Table(Dataset):
    """A table of numbers, .csv or .parquet, whose columns keep their names, and whole numbers, through sampling.

    What has the ending of no format of tables is read as a .csv. A .csv begins with a line of column names. All columns are numeric, and
    no value is missing.
    """

    path: str
    """The file."""
    holdout: Fraction = 0.1
    """Fraction of the rows that are held out; the same ones every time."""

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return endings(TableFormat)

    def load(self) -> Data:
        path = Path(self.path)
        found = (find_format(path, TableFormat) or FORMATS.build("csv")).read(path)
        check_finite(found.values, found.names)
        return split(found.values, "table", holdout=self.holdout, columns=found.names, types=found.types)
