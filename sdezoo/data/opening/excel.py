"""Read and write sheets of Excel, .xlsx, by openpyxl, row by row.

A .xlsx is a zip of XML. What it declares to hold is bounded before it is read: openpyxl keeps the texts of all cells in memory.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from sdezoo.data.opening.dialect import Dialect, DialectError, correction, instead
from sdezoo.data.opening.words import NO_TIME, held_as_text
from sdezoo.data.reading import check_size, reading
from sdezoo.errors import DataError, RunError
from sdezoo.parameters import format_value

LARGEST = 2**28
"""Most bytes of XML in a .xlsx, decompressed."""

_PART, _FEWEST = 2**17, 64  # cells that are converted at a time, and rows at least
_CELLS = 2**24  # a sheet with more has empty ones above all: 256 MiB of XML do not hold as many
_LAST = 2**20  # the number of the last row in Excel

_ERRORS = {"#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!"}
"""What Excel saves for a formula without a value."""

Cell = str | float | int | bool | datetime | date | time | timedelta | None


def read_sheet(path: Path, dialect: Dialect, notify: Callable[[str], None] = lambda _: None) -> pa.Table:
    """Read a sheet whose first row has the column names. Formulas have the values that Excel saved.

    Args:
        path: the file.
        dialect: what the user says: the sheet, if several have cells, texts that mark missing values, columns read as text.
        notify: called with a sentence for each column in which marks such as `?` stand for missing values.

    Raises:
        DataError: if the file is too large, several sheets have cells, or a column mixes types; the first row that differs is named.
        RunError: if openpyxl is not installed.
    """
    with reading(path, "an Excel file", Exception):  # of a damaged one, openpyxl raises anything
        return _read_sheet(path, dialect, _openpyxl(path), notify)


def _read_sheet(path: Path, dialect: Dialect, openpyxl: ModuleType, notify: Callable[[str], None]) -> pa.Table:
    with zipfile.ZipFile(path) as archive:
        names, size = archive.namelist(), sum(member.file_size for member in archive.infolist())
    if size > LARGEST:
        raise DataError(f"'{path}' declares {size} bytes, more than the {LARGEST} of an Excel file that are read.", "Save it as .csv.")
    check_size(path, size)
    if "[Content_Types].xml" not in names:
        raise DataError(f"'{path}' is a zip archive, not an Excel file.", "Unpack it, and give a file of it.")
    book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    try:
        rows = _chosen(path, book, dialect)
        names = _names(next(rows, ()))
        if len(set(filter(None, names))) < len(list(filter(None, names))):
            repeated = next(name for name in names if name and names.count(name) > 1)
            raise DataError(f"'{path}' has more than one column named '{repeated}'.", "Give each column its own name.")
        table = _table(path, names, rows, dialect, notify)
    finally:
        book.close()
    if empty := [k for k, column in enumerate(table.columns) if column.null_count == len(column) and not names[k].startswith("\0")]:
        _check_formulas(path, openpyxl, dialect, names, empty)
    return table


def write_sheet(names: Sequence[str], rows: Iterable[Sequence[Cell]], file: BinaryIO) -> None:
    """Write a sheet, row by row. Texts are texts, even if they begin like a formula.

    Args:
        names: column names.
        rows: the cells of the rows.
        file: output, written sequentially.

    Raises:
        RunError: if openpyxl is not installed.
    """
    excel = _openpyxl(Path("the samples"))
    book = excel.Workbook(write_only=True)
    sheet = book.create_sheet("samples")

    def cell(value: Cell) -> object:
        if not isinstance(value, str) or not value.startswith("="):
            return value
        made = excel.cell.WriteOnlyCell(sheet, value)
        made.data_type = "s"
        return made

    for row in chain([names], rows):
        sheet.append([cell(value) for value in row])
    book.save(file)


def _openpyxl(path: Path) -> ModuleType:
    try:
        import openpyxl
    except ImportError:
        raise RunError(
            f"'{path}' needs openpyxl, which is not installed.", 'Install it: pip install "sdezoo[excel]", or use .csv.'
        ) from None
    return openpyxl


def _chosen(path: Path, book: object, dialect: Dialect) -> Iterator[tuple[Cell, ...]]:
    """The rows of the sheet that the user names, else of the only one with cells; empty rows are left out."""
    sheets = {sheet.title: sheet for sheet in book.worksheets}  # pyright: ignore[reportAttributeAccessIssue]
    if dialect.sheet is not None and dialect.sheet not in sheets:
        raise DataError(f"'{path}' has no sheet '{dialect.sheet}'.", f"Give one of {', '.join(sheets)}.")
    filled = {}
    for title, sheet in sheets.items() if dialect.sheet is None else [(dialect.sheet, sheets[dialect.sheet])]:
        rows = _rows(path, sheet)
        if (first := next(rows, None)) is not None:
            filled[title] = (first, rows)
    if not filled:
        raise DataError(f"'{path}' has no rows of data.", "Give a table with at least two rows.")
    if len(filled) > 1:
        raise DialectError(f"'{path}' has several sheets: {', '.join(filled)}.", instead(path, f"sheet={format_value(next(iter(filled)))}"))
    first, rows = next(iter(filled.values()))

    def whole() -> Iterator[tuple[Cell, ...]]:
        yield first
        yield from rows

    return whole()


def _rows(path: Path, sheet: Any) -> Iterator[tuple[Cell, ...]]:
    """The rows of a sheet that have cells. What it says of its own size is not believed: it may be less, or more than there is."""
    sheet.reset_dimensions()
    for number, row in enumerate(sheet.iter_rows(values_only=True, max_row=_LAST + 1)):
        if number == _LAST:
            raise DataError(f"'{path}' has rows beyond number {_LAST}, the last of Excel.", "Save it as .csv.")
        if any(cell is not None for cell in row):
            yield row


def _names(row: Sequence[Cell]) -> list[str]:
    names = ["" if cell is None else str(cell) for cell in row]
    while names and not names[-1]:
        names.pop()
    return [name or f"\0{i}" for i, name in enumerate(names)]


def _table(path: Path, names: list[str], rows: Iterator[tuple[Cell, ...]], dialect: Dialect, notify: Callable[[str], None]) -> pa.Table:
    columns = [_Column(path, name) for name in names]
    begun, size = 0, max(_FEWEST, _PART // max(1, len(names)))
    shared, own = dialect.marks(names)
    while part := [_checked(path, names, begun + k, row) for k, row in enumerate(islice(rows, size))]:
        if (begun + len(part)) * len(names) > _CELLS:
            raise DataError(f"'{path}' has more than {_CELLS} cells, most of them empty.", "Save it as .csv.")
        for place, (name, column) in enumerate(zip(names, columns, strict=True)):
            missing = {"", "NA", "NaN", "#N/A", *shared, *own.get(name, ())}
            cells = [
                None if isinstance(cell := row[place] if place < len(row) else None, str) and cell in missing else cell for row in part
            ]
            column.add([None if cell is None else str(cell) for cell in cells] if name in dialect.text else cells, begun)
        begun += len(part)
    for column in columns:
        if column.kind not in ("text", None) and column.marks:
            shown = next(iter(column.marks.values()))
            notify(f"'{shown}' in column '{column.name}' of '{path}', whose other values are {column.kind}, is a missing value.")
    found = [column.found() for column in columns]
    return pa.table([column for column, _ in found], pa.schema([field for _, field in found]))


class _Column:
    """The cells of a column, added part by part. Texts are held once, however many cells have them.

    Args:
        path: the file, for messages.
        name: name of the column.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.kind: str | None = None
        self.marks: dict[int, str] = {}
        """The rows whose cells mark missing values, unless the column is of texts, and these texts."""
        self._first = (0, "")  # row and text of the cell that told the kind
        self._chunks: list[pa.Array] = []
        self._texts: dict[str, int] = {}

    def add(self, cells: list[Cell], begun: int) -> None:
        """Add the cells of some rows, the first of which is number `begun`."""
        for row, cell in enumerate(cells):
            if cell is not None and _kind(cell) != self.kind and self._is_mark(cell, begun + row):
                cells[row] = None
        if all(cell is None for cell in cells):
            gap = len(self._chunks.pop()) if self._chunks and pa.types.is_null(self._chunks[-1].type) else 0
            self._chunks.append(pa.nulls(gap + len(cells)))
        else:
            self._chunks.append(self._words(cells) if self.kind == "text" else pa.array(cells, from_pandas=True))

    def found(self) -> tuple[pa.ChunkedArray, pa.Field]:
        """The column, and its field."""
        chunks = self._chunks
        if self.kind in ("text", None) and self.marks:
            codes = np.concatenate([np.asarray(chunk.cast(pa.int32()).fill_null(-1)) for chunk in chunks])
            codes[list(self.marks)] = [self._place(text) for text in self.marks.values()]
            chunks = [pa.array(codes, mask=codes < 0)]
        if self._texts:
            held = pa.array(list(self._texts), pa.string())
            parts = [pa.DictionaryArray.from_arrays(chunk.cast(pa.int32()), held) for chunk in chunks]
            return pa.chunked_array(parts), held_as_text(self.name)
        column = pa.chunked_array(_promoted(chunks)) if chunks else pa.chunked_array([], pa.null())
        return column, pa.field(self.name, column.type)

    def _is_mark(self, cell: Cell, row: int) -> bool:
        """Whether a cell of another kind than the column marks a missing value; if not, it tells the kind, or is refused."""
        kind = _kind(cell)
        if kind == "text" and (re.fullmatch(NO_TIME, str(cell)) or cell in _ERRORS):
            self.marks[row] = str(cell)
            return True
        if {kind, self.kind} == {"text", "numbers"}:  # all as texts, which are told apart as those of other files
            if kind == "text":
                self.kind, self._chunks = "text", [self._words(chunk.to_pylist()) for chunk in self._chunks]
        elif self.kind is not None:
            raise _mixed(self.path, self.name, (self.kind, self._first[0], self._first[1]), (kind, row, str(cell)))
        else:
            self.kind, self._first = kind, (row, str(cell))
        return False

    def _words(self, cells: Sequence[Cell]) -> pa.Array:
        """Cells as the places of their texts."""
        return pa.array([None if cell is None else self._place(str(cell)) for cell in cells], pa.int32())

    def _place(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))


def _mixed(path: Path, name: str, one: tuple[str, int, str], other: tuple[str, int, str]) -> DataError:
    """The error for a column of two kinds of cells, given the kind, the row and the text of one of each; of texts and others, the text is
    the mistake.
    """
    (usual, *_), (odd, row, text) = (other, one) if one[0] == "text" else (one, other)
    problem = f"Column '{name}' of '{path}' has {usual}, but '{text[:40]}' in row {row} (counted from 0)."
    if odd != "text":
        return DataError(problem, "Give all cells of a column one type.")
    return DialectError(problem, correction(path, name, text))


def _checked(path: Path, names: Sequence[str], number: int, row: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """A row without the cells beyond the names, which must be empty."""
    if any(cell is not None for cell in row[len(names) :]):
        raise DataError(
            f"'{path}' has {len(names)} column name{'s' * (len(names) != 1)} for row {number} (counted from 0) of more fields.",
            "Give each column a name, or remove the rows before the column names.",
        )
    return row[: len(names)]


def _check_formulas(path: Path, openpyxl: ModuleType, dialect: Dialect, names: Sequence[str], places: Sequence[int]) -> None:
    """Refuse columns without any value whose cells are formulas: no program has computed them."""
    book = openpyxl.load_workbook(path, read_only=True, keep_links=False)
    try:
        row = next(islice(_chosen(path, book, dialect), 1, None), ())
    finally:
        book.close()
    for place in places:
        cell = row[place] if place < len(row) else None
        if isinstance(cell, str) and cell.startswith("="):
            raise DataError(
                f"Column '{names[place]}' of '{path}' has formulas, such as {cell[:40]}, without their values.",
                "Open the file in a spreadsheet program and save it, or leave out the column.",
            )


def _promoted(chunks: list[pa.Array]) -> list[pa.Array]:
    """Chunks of one type: integers become floating where another chunk is, chunks without values take the type of the others."""
    kinds = {chunk.type for chunk in chunks if not pa.types.is_null(chunk.type)}
    if not kinds:
        return chunks
    kind = next(iter(kinds)) if len(kinds) == 1 else pa.float64() if pa.float64() in kinds else next(iter(kinds))
    return [chunk.cast(kind) for chunk in chunks]


def _kind(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "true and false"
    if isinstance(cell, int | float):
        return "numbers"
    if isinstance(cell, time):
        return "times of day"
    if isinstance(cell, timedelta):
        return "durations"
    return "dates" if isinstance(cell, datetime | date) else "text"
