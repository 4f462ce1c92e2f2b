"""Read the rows of a table in text, in UTF-8 or any other encoding, gzipped or not, by pyarrow.

pyarrow takes about 11 KB a column while it reads. Text with more than 1024 columns is therefore read in slabs of 1024 columns, each a pass
over the file, and about 1.3 KB a column remain. A compressed text is counted as it is decompressed.

pyarrow reads without threads: with them, rows have no numbers for messages, and reading from a Python stream deadlocks at times.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

import codecs
import gzip
import io
import re
from collections.abc import Container, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from pyarrow import csv as arrow_csv

from sdezoo.data.opening.dialect import LINE, Dialect, Layout, aligned, byte_order, instead, look, not_text
from sdezoo.data.reading import check_size, reading
from sdezoo.errors import DataError

_WIDE = 1024
_CHUNK = 2**18
_HEAD = 2**16
_CHECKED = 2**22  # bytes between two checks of what is decompressed
_COMMENTS = "#%!;/*"
_NO_TIME = "\x01"  # no text has this form
_ROW = re.compile(r"row (\d+) \(counted from 0\)")
_OUTSIDE, _SPACES = re.compile(rb"(?m)^ +| +(?=\r?$)"), re.compile(rb" {2,}")
GZIP = b"\x1f\x8b"
"""The first bytes of a gzipped file."""


class Text:
    """The bytes of a text file as UTF-8, from the line of column names on.

    Args:
        path: the file, for messages.
        file: the file, open; it is read from its beginning. Texts of one file are read one after the other.
        dialect: what the user says.
    """

    def __init__(self, path: Path, file: BinaryIO, dialect: Dialect) -> None:
        self._path, self._file, self._quotes, self.padded, self.signed = path, file, 0, False, False
        chunks = self._decompressed()
        begun = next(chunks, b"")
        encoding = dialect.encoding or byte_order(begun)
        self._chunks = chain([begun], chunks)
        self._chunks = self._checked(self._chunks) if encoding is None else self._recoded(self._chunks, encoding)
        self._head = b""
        self._extend(_HEAD)
        ending = Path(path.name.lower().removesuffix(".gz")).suffix
        if aligned(self._decoded_head(), dialect):
            self._head, self._chunks = b"", _squeezed(chain([self._head], self._chunks))
            self._extend(_HEAD)
        while True:
            text = self._decoded_head()
            self.layout: Layout = look(path, text, dialect, ending)
            if len(self._head) > LINE or self.layout.first < len(text) or not self._extend(4 * len(self._head)):
                break
        self._first = len(text[: self.layout.first].encode())
        begun_by = b'[\\s"' + re.escape(self.layout.separator.encode()) + b"]"
        self._padding, self._sign = re.compile(begun_by + b"0[0-9xX]"), re.compile(begun_by + rb"\+[0-9]")

    def rows(self) -> io.BufferedReader:
        """The rows of data, a stream of UTF-8 for pyarrow. Call it once."""
        chunks = self._counted(chain([self._head[self._first :]], self._chunks))
        return io.BufferedReader(
            _Stream(chunks if self.layout.comment is None else _uncommented(chunks, self.layout.comment.encode())), _CHUNK
        )

    def line(self, row: int) -> int | None:
        """The line of the file that a row of data begins on, counted from 1; None if there is no such row. Call it in place of `rows`.

        Args:
            row: index of the row, counted from 0, without comments and empty lines.
        """
        mark = None if self.layout.comment is None else self.layout.comment.encode()
        inside, number = False, self._head[: self._first].count(b"\n")
        for text in io.BufferedReader(_Stream(chain([self._head[self._first :]], self._chunks))):
            number += 1
            if not inside and text.strip(b"\r\n") and not (mark and text.startswith(mark)):
                if row == 0:
                    return number
                row -= 1
            inside ^= text.count(b'"') % 2 == 1
        return None

    padded: bool
    """Whether a field that has been read begins with a zero and a digit, such as 007, or is hexadecimal, such as 0x1f."""
    signed: bool
    """Whether a field that has been read begins with a plus, such as +49 30 1234567."""

    @property
    def unclosed(self) -> bool:
        """Whether the rows that have been read have an odd number of quotation marks."""
        return self._quotes % 2 == 1

    def _decompressed(self) -> Iterator[bytes]:
        self._file.seek(0)
        packed = self._file.read(2) == GZIP
        self._file.seek(0)
        source, total = gzip.GzipFile(fileobj=self._file) if packed else self._file, 0
        while chunk := source.read(_CHUNK):
            total += len(chunk)
            if packed and total % _CHECKED < len(chunk):
                check_size(self._path, total // 4)
            yield chunk

    def _recoded(self, chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for chunk in chunks:
                yield decoder.decode(chunk).encode()
            yield decoder.decode(b"", final=True).encode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"'{self._path}' is not {encoding} text ({error.reason}).", "Give encoding= the one that it was written in."
            ) from None

    def _checked(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks, if they are UTF-8: pyarrow decodes a row of the wrong length where no error can be raised."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        before = b""
        for chunk in chain(chunks, [b""]):
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                whole = before + chunk
                raise not_text(self._path, whole, len(whole) - len(error.object) + error.start) from None
            before = chunk
            yield chunk

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        before = b"\n"
        for chunk in chunks:
            self._quotes += chunk.count(b'"')
            self.padded = self.padded or self._padding.search(before + chunk) is not None
            self.signed = self.signed or self._sign.search(before + chunk) is not None
            before = chunk[-2:]
            yield chunk

    def _extend(self, size: int) -> bool:
        """Read on until the head has `size` bytes; whether it grew."""
        parts, length = [self._head], len(self._head)
        while length < size and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
            length += len(chunk)
        grew, self._head = length > len(self._head), b"".join(parts)
        return grew

    def _decoded_head(self) -> str:
        text = codecs.getincrementaldecoder("utf-8")().decode(self._head)
        if "\0" in text:
            raise not_text(self._path, self._head)
        return text


class _Stream(io.RawIOBase):
    """A stream of chunks of bytes.

    Args:
        chunks: the chunks.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def _uncommented(chunks: Iterator[bytes], mark: bytes) -> Iterator[bytes]:
    """The lines that do not start with `mark`, unless a quoted field goes across them."""
    left, inside = b"", False
    for chunk in chain(chunks, [b""]):
        *lines, left = (left + chunk).splitlines(keepends=True) or [b""]
        if not chunk:
            lines, left = [*lines, left], b""
        kept = []
        for line in lines:
            if inside or not line.startswith(mark):
                kept.append(line)
                inside ^= line.count(b'"') % 2 == 1
        yield b"".join(kept)


def _squeezed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The lines with one space for several, and none at their ends."""
    left = b""
    for chunk in chain(chunks, [b""]):
        block = left + chunk
        end = block.rfind(b"\n") + 1 if chunk else len(block)
        left = block[end:]
        yield _SPACES.sub(b" ", _OUTSIDE.sub(b"", block[:end]))


def read_rows(path: Path, file: BinaryIO, source: Text, dialect: Dialect, decimal: str, columns: Container[str] | None = None) -> pa.Table:
    """Read the rows of a text. Columns without a name are called by NUL and their number.

    Args:
        path: the file, for messages.
        file: the file, open.
        source: the text; the file is read again for each further pass.
        dialect: what the user says.
        decimal: decimal mark.
        columns: names of the columns to read, in the order of the text; None: all.

    Raises:
        DataError: if there are no rows, a row has fields too many or too few, or the text is not UTF-8 or has an open quotation mark.
    """
    names = [name or f"\0{i}" for i, name in enumerate(source.layout.names)]
    kept = names if columns is None else [name for name in names if name in columns]
    slabs = [kept] if len(names) <= _WIDE else [kept[i : i + _WIDE] for i in range(0, len(kept), _WIDE)]
    parts = []
    for number, slab in enumerate(slabs):
        parts.append(_slab(path, source if number == 0 else Text(path, file, dialect), names, slab, dialect, decimal))
    return pa.table([column for part in parts for column in part.columns], names=kept)


def _slab(path: Path, source: Text, names: list[str], slab: list[str], dialect: Dialect, decimal: str) -> pa.Table:
    wrong: list[arrow_csv.InvalidRow] = []

    def refuse(row: arrow_csv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    values = arrow_csv.ConvertOptions()
    try:
        table = arrow_csv.read_csv(
            source.rows(),
            arrow_csv.ReadOptions(column_names=names, block_size=max(2**20, 32 * len(names)), use_threads=False),
            arrow_csv.ParseOptions(delimiter=source.layout.separator, newlines_in_values=True, invalid_row_handler=refuse),
            arrow_csv.ConvertOptions(
                include_columns=slab,
                column_types={name: pa.string() for name in dialect.text if name in slab},
                null_values=[*values.null_values, *dialect.marks(names)[0]],
                strings_can_be_null=True,
                decimal_point=decimal,
                timestamp_parsers=[_NO_TIME],  # texts, so that their form is kept, see `sdezoo.data.opening.time_texts`
            ),
        )
    except pa.ArrowInvalid as error:
        if wrong:
            fields, mark = wrong[0].actual_columns, source.layout.separator
            title, begun = len(names) == 1 < fields and wrong[0].number == 1, (names[0] if len(names) == 1 else wrong[0].text).lstrip()[:1]
            raise DataError(
                f"'{path}' has {len(names)} column name{'s' * (len(names) > 1)}, but row {(wrong[0].number or 1) - 1} (counted from 0) has "
                f"{fields} field{'s' * (fields != 1)}: {wrong[0].text[:80]}.",
                f"Remove the line, or g{instead(path, f'comment={begun}')[1:]}"
                if begun and begun in _COMMENTS and begun != mark
                else "Remove the lines before the column names."
                if title
                else f"Give each row one field for each column{'' if mark == ',' else ', or say what separates them, as separator=comma'}.",
            ) from None
        if "Empty CSV" in str(error):
            raise no_rows(path) from None
        raise
    for name, column in zip(table.column_names, table.columns, strict=True):
        if source.unclosed and pa.types.is_string(column.type) and "\n" in (column[-1].as_py() or ""):
            raise DataError(f"'{path}' has a quotation mark in column '{name}' that is not closed.", "Close it, or remove it.")
    return table


def line_in_words(path: Path, dialect: Dialect, row: int) -> str:
    """Name a row of a table in text by its line in the file.

    Args:
        path: the file.
        dialect: how the file is written, as far as the user says.
        row: index of the row of data, from 0.

    Raises:
        DataError: if the file can no longer be read.
    """
    with reading(path, "a table"), path.open("rb") as file:
        line = Text(path, file, dialect).line(row)
    return f"line {line} of '{path}'" if line else f"row {row} (counted from 0)"


@contextmanager
def rows_as_lines(path: Path, file: BinaryIO, dialect: Dialect) -> Iterator[None]:
    """Let an error that names a row of a text name the line of the file.

    Args:
        path: the file.
        file: the file, open.
        dialect: how the file is written, as far as the user says.
    """
    try:
        yield
    except DataError as error:
        if (row := _ROW.search(error.problem)) and (line := Text(path, file, dialect).line(int(row[1]))):
            error.problem = error.problem.replace(row[0], f"line {line}", 1)
            error.args = (f"{error.problem} {error.remedy}",)
        raise


def no_rows(path: Path) -> DataError:
    """The error for a table without rows, to be raised by the caller."""
    return DataError(f"'{path}' has no rows of data.", "Give a table with at least two rows.")
