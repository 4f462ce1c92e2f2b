"""Tables with named columns, in any installed table format, with a fraction of the rows held out."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sdezoo.data.dataset import Data, Dataset, split
from sdezoo.data.formats import TableFormat
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.labels import take_labels
from sdezoo.data.opening.table import holds_text, return_memory
from sdezoo.data.opening.text import line_in_words
from sdezoo.data.tables import columns
from sdezoo.data.validation import check_finite
from sdezoo.errors import ParameterError, shortened
from sdezoo.parameters import Fraction
from sdezoo.zoo.formats import endings, find_format
from sdezoo.zoo.registry import FORMATS


@dataclass(frozen=True)
class Table(Dataset):
    """A table, as text (.csv, .tsv, also .gz), .parquet or .xlsx: numbers, categories, dates, missing values.

    Samples keep its column names and types. A file without the ending of a table format is read as .csv. Text starts with a line of column
    names. Its separator, decimal mark and thousands separator are found in the file; if two readings are possible, the message names the
    parameter to give. Marks are characters, or words that no shell changes: `table:path=x.csv,separator=semicolon,decimal=comma`.
    """

    path: str
    """Path of the file. In quotation marks if it has commas: `table:path="a, b.csv"`."""
    holdout: Fraction = 0.1
    """Fraction of the rows that are held out; the same ones every time."""
    label_column: str | None = None
    """Column with class labels, texts or whole numbers, for `--condition labels`; `sdezoo sample --label` takes one of them."""
    separator: str | None = None
    """What separates columns of a text: comma, semicolon, tab, space, pipe, or a character."""
    decimal: str | None = None
    """Decimal mark of a text: point or comma."""
    thousands: str | None = None
    """Thousands separator of a text: comma, point, space or apostrophe."""
    encoding: str | None = None
    """Encoding of a text, such as latin-1; none: UTF-8, or what its byte-order mark says."""
    comment: str | None = None
    """Character that starts lines of comments in a text; none: #, if the file starts with such a line."""
    missing: tuple[str, ...] = ()
    """Texts that mark missing values, besides the empty text, NA and NaN: `missing=(?,unknown)`."""
    text: tuple[str, ...] = ()
    """Columns to read as categories though they look like numbers: `text=(zip,phone)`."""
    sheet: str | None = None
    """Sheet of an Excel file that has several."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._dialect  # invalid marks are refused at once

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return endings(TableFormat)

    def load(self) -> Data:
        path, notes, known = Path(self.path), [], {}
        form = find_format(path, TableFormat) or FORMATS.build("csv")
        table = form.open(path, self._dialect, notes.append)
        if table is None:
            if self.label_column or self._dialect != Dialect():
                raise ParameterError(
                    f"The format of '{path}' takes no label_column and no dialect.", "Leave them out, or convert it to .csv."
                )
            found = form.read(path)
        else:
            style = form.style(path, table, self._dialect)
            if self.label_column is not None:
                table, labels = take_labels(table, self.label_column)
                numbered = shortened((f"{number} = {name}" for number, name in enumerate(labels.names)), 20)
                notes += [f"The classes of column '{self.label_column}' are numbered: {numbered}."]
                known = labels.settings
            found = columns(path, table, self.text)
            known |= {"style": style} | ({"row_name": partial(line_in_words, path, self._dialect)} if holds_text(path) else {})
        del table
        return_memory()
        check_finite(found.values, found.names, missing=True)  # missing values are for the user to decide on
        return split(found.values, "table", holdout=self.holdout, columns=found.names, types=found.types, notes=tuple(notes), **known)

    @property
    def _dialect(self) -> Dialect:
        return Dialect.of(self)
