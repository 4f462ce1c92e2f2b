"""Open a table, text, Parquet or Excel, as an Arrow table. How values become numbers of a model is not decided here.

Formats are told apart by content. Text may be gzipped; `sdezoo.data.opening.dialect` finds how it is written. What pandas and R add to a
table is no column: an index without a name, row names, separators at the ends of rows.

Memory: a `.parquet` may hold any number of equal values in a few bytes. It is read in batches, so that memory is allocated as values are
decoded; texts keep their dictionary, so that equal ones are stored once. `sdezoo.data.opening.text` tells what text takes.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

import csv
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.numerals import is_signed, no_number, notation, read_numbers
from sdezoo.data.opening.pages import text_pages
from sdezoo.data.opening.pandas_types import Extended
from sdezoo.data.opening.sentinels import name_sentinels, without_sentinels
from sdezoo.data.opening.text import Text, no_rows, read_rows, rows_as_lines
from sdezoo.data.opening.time_texts import read_times
from sdezoo.data.opening.words import TEXT, is_text, own_words, words
from sdezoo.data.reading import SHARE, check_size, reading
from sdezoo.errors import DataError, listed

_BATCH = 65_536
_WIDE = 512  # columns of a Parquet file that are read at a time
_MOST = 2**15  # columns of a Parquet file
_SHORT, _TEXT = 256, 24  # bytes of a short text, and of one on average
_COLUMN, _ENTRY = 6144, 34  # bytes of memory for a column that is read, and at most for a byte of the directory
_SLACK, _ROOM = 2**26, 2**24
_LEFT = 2**22  # bytes that are decoded before memory is returned
_PARQUET, _ZIP, _MAGIC = b"PAR1", b"PK\x03\x04", 6
_AS_PARQUET = "Save it as .parquet or .csv."
_OTHER_FORMATS = {
    b"\xd0\xcf\x11\xe0": ("is in the old format of Excel, .xls", "Save it as .xlsx or .csv."),
    b"BZh": ("is compressed by bzip2", "Decompress it, or compress it by gzip."),
    b"\xfd7zXZ": ("is compressed by xz", "Decompress it, or compress it by gzip."),
    b"\x28\xb5\x2f\xfd": ("is compressed by zstd", "Decompress it, or compress it by gzip."),
    b"ARROW1": ("is a Feather or Arrow file", _AS_PARQUET),
    b"SQLite": ("is a database of SQLite", _AS_PARQUET),
    b"\x89HDF": ("is an HDF5 file", _AS_PARQUET),
    b"\x80\x03": ("is a pickle, which may run code when it is read", _AS_PARQUET),
    b"\x80\x04": ("is a pickle, which may run code when it is read", _AS_PARQUET),
    b"\x80\x05": ("is a pickle, which may run code when it is read", _AS_PARQUET),
}
"""What else a file begins with, what that is, and what to do."""
OF_TEXT = ("separator", "decimal", "thousands", "encoding", "comment", "missing", "text")
"""What a user can say of a table in text."""
OF_EXCEL = ("sheet", "text", "missing", "decimal", "thousands")
"""What a user can say of an Excel file."""
OF_PARQUET = ("text", "missing")
"""What a user can say of a Parquet file."""
_LONG = 2.0**63  # integers from here on are read as floating-point numbers
_FAILURES = (pa.ArrowException, csv.Error, zlib.error, zipfile.BadZipFile, RecursionError)


def read_table(
    path: Path, dialect: Dialect | None = None, notify: Callable[[str], None] = lambda _: None, file: BinaryIO | None = None
) -> pa.Table:
    """Read a table with named columns of any types. Missing values are null.

    Args:
        path: the file: text with a line of column names, also gzipped; Parquet; Excel (.xlsx, with the extra `excel`).
        dialect: how the file is written, as far as the user says; None: nothing.
        notify: called with each sentence that the user should know, such as that an index was left out.
        file: the file, open, so that the caller reads the same one again; None: it is opened.

    Raises:
        DataError: if the file cannot be read, is too large or has no rows; if names are repeated; if it can be read in two ways; if a row
            has fields too many or too few; if a column mixes numbers with other texts. The message names the first such row or column.
        RunError: if openpyxl is needed and not installed.
    """
    dialect = dialect or Dialect()
    with reading(path, "a table", *_FAILURES), _returning_memory(), nullcontext(file) if file else path.open("rb") as opened:
        begun = opened.read(_MAGIC)
        if other := next((what for magic, what in _OTHER_FORMATS.items() if begun.startswith(magic)), None):
            raise DataError(f"'{path}' {other[0]}.", other[1])
        if begun.startswith(_PARQUET):
            _take_no(path, dialect, "a Parquet file", OF_PARQUET)
            table = _as_text(_without_index(path, _parquet(path), notify), dialect)
        elif begun.startswith(_ZIP):
            from sdezoo.data.opening.excel import read_sheet

            _take_no(path, dialect, "an Excel file", OF_EXCEL)
            table = read_sheet(path, dialect, notify)
            table = _finished(path, table, dialect, dialect.decimal_mark or notation(path, table, dialect), notify)
        else:
            _take_no(path, dialect, "text", OF_TEXT)
            with rows_as_lines(path, opened, dialect):
                table = _text(path, opened, dialect, notify)
        table = without_sentinels(table, dialect)
        name_sentinels(path, table, notify)
        return table


def holds_text(path: Path) -> bool:
    """Whether a file is read as text: it does not begin as Parquet or Excel do.

    Args:
        path: the file.
    """
    with path.open("rb") as file:
        return not file.read(_MAGIC).startswith((_PARQUET, _ZIP, *_OTHER_FORMATS))


def return_memory() -> None:
    """Return to the system what Arrow has freed and allocators keep."""
    with _returning_memory():
        pass


@contextmanager
def _returning_memory() -> Iterator[None]:
    """Let Arrow take memory from the system and return it at once: its own pool keeps what a finished step took."""
    before, system = pa.default_memory_pool(), pa.system_memory_pool()
    pa.set_memory_pool(system)
    try:
        yield
    finally:
        system.release_unused()  # has no effect where it is not the pool in use
        pa.set_memory_pool(before)
        before.release_unused()


def packed_texts(table: pa.Table) -> dict[str, str]:
    """The columns whose texts were read as a dictionary to save memory, and are no dictionary in the file, with their types there.

    Args:
        table: from `read_table`.
    """
    return {field.name: field.metadata[TEXT].decode() for field in table.schema if TEXT in (field.metadata or {})}


def check_names(path: Path, names: Sequence[str]) -> None:
    """Check that a table has columns, and that their names differ.

    Args:
        path: the file, for the message.
        names: column names; empty ones are not compared.

    Raises:
        DataError: if there are no columns, or a name is repeated.
    """
    if not names:
        raise DataError(f"'{path}' has no rows of data.", "Give a table with at least two rows.")
    repeated = [name for name, count in Counter(names).items() if count > 1 and name]
    if repeated:
        raise DataError(f"'{path}' has more than one column named {listed(repeated)}.", "Give each column its own name.")


def _take_no(path: Path, dialect: Dialect, form: str, allowed: Sequence[str]) -> None:
    """Refuse options that do not apply to this form of file."""
    given = [name for name in Dialect.__dataclass_fields__ if name not in allowed and getattr(dialect, name)]
    if given:
        raise DataError(f"'{path}' is {form}, to which {given[0]}= does not apply.", f"Leave out {given[0]}.")


def _text(path: Path, file: BinaryIO, dialect: Dialect, notify: Callable[[str], None]) -> pa.Table:
    check_size(path, os.fstat(file.fileno()).st_size // 4)
    source = Text(path, file, dialect)
    layout = source.layout
    check_names(path, layout.names)
    table = read_rows(path, file, source, dialect, dialect.decimal_mark or ".")
    mark = dialect.decimal_mark or notation(path, table, dialect)
    if dialect.decimal_mark is None and mark == ",":
        # Numbers with points are other numbers then: 1.234 is 1234.
        dialect = replace(dialect, decimal=mark)
        source = Text(path, file, dialect)
        del table  # before the next one is there
        table = read_rows(path, file, source, dialect, mark)
    if doubtful := _doubtful(table, source, dialect):
        as_text = replace(dialect, text=tuple(doubtful))
        words = read_rows(path, file, Text(path, file, dialect), as_text, dialect.decimal_mark or ".", doubtful)
        for name in doubtful:
            column = words[name]
            if pa.types.is_time(table[name].type):
                found = column
            elif (shown := no_number(column, pa.types.is_integer(table[name].type))) is None:
                if pa.types.is_floating(table[name].type) and is_signed(column):
                    whole = table[name].cast(pa.int64(), safe=False)  # Arrow reads no integer with a plus
                    table = table.set_column(table.column_names.index(name), name, whole)
                continue
            else:
                found, dialect = column, replace(dialect, text=(*dialect.text, name))
                lost = "digits" if shown.isdigit() or (shown[1:].isdigit() and shown[0] == "-") else "its form"
                notify(f"Column '{name}' of '{path}' is read as text: as a number, {shown} would lose {lost}.")
            table = table.set_column(table.column_names.index(name), name, found)
    for note in layout.notes:
        notify(note)
    return _finished(path, table, dialect, mark, notify)


def _doubtful(table: pa.Table, source: Text, dialect: Dialect) -> list[str]:
    """Columns whose texts may hold more than was read: zeros or a plus before a number, more digits than a float64, no seconds."""
    found = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in dialect.text or column.null_count == len(column):
            continue
        if pa.types.is_integer(column.type):
            doubt = source.padded
        elif pa.types.is_floating(column.type):
            ends = pc.min_max(column).as_py()
            doubt = max(-ends["min"], ends["max"]) >= _LONG or source.signed
        else:
            doubt = pa.types.is_time(column.type)
        if doubt:
            found.append(name)
    return found


def _finished(path: Path, table: pa.Table, dialect: Dialect, mark: str | None, notify: Callable[[str], None]) -> pa.Table:
    """The table with texts that are numbers read as such, and without what is no column."""
    if not table.num_rows:
        raise no_rows(path)
    table = without_sentinels(_without_index(path, table, notify), dialect)  # before a mark is taken for a mistake among numbers
    table = read_times(table, dialect.text, notify)  # before a mark is taken for a mistake among dates
    return read_times(read_numbers(path, table, dialect, mark, notify), dialect.text, notify)


def _as_text(table: pa.Table, dialect: Dialect) -> pa.Table:
    """The table with the columns that the user says are text as such."""
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if name in dialect.text and not pa.types.is_dictionary(column.type):
            table = table.set_column(place, name, column.cast(pa.string()))
    return table


def _without_index(path: Path, table: pa.Table, notify: Callable[[str], None]) -> pa.Table:
    """The table without the index of a data frame, row names, and columns with neither name nor values."""
    for name in [
        name for name, column in zip(table.column_names, table.columns, strict=True) if not _named(name) and not column.drop_null()
    ]:
        table = table.drop_columns([name])
    first = table.column_names[0] if table.column_names else ""
    if (not _named(first) or first == "Unnamed: 0") and _is_index(table.column(0), texts=not _named(first)):
        notify(f"The first column of '{path}' is an index without a name, so it is left out.")
        table = table.drop_columns([first])
    if unnamed := [place for place, name in enumerate(table.column_names) if not _named(name)]:
        raise DataError(f"Column {unnamed[0]} (counted from 0) of '{path}' has no name.", "Give each column its own name.")
    if not table.column_names:
        raise no_rows(path)
    return table


def _named(name: str) -> bool:
    return bool(name) and not name.startswith("\0")


def _is_index(column: pa.ChunkedArray, *, texts: bool) -> bool:
    kind = column.type
    fits = pa.types.is_integer(kind) or (
        texts and (pa.types.is_string(kind) or (pa.types.is_dictionary(kind) and is_text(kind.value_type)))
    )
    if not fits or column.null_count:
        return False
    different = words(column).texts if pa.types.is_dictionary(kind) else column
    return pc.count_distinct(different).as_py() == len(column)


def _parquet(path: Path) -> pa.Table:
    _check_directory(path)
    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        check_names(path, schema.names)
        if nested := [field.name for field in schema if _is_nested(field.type) and not Extended.of(field)]:
            raise DataError(
                f"'{path}' has columns of lists, records or bytes, which are neither numbers nor categories nor times: {listed(nested)}.",
                "Leave these columns out of the table.",
            )
        if len(schema.names) > (most := min(_MOST, _allowed(path) // _COLUMN)):
            raise DataError(
                f"'{path}' has {len(schema.names)} columns, more than {most}{' for so few rows' * (most < _MOST)}.",
                "Give fewer columns, or a .csv or .npy.",
            )
        if not file.metadata.num_rows:
            raise no_rows(path)
        check_size(path, file.metadata.num_rows * len(schema.names))
        packed = {field.name: {TEXT: str(field.type)} for field in schema if is_text(field.type)}
        own = {field.name: extended for field in schema if (extended := Extended.of(field))}
    index = {f"__index_level_{level}__" for level in range(len(schema.names))}
    kept = [name for name in schema.names if name not in index]
    columns = {}
    slabs = [kept[first : first + _WIDE] for first in range(0, len(kept), _WIDE)]  # a reader of a column takes some KB
    with parquet.ParquetFile(path, read_dictionary=list(packed.keys() - _one_by_one(path, packed))) as file:
        for names in slabs:
            slab = pa.Table.from_batches(_returned(file.iter_batches(_BATCH, columns=names)))
            columns |= dict(zip(slab.column_names, slab.columns, strict=True))
    columns |= {name: pa.chunked_array([kind.plain(columns[name], name)]) for name, kind in own.items() if name in columns}
    fields = [pa.field(name, column.type, metadata=packed.get(name)) for name, column in columns.items()]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _allowed(path: Path) -> int:
    """Bytes of memory that a file may take besides its values."""
    return SHARE * path.stat().st_size + _SLACK


def _check_directory(path: Path) -> None:
    """Refuse a file whose directory, which is read whole, has too many entries: one for each column in each group of rows."""
    with path.open("rb") as file:
        file.seek(-min(8, path.stat().st_size), os.SEEK_END)
        size = int.from_bytes(file.read(4), "little")
    if _ENTRY * size > _allowed(path) and size < path.stat().st_size:
        raise DataError(
            f"'{path}' has a directory of {size} bytes: too many columns, or too many groups of rows.",
            "Give fewer columns, larger groups of rows, or a .csv or .npy.",
        )


def _one_by_one(path: Path, texts: Container[str]) -> set[str]:
    """The columns of texts that may be read with a text for each row.

    A reader that keeps a dictionary takes up to 340 bytes for each different text. One that does not makes a text for each row, however
    long that of the dictionary is, and however well the pages are compressed. So dictionaries must have short texts alone, and texts
    outside of them must take, with 16 MiB to spare, at most three times the length of the file or 24 bytes a row.
    """
    found, allowed = set(), _allowed(path)
    with parquet.ParquetFile(path) as file, path.open("rb") as content:
        directory, names = file.metadata, file.schema_arrow.names
        most = max(3 * path.stat().st_size, _TEXT * directory.num_rows) + _ROOM
        for place, name in enumerate(names):
            if name not in texts:
                continue
            pages = text_pages(content, directory, place, most)
            if pages.largest > allowed:
                raise DataError(
                    f"Column '{name}' of '{path}' has a page of {pages.largest} bytes, more than {allowed} for so small a file.",
                    "Write the file with smaller pages, or without compression.",
                )
            if pages.understood and pages.plain <= most and pages.longest <= _SHORT:
                found.add(name)
    return found


def _returned(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches, with dictionaries of their own texts; what decoding them took and left is returned to the system in between."""
    left, before = 0, {}
    for batch in batches:
        yield pa.record_batch([_kept(column, place, before) for place, column in enumerate(batch.columns)], names=batch.schema.names)
        left += batch.nbytes
        if left > _LEFT:
            pa.default_memory_pool().release_unused()
            left = 0


def _kept(column: pa.Array, place: int, before: dict[int, pa.Array]) -> pa.Array:
    """A column of a batch. The reader gives each batch a dictionary of all texts so far: here it has its own, or the one before."""
    if is_text(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    elif not pa.types.is_dictionary(column.type) or not is_text(column.type.value_type):
        return column
    found = own_words(column) if len(column.dictionary) > len(column) else column
    if place in before and found.dictionary.equals(before[place]):
        return pa.DictionaryArray.from_arrays(found.indices, before[place], ordered=found.type.ordered)
    before[place] = found.dictionary
    return found


def _is_nested(kind: pa.DataType) -> bool:
    return pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
