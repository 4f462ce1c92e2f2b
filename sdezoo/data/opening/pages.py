"""What the pages of a column of texts in a Parquet file hold, before any is decoded.

The directory of a file may say anything, and a reader goes by the headers of pages. A header is a structure of Thrift's compact protocol:
fields of a number and a type each, integers with 7 bits to a byte (Parquet format, `parquet.thrift`, `PageHeader`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import parquet

from sdezoo.errors import DataError

_USUAL, _LONGEST = 2**12, 2**24  # bytes of a header
_MOST = 2**16  # pages of a column
_DEEP = 8
_PLAIN, _CODED = 0, (2, 8)  # encodings: values one after the other, places in a dictionary
_DATA, _DICTIONARY, _DATA_2 = 0, 2, 3  # types of pages
_TYPE, _SIZE, _STORED = 1, 2, 3  # fields of a header
_ENCODING = {_DATA: (5, 2), _DATA_2: (8, 4)}  # the structure of a data page, and its field
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = (*range(1, 11), 12)
_DAMAGED = (KeyError, IndexError, TypeError, ValueError, struct.error)


@dataclass
class TextPages:
    """The pages of a column of texts.

    Args:
        plain: bytes of texts one after the other, decompressed.
        longest: bytes of the longest text in a dictionary.
        largest: bytes of the largest page, decompressed.
        understood: whether nothing is encoded in another way.
    """

    plain: int = 0
    longest: int = 0
    largest: int = 0
    understood: bool = True


def text_pages(file: BinaryIO, directory: parquet.FileMetaData, place: int, most: int) -> TextPages:
    """Look at the pages of a column.

    Args:
        file: the file.
        directory: its directory.
        place: place of the column.
        most: bytes of the largest dictionary that is decompressed; the texts of a larger one count as long as it is.

    Raises:
        DataError: if there are too many, or their headers are damaged.
    """
    found, seen = TextPages(), 0
    try:
        for group in range(directory.num_row_groups):
            chunk = directory.row_group(group).column(place)
            for header, at in _headers(file, chunk):
                seen += 1
                if seen > _MOST:
                    raise DataError(f"Column {place} (counted from 0) has more than {_MOST} pages.", "Write it with larger pages.")
                kind, size = header[_TYPE], header[_SIZE]
                found.largest = max(found.largest, size)
                if kind == _DICTIONARY:
                    found.longest = max(
                        found.longest, _longest(file, at, header[_STORED], size, chunk.compression) if size <= most else size
                    )
                elif kind in _ENCODING:
                    inside, field = _ENCODING[kind]
                    encoding = header[inside][field]
                    found.plain += size if encoding == _PLAIN else 0
                    found.understood &= encoding == _PLAIN or encoding in _CODED
    except _DAMAGED as error:
        raise DataError(f"The pages of column {place} (counted from 0) are damaged.", "Save the file again.") from error
    return found


def _headers(file: BinaryIO, chunk: parquet.ColumnChunkMetaData) -> Iterator[tuple[dict[int, Any], int]]:
    """The headers of the pages of a column in a group of rows, one after the other, and where their contents begin."""
    first = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset and chunk.dictionary_page_offset < first:
        first = chunk.dictionary_page_offset
    last = first + chunk.total_compressed_size
    while first < last:
        content = _Compact(_at(file, first, _USUAL))
        try:
            header = content.structure()
        except (IndexError, struct.error):
            content = _Compact(_at(file, first, _LONGEST))
            header = content.structure()
        first += content.place
        yield header, first
        if min(header[_STORED], header[_SIZE]) < 0:
            raise ValueError("no size")
        first += header[_STORED]


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


def _longest(file: BinaryIO, at: int, stored: int, size: int, codec: str) -> int:
    """Bytes of the longest text of a dictionary: each after its length, 4 bytes. The whole size if it cannot be decompressed here."""
    content = _at(file, at, stored)
    if codec != "UNCOMPRESSED":
        try:
            content = pa.decompress(content, decompressed_size=size, codec=codec.lower(), asbytes=True)
        except (pa.ArrowException, ValueError, OSError):
            return size
    longest = place = 0
    length = struct.Struct("<I").unpack_from
    while place < len(content):
        (found,) = length(content, place)
        longest, place = max(longest, found), place + 4 + found
    return longest


class _Compact:
    """Values of Thrift's compact protocol, read from bytes."""

    def __init__(self, content: bytes) -> None:
        self._content, self.place = content, 0

    def structure(self, depth: int = 0) -> dict[int, Any]:
        """The fields of a structure by their numbers."""
        if depth > _DEEP:
            raise ValueError("too deep")
        fields, number = {}, 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind in (_I16, _I32, _I64):
            return self._integer()
        if kind == _DOUBLE:
            return self._passed(8)
        if kind == _BINARY:
            return self._passed(self._natural())
        if kind in (_LIST, _SET):
            head = self._byte()
            for _ in range(head >> 4 if head >> 4 < 15 else self._natural()):
                self._value(head & 15, depth + 1)
            return None
        if kind == _STRUCT:
            return self.structure(depth + 1)
        raise ValueError("not the type of any field")

    def _byte(self) -> int:
        self.place += 1
        return self._content[self.place - 1]

    def _passed(self, count: int) -> None:
        self.place += count
        if self.place > len(self._content):
            raise IndexError("beyond the end")

    def _natural(self) -> int:
        number = shift = 0
        while shift <= 63:
            byte = self._byte()
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number
        raise ValueError("too large")

    def _integer(self) -> int:
        number = self._natural()
        return (number >> 1) ^ -(number & 1)
