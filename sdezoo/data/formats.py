"""File formats for data and samples.

The file name ending selects the format. Every `FileFormat` can be written; a `ReadableFormat` can also be read. An `ArrayFormat` stores
named arrays, read by the dataset `array`. A `TableFormat` stores named columns, read by the dataset `table`.
"""

from __future__ import annotations

import gzip
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple, cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sdezoo.data.arrays import Header
from sdezoo.data.column_types import CategoryType, ColumnType, NumberType, column_types, or_numbers
from sdezoo.data.conversion import Columns, recoded
from sdezoo.data.dataset import Kind
from sdezoo.data.filling import Filling, fill_text
from sdezoo.data.opening.dialect import Dialect, DialectError
from sdezoo.data.opening.style import find_style
from sdezoo.data.opening.table import OF_TEXT, holds_text, read_table
from sdezoo.data.reading import reading
from sdezoo.data.tables import read_columns, write_text
from sdezoo.data.text_style import TextStyle
from sdezoo.errors import DataError, RunError, shortened
from sdezoo.parameters import Plugin

SERIES, STEP = "series", "step"
"""Names of two columns, which hold the index of the series and the number of the step, from 0."""
_WHOLE = 2**24  # whole numbers that float32 holds


@dataclass(frozen=True, eq=False)
class Samples:
    """Final rows to write to a file, with their metadata.

    Args:
        parts: chunks of rows `(n_i, *event)`, float32 on the CPU, in the user's units. Iterated once, so memory holds one chunk at a time.
        shape: total shape `(n, *event)`.
        kind: the kind of a row.
        columns: column names; empty: unnamed.
        levels: lattice of images: values are multiples of 1/levels; None: continuous.
        types: types of the columns, see `sdezoo.data.encoding.Encoding`.
        times: observation times of paths, `(T,)`, float64; None: unknown.
        observed: windows `(M, T, d)` of which series `i` continues number `i` modulo `M`, NaN where they are unknown; None: none.
        given: number of their given steps.
        style: how the data were written as text; None: they were not.
        labels: the class of each row, `(n,)`, integers or texts; None: no classes. Tables have them in a column instead.
    """

    parts: Iterable[Tensor]
    shape: tuple[int, ...]
    kind: Kind
    columns: tuple[str, ...] = ()
    levels: int | None = None
    types: tuple[ColumnType, ...] = ()
    times: Tensor | None = None
    observed: Tensor | None = None
    given: int = 0
    style: TextStyle | None = None
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", column_types(self.types))

    @property
    def names(self) -> list[str]:
        """Column names; x0, x1, … if unnamed."""
        return list(self.columns) or [f"x{i}" for i in range(self.shape[-1])]

    @property
    def table(self) -> Samples:
        """The samples as rows of a table: series become long, with a row for each step, under its series and its number."""
        if self.kind != "series":
            return self
        count, steps, width = self.shape
        if count > _WHOLE:
            raise RunError(f"{count} series are too many for a table.", "Write .npz instead.")
        types = (NumberType("int64"), NumberType("int64"), *or_numbers(self.types, width))
        shape = (count * steps, width + 2)
        return Samples(self._long(steps), shape, "table", (SERIES, STEP, *self.names), types=types, style=self.style)

    def _long(self, steps: int) -> Iterator[Tensor]:
        first = 0
        for part in self.parts:
            series = torch.arange(first, first + len(part)).repeat_interleave(steps)
            number = torch.arange(steps).repeat(len(part))
            first += len(part)
            yield torch.cat([torch.stack([series, number], 1).float(), part.flatten(0, 1)], 1)


class FileFormat(Plugin, ABC):
    """A format that can be written. Abstract: `write`."""

    endings: ClassVar[tuple[str, ...]] = ()
    """Lower-case file name endings, with the dot."""
    form: ClassVar[str] = ""
    """Description for messages, with an article, such as "a table"."""
    kinds: ClassVar[tuple[Kind, ...]] = ()
    """Kinds of rows that can be written."""

    @abstractmethod
    def write(self, samples: Samples, file: BinaryIO) -> None:
        """Write samples chunk by chunk.

        Args:
            samples: the rows, of one of `kinds`.
            file: output, written sequentially; do not seek backwards.

        Raises:
            RunError: if the samples cannot be written in this format.
        """


class ReadableFormat(FileFormat):
    """A format that can also be read. Abstract: `read_samples` and `write`."""

    @abstractmethod
    def read_samples(self, path: Path, columns: Sequence[str], types: Sequence[ColumnType] = ()) -> Tensor:
        """Read rows from a file in the form that `write` produces.

        Args:
            path: the file.
            columns: names of the columns to read, in this order; empty: all columns, or unnamed ones.
            types: types of these columns; empty: all float32.

        Returns:
            Rows `(n, *event)`, float32, codes of these types.

        Raises:
            DataError: if the file cannot be read, or a column is missing.
        """


class ArrayFormat(ReadableFormat):
    """A format that stores named arrays. Abstract: `read` and `write`."""

    form: ClassVar[str] = "an array"

    @abstractmethod
    def read(self, path: Path, choose: Callable[[tuple[str, ...]], Iterable[str]]) -> dict[str, np.ndarray]:
        """Read the chosen arrays.

        Args:
            path: the file.
            choose: maps the names of all arrays to the names to read.

        Returns:
            The chosen arrays by name. An unnamed array is called `x`.

        Raises:
            DataError: if the file cannot be read, or does not fit in memory.
        """

    def header(self, path: Path) -> Header | None:
        """Read the header of a file with a single array whose rows can be read individually from disk.

        Args:
            path: the file.

        Returns:
            The header; None if the format does not allow this.

        Raises:
            DataError: if the file cannot be read.
        """
        return None

    def read_samples(self, path: Path, columns: Sequence[str], types: Sequence[ColumnType] = ()) -> Tensor:
        with reading(path, "samples", KeyError, TypeError):
            x = self.read(path, lambda names: ["x"])["x"]
            if x.dtype.kind == "U":
                raise DataError(f"The array x in '{path}' holds texts, not numbers.", "Give numbers.")
            return torch.from_numpy(x.astype(np.float32))


class Cells(NamedTuple):
    """The cells of a table.

    Args:
        x: codes of the columns that were asked for, float32 `(N, columns)`, NaN where a value is missing.
        names: names of all columns of the file.
    """

    x: Tensor
    names: tuple[str, ...]


class TableFormat(ReadableFormat):
    """A format that stores named columns. Abstract: `read` and `write`."""

    form: ClassVar[str] = "a table"
    fillable: ClassVar[bool] = False
    """Whether `fill` writes such a file."""
    kinds: ClassVar[tuple[Kind, ...]] = ("table", "points", "series")

    @abstractmethod
    def read(self, path: Path) -> Columns:
        """Read all columns as codes. Missing values become NaN, values too large for float32 become infinite.

        Args:
            path: the file.

        Raises:
            DataError: if the file cannot be read, has columns of nested values, or does not fit in memory.
        """

    def check_fill(self, path: Path) -> None:
        """Check that missing cells of a file can be filled, without reading it.

        Args:
            path: the file.

        Raises:
            DataError: if they cannot.
        """
        if not self.fillable:
            raise DataError(f"Missing cells of '{path}' cannot be filled.", "Give a .csv, .tsv or .parquet.")

    def fill(self, path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int, dialect: Dialect) -> None:
        """Write a table with its missing cells filled and all others as they are, once for each draw. Default: refused.

        Args:
            path: the table to fill.
            file: output, written sequentially.
            columns: values by column.
            draws: number of draws. If there are several, the first column `draw` numbers them, from 1.
            dialect: how the file is written, as far as the user says.

        Raises:
            DataError: if the format cannot be filled, or has a column `draw` already.
        """
        self.check_fill(path)

    def read_cells(self, path: Path, columns: Sequence[str], types: Sequence[ColumnType], dialect: Dialect) -> Cells:
        """Read columns of a table.

        Args:
            path: the file.
            columns: names of the columns to read, in this order.
            types: types of these columns; empty: all float32.
            dialect: how the file is written, as far as the user says; what does not apply to the format is ignored.

        Raises:
            DataError: if the file cannot be read, or a column is missing.
        """
        found = self.read(path)
        return Cells(self._coded(found, path, columns, types), found.names)

    def open(self, path: Path, dialect: Dialect, notify: Callable[[str], None]) -> pa.Table | None:
        """Open the file as an Arrow table, before its values become codes.

        Args:
            path: the file.
            dialect: how the file is written, as far as the user says.
            notify: called with each sentence that the user should know.

        Returns:
            The table; None if the format has only `read`.

        Raises:
            DataError: as for `sdezoo.data.opening.table.read_table`.
        """
        return None

    def style(self, path: Path, table: pa.Table, dialect: Dialect) -> TextStyle | None:
        """How a file is written as text, so that samples are written in the same way.

        Args:
            path: the file.
            table: what `open` read from it.
            dialect: how the file is written, as far as the user says.

        Returns:
            The style; None if the format is none of texts.
        """
        return None

    def read_samples(self, path: Path, columns: Sequence[str], types: Sequence[ColumnType] = ()) -> Tensor:
        return self._coded(self.read(path), path, columns, types)

    def _coded(self, found: Columns, path: Path, columns: Sequence[str], types: Sequence[ColumnType]) -> Tensor:
        if missing := [name for name in columns if name not in found.names]:
            remedy = f"Give a table with the columns {shortened(columns, 20)}."
            raise DataError(f"'{path}' has no column '{missing[0]}'.", remedy)
        index = [found.names.index(name) for name in columns] or list(range(len(found.names)))
        own = [found.types[i] for i in index] if found.types else ()
        rows = found.values[:, index]
        return recoded(rows, own, types, [found.names[i] for i in index]) if not types or len(types) == len(index) else rows


class OpenedFormat(TableFormat):
    """A format that `sdezoo.data.opening.table` opens. Abstract: `write`."""

    takes: ClassVar[tuple[str, ...]] = ()
    """Fields of `Dialect` that apply."""

    def read(self, path: Path) -> Columns:
        return read_columns(path)

    def read_samples(self, path: Path, columns: Sequence[str], types: Sequence[ColumnType] = ()) -> Tensor:
        return self.read_cells(path, columns, types, Dialect()).x

    def read_cells(self, path: Path, columns: Sequence[str], types: Sequence[ColumnType], dialect: Dialect) -> Cells:
        # Words may look like numbers, such as 007.
        words = [name for name, kind in zip(columns, types, strict=False) if isinstance(kind, CategoryType) and kind.form != "bool"]
        try:
            found = read_columns(path, replace(dialect.only(self.takes), text=tuple(words)))
        except DialectError as error:  # options of the dataset do not apply to this file
            raise DataError(error.problem, "Write the file like the data of the run, in UTF-8, with missing values empty.") from None
        return Cells(self._coded(found, path, columns, types), found.names)

    def open(self, path: Path, dialect: Dialect, notify: Callable[[str], None]) -> pa.Table:
        table = read_table(path, dialect, notify)
        if unknown := [name for name in dialect.text if name not in table.column_names]:
            raise DataError(f"'{path}' has no column '{unknown[0]}'.", "Correct text=.")
        return table


@dataclass(frozen=True)
class TextFormat(OpenedFormat):
    """A table as text, under a line of column names. Override `endings`, and `separator` or `packed`."""

    separator: ClassVar[str] = ","
    """What separates columns."""
    takes: ClassVar[tuple[str, ...]] = OF_TEXT
    fillable: ClassVar[bool] = True
    packed: ClassVar[bool] = False
    """Whether the file is compressed by gzip."""

    def write(self, samples: Samples, file: BinaryIO) -> None:
        samples = samples.table
        with self._output(file) as text:
            style = (samples.style or TextStyle()).for_format(self.separator)
            write_text(samples.parts, samples.names, samples.types, style, text)

    def style(self, path: Path, table: pa.Table, dialect: Dialect) -> TextStyle | None:
        return find_style(path, table, dialect.only(self.takes)) if holds_text(path) else None

    def fill(self, path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int, dialect: Dialect) -> None:
        if not holds_text(path):
            raise DataError(f"'{path}' has the ending of a text, and is none.", "Rename it to .parquet, or convert it to .csv.")
        with self._output(file) as text:
            fill_text(path, text, columns, draws, dialect.only(self.takes))

    @contextmanager
    def _output(self, file: BinaryIO) -> Iterator[BinaryIO]:
        if not self.packed:
            yield file
            return
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            yield cast("BinaryIO", packed)
