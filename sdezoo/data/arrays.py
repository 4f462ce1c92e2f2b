"""NumPy's files, read without trusting them: no pickles, and no more memory than a file is honest about.

The size of a `.npy` is that of its file: header and file agree to the byte before anything is allocated. A `.npz` cannot be held
against its own length, for honest data compress: MNIST takes 11 MB for 55, and a million equal labels one kilobyte. It is asked for
three things in place of a fixed ratio:

- the header of a member and the archive's directory declare the same size, to the byte;
- that size is at most 1032 times the member's compressed bytes, the most that deflate reaches. Other compressions have no such bound,
  and NumPy writes none: they are refused;
- memory is taken as bytes come out (`read_bytes`), so that a member that declares 1032 times what it holds costs what it holds.

What is left is a member that does hold so many values. It takes the memory that they need, and `check_size` refuses, on what the header
says, more than memory has.

`MappedRows` leaves the rows of a `.npy` on the disk.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from tokenize import TokenError
from typing import IO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.dataset import StoredRows
from sdezoo.data.reading import DEFLATE, check_size, read_bytes, reading
from sdezoo.errors import DataError

_DIRECTORY = 2**18  # bytes of an archive's directory: thousands of members
_HEAD = 65_536
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FORM = "a NumPy file"
_FAILURES = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, TypeError, SyntaxError, TokenError, OverflowError, LookupError)


class Header(NamedTuple):
    """What a `.npy` says of itself."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int
    """Where the values begin, in bytes."""


def is_npz(path: Path) -> bool:
    """Whether a file is a zip archive, by its first bytes."""
    with reading(path, _FORM), path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def header(path: Path) -> Header:
    """The header of a `.npy`, once it and the file agree.

    Raises:
        DataError: where they do not, or it holds anything but numbers.
    """
    with reading(path, _FORM, *_FAILURES), path.open("rb") as file:
        return _header(file.read(_HEAD), path, path.stat().st_size)


def read_npy(path: Path) -> np.ndarray:
    """The array of a `.npy`, whole.

    Raises:
        DataError: as `header`, and for more than memory has.
    """
    with reading(path, _FORM, *_FAILURES), path.open("rb") as file:
        return _array(file, path, path.stat().st_size)


def read_npz(path: Path, choose: Callable[[tuple[str, ...]], Iterable[str]]) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` that `choose` picks from all names.

    Raises:
        DataError: for a damaged archive, a name that is not there, and for more than memory has.
    """
    with reading(path, _FORM, *_FAILURES), _Archived(path) as file, zipfile.ZipFile(file) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        return {key: _member(archive, members[key], path) for key in choose(tuple(members))}


def read_arrays(path: Path, choose: Callable[[tuple[str, ...]], Iterable[str]]) -> dict[str, np.ndarray]:
    """The arrays of a NumPy file, whatever its name: of a `.npz` those that `choose` picks from all names, of a `.npy` x.

    Raises:
        DataError: as `read_npz` and `read_npy`.
    """
    return read_npz(path, choose) if is_npz(path) else {"x": read_npy(path)}


class MappedRows(StoredRows):
    """Rows of a `.npy` in C order, mapped into memory: read when they are asked for, and let go when memory is short.

    Args:
        path: the file. convert: from rows as they are stored to float32 in the user's units. left_out: sorted numbers of rows in the file
        that are not among these, int64.

    Raises:
        DataError: as `header`, and where the rows do not lie one after the other.
    """

    def __init__(self, path: Path, convert: Callable[[np.ndarray], Tensor], left_out: Tensor) -> None:
        found = header(path)
        if found.fortran:
            raise DataError(
                f"'{path}' is too large for memory, and has columns one after the other (Fortran order), so that no row can be read alone.",
                "Store it again: numpy.save(path, numpy.ascontiguousarray(array)).",
            )
        self._path, self._convert, self._left_out = path, convert, left_out
        self._array = np.memmap(path, found.dtype, "r", found.start, found.shape)
        self._before = left_out - torch.arange(len(left_out))  # how many rows stand before each that is left out
        self._stamp = self._now()

    def __len__(self) -> int:
        return len(self._array) - len(self._left_out)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.at(index + torch.searchsorted(self._before, index, right=True))

    def at(self, rows: Tensor) -> Tensor:
        """The rows of these numbers in the file, left out or not.

        Raises:
            DataError: where the file is not what it was: a mapped file that grew shorter would end the process.
        """
        with reading(self._path, _FORM):
            if self._now() != self._stamp:
                raise DataError(f"'{self._path}' has changed while it was read.", "Leave the data as they are, and start again.")
            return self._convert(self._array[rows.numpy()])

    def _now(self) -> tuple[int, int, int]:
        found = os.stat(self._path)
        return found.st_ino, found.st_size, found.st_mtime_ns


class _Archived(io.FileIO):
    """A file for zipfile, which reads a directory in one piece and makes an object of each entry, twenty times its size."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _DIRECTORY:
            raise DataError(f"'{self.name}' promises a directory of {size} bytes.", "Give an archive that numpy.savez wrote.")
        return super().read(-1 if size is None else size) or b""


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    info = archive.getinfo(name)
    if info.compress_type not in _COMPRESSIONS:
        raise DataError(f"'{path}' is compressed in a manner that NumPy does not write.", "Store it with numpy.savez_compressed.")
    if info.file_size > DEFLATE * info.compress_size:
        raise DataError(f"'{path}' promises more data than it can hold.", "Give a file that is not damaged.")
    with archive.open(info) as file:
        return _array(file, path, info.file_size)


def _array(file: IO[bytes], path: Path, size: int) -> np.ndarray:
    """The .npy file of `size` bytes whose first byte is next."""
    head = file.read(_HEAD)
    shape, fortran, dtype, start = _header(head, path, size)
    check_size(path, math.prod(shape))
    values = read_bytes(file, size - start, head[start:])
    return np.frombuffer(values, dtype).reshape(shape, order="F" if fortran else "C")


def _header(head: bytes, path: Path, size: int) -> Header:
    """From the first bytes of a .npy file of `size` bytes."""
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if reader is None:
        raise DataError(f"'{path}' is of an unknown .npy version, {version}.", "Store a plain array of numbers.")
    shape, fortran, dtype = reader(stream)
    if dtype.kind not in "fiu":
        raise DataError(f"'{path}' holds {dtype}, not numbers.", "Store uint8, integers or floats; pickled objects are never read.")
    start = stream.tell()
    if min(shape, default=0) < 0 or start + math.prod(shape) * dtype.itemsize != size:
        raise DataError(
            f"'{path}' promises an array {shape} of {dtype}, but has {size - start} bytes for it.",
            "Give a file that is not damaged or cut off.",
        )
    return Header(shape, fortran, dtype, start)
