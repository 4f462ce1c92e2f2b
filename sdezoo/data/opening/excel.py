"""Read and write sheets of Excel, .xlsx, by openpyxl, row by row.

A .xlsx is a zip of XML. What it declares to hold is bounded before it is read: openpyxl keeps the texts of all cells in memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import pyarrow as pa

from sdezoo.data.opening.dialect import Dialect, DialectError, instead
from sdezoo.data.opening.words import held_as_text
from sdezoo.data.reading import check_size, reading
from sdezoo.errors import DataError, RunError
from sdezoo.parameters import format_value

LARGEST = 2**28
"""Most bytes of XML in a .xlsx, decompressed."""

_PART, _FEWEST = 2**17, 64  # cells that are converted at a time, and rows at least
_CELLS = 2**24  # a sheet with more has empty ones above all: 256 MiB of XML do not hold as many
_LAST = 2**20  # the number of the last row in Excel

Cell = str | float | int | bool | datetime | date | time | timedelta | None


def read_sheet(path: Path, dialect: Dialect) -> pa.Table:
    """Read a sheet whose first row has the column names. Formulas have the values that Excel saved.

    Args:
        path: the file.
        dialect: what the user says: the sheet, if several have cells, texts that mark missing values, columns read as text.

    Raises:
        DataError: if the file is too large, several sheets have cells, or a column mixes types; the first row that differs is named.
        RunError: if openpyxl is not installed.
    """
    with reading(path, "an Excel file", Exception):  # of a damaged one, openpyxl raises anything
        return _read_sheet(path, dialect, _openpyxl(path))


def _read_sheet(path: Path, dialect: Dialect, openpyxl: ModuleType) -> pa.Table:
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
        return _table(path, names, rows, dialect)
    finally:
        book.close()


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


def _table(path: Path, names: list[str], rows: Iterator[tuple[Cell, ...]], dialect: Dialect) -> pa.Table:
    chunks: list[list[pa.Array]] = [[] for _ in names]
    kinds: list[str | None] = [None] * len(names)
    texts: list[dict[str, int]] = [{} for _ in names]
    missing, begun, size = set(dialect.missing) | {"", "NA", "NaN", "#N/A"}, 0, max(_FEWEST, _PART // max(1, len(names)))
    while part := [_checked(path, names, begun + k, row) for k, row in enumerate(islice(rows, size))]:
        if (begun + len(part)) * len(names) > _CELLS:
            raise DataError(f"'{path}' has more than {_CELLS} cells, most of them empty.", "Save it as .csv.")
        for place, name in enumerate(names):
            column = [
                None if isinstance(cell := row[place] if place < len(row) else None, str) and cell in missing else cell for row in part
            ]
            if name in dialect.text:
                column = [None if cell is None else str(cell) for cell in column]
            for row, cell in enumerate(column):
                if cell is None or (kind := _kind(cell)) == kinds[place]:
                    continue
                if kinds[place] is not None:
                    raise DialectError(
                        f"Column '{name}' of '{path}' has {kinds[place]}, but '{str(cell)[:40]}' in row {begun + row} (counted from 0).",
                        f"Correct it, or if it marks a missing value, g{instead(path, missing=str(cell))[1:-1]}, if the column is text, "
                        f"text={format_value((name,))}.",
                    )
                kinds[place] = kind
            if all(cell is None for cell in column):
                gap = len(chunks[place].pop()) if chunks[place] and pa.types.is_null(chunks[place][-1].type) else 0
                chunks[place].append(pa.nulls(gap + len(column)))
            elif kinds[place] == "text":
                known = texts[place]
                numbers = [None if cell is None else known.setdefault(str(cell), len(known)) for cell in column]
                chunks[place].append(pa.array(numbers, pa.int32()))
            else:
                chunks[place].append(pa.array(column, from_pandas=True))
        begun += len(part)
    columns = [_column(*each) for each in zip(names, chunks, texts, strict=True)]
    return pa.table([column for column, _ in columns], pa.schema([field for _, field in columns]))


def _checked(path: Path, names: Sequence[str], number: int, row: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """A row without the cells beyond the names, which must be empty."""
    if any(cell is not None for cell in row[len(names) :]):
        raise DataError(
            f"'{path}' has {len(names)} column names for row {number} (counted from 0) of more fields.",
            "Give each column a name, or remove the rows before the column names.",
        )
    return row[: len(names)]


def _column(name: str, chunks: list[pa.Array], texts: dict[str, int]) -> tuple[pa.ChunkedArray, pa.Field]:
    """A column, and its field. Texts are held once, however many cells have them."""
    if texts:
        held = pa.array(list(texts), pa.string())
        found = [pa.DictionaryArray.from_arrays(chunk.cast(pa.int32()), held) for chunk in chunks]
        return pa.chunked_array(found), held_as_text(name)
    found = pa.chunked_array(_promoted(chunks)) if chunks else pa.chunked_array([], pa.null())
    return found, pa.field(name, found.type)


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
    return "dates" if isinstance(cell, datetime | date | time | timedelta) else "text"
