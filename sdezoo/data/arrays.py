"""Safe readers for untrusted NumPy files: no pickle, and no allocation larger than the file's real contents.

A `.npy` is not compressed, so its header must match the file size to the byte. This is checked before anything is allocated.

A `.npz` may be compressed, so its file size bounds nothing: MNIST stores 55 MB in 11 MB, and a million equal labels take one kilobyte.
Three checks replace a fixed ratio:

- The member's header and the archive's directory declare the same size, to the byte.
- That size is at most 1032 times the member's compressed size, the highest ratio that deflate reaches. Other compression methods have no
  such bound. NumPy never writes them, and they are rejected.
- Memory is allocated as bytes are decompressed (`read_bytes`). A member that declares 1032 times its contents costs only its contents.

A member that really holds that many values needs that much memory. `check_size` rejects it, by its header, if memory is too small.

`MappedRows` leaves the rows of a `.npy` on disk.
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

_DIRECTORY = 2**18  # largest archive directory in bytes, enough for thousands of members
_HEAD = 65_536
_NUMBERS = "biuf"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FORM = "a NumPy file"
_FAILURES = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, TypeError, SyntaxError, TokenError, OverflowError, LookupError)


class Header(NamedTuple):
    """The header of a `.npy` file."""

    shape: tuple[int, ...]
    """Shape of the array."""
    fortran: bool
    """Whether the array is stored in Fortran (column-major) order."""
    dtype: np.dtype
    """Type of the values: float, signed or unsigned integer."""
    start: int
    """Offset of the first value, in bytes."""


def is_npz(path: Path) -> bool:
    """Whether a file is a zip archive, judged by its first bytes.

    Args:
        path: the file.

    Raises:
        DataError: if the file cannot be read.
    """
    with reading(path, _FORM), path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def header(path: Path) -> Header:
    """Read the header of a `.npy` and check it against the file size.

    Args:
        path: the file.

    Raises:
        DataError: if header and file size disagree, or the dtype is not numeric.
    """
    with reading(path, _FORM, *_FAILURES), path.open("rb") as file:
        return _header(file.read(_HEAD), path, path.stat().st_size)


def read_npy(path: Path) -> np.ndarray:
    """Read a `.npy` into memory.

    Args:
        path: the file.

    Raises:
        DataError: as for `header`, or if the array does not fit in memory.
    """
    with reading(path, _FORM, *_FAILURES), path.open("rb") as file:
        return _array(file, path, path.stat().st_size)


def read_npz(path: Path, choose: Callable[[tuple[str, ...]], Iterable[str]]) -> dict[str, np.ndarray]:
    """Read the chosen arrays of a `.npz` into memory.

    Args:
        path: the file.
        choose: maps the names of all arrays to the names to read.

    Returns:
        The chosen arrays by name.

    Raises:
        DataError: if the archive is damaged, a name does not exist, or an array does not fit in memory.
    """
    with reading(path, _FORM, *_FAILURES), _Archived(path) as file, zipfile.ZipFile(file) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        return {key: _member(archive, members[key], path) for key in choose(tuple(members))}


def read_arrays(path: Path, choose: Callable[[tuple[str, ...]], Iterable[str]]) -> dict[str, np.ndarray]:
    """Read the arrays of a `.npz` or `.npy` file, told apart by content and not by file name.

    Args:
        path: the file.
        choose: maps the names of all arrays in a `.npz` to the names to read; not called for a `.npy`.

    Returns:
        The chosen arrays by name. The array of a `.npy` is called `x`.

    Raises:
        DataError: as for `read_npz` and `read_npy`.
    """
    return read_npz(path, choose) if is_npz(path) else {"x": read_npy(path)}


class MappedRows(StoredRows):
    """Memory-mapped rows of a `.npy` in C order: read on access, evicted by the system when memory is short.

    Args:
        path: the file.
        convert: maps rows as stored to float32 in the user's units.
        left_out: sorted indices `(k,)`, int64, of rows of the file to skip.

    Raises:
        DataError: as for `header`, or if the array is in Fortran order.
    """

    def __init__(self, path: Path, convert: Callable[[np.ndarray], Tensor], left_out: Tensor) -> None:
        found = header(path)
        if found.fortran:
            raise DataError(
                f"'{path}' is too large for memory, and its rows cannot be read one at a time because it is in Fortran order.",
                "Save it in C order: numpy.save(path, numpy.ascontiguousarray(array)).",
            )
        self._path, self._convert, self._left_out = path, convert, left_out
        self._array = np.memmap(path, found.dtype, "r", found.start, found.shape)
        self._before = left_out - torch.arange(len(left_out))  # for each skipped row: how many kept rows precede it
        self._stamp = self._now()

    def __len__(self) -> int:
        return len(self._array) - len(self._left_out)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.at(index + torch.searchsorted(self._before, index, right=True))

    def at(self, rows: Tensor) -> Tensor:
        """Read rows by their index in the file, skipped rows included.

        Args:
            rows: indices `(n,)`, int64 on the CPU.

        Returns:
            Rows `(n, *event)`, float32, in the user's units.

        Raises:
            DataError: if the file has changed. Reading past the end of a truncated mapping would kill the process.
        """
        with reading(self._path, _FORM):
            if self._now() != self._stamp:
                raise DataError(f"'{self._path}' changed while it was being read.", "Start again, and do not modify the file meanwhile.")
            return self._convert(self._array[rows.numpy()])

    def _now(self) -> tuple[int, int, int]:
        found = os.stat(self._path)
        return found.st_ino, found.st_size, found.st_mtime_ns


class _Archived(io.FileIO):
    """A file for zipfile that limits the archive's directory: zipfile reads it at once, and its objects take twenty times its size."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _DIRECTORY:
            raise DataError(
                f"'{self.name}' declares a zip directory of {size} bytes, which is too large.", "Give an archive that numpy.savez wrote."
            )
        return super().read(-1 if size is None else size) or b""


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    info = archive.getinfo(name)
    if info.compress_type not in _COMPRESSIONS:
        raise DataError(f"'{path}' uses a compression method that NumPy never writes.", "Save it with numpy.savez_compressed.")
    if info.file_size > DEFLATE * info.compress_size:
        raise DataError(f"'{path}' declares more data than it can hold.", "Give an undamaged file.")
    with archive.open(info) as file:
        return _array(file, path, info.file_size, _NUMBERS + "U")


def _array(file: IO[bytes], path: Path, size: int, kinds: str = _NUMBERS) -> np.ndarray:
    """Read a .npy file of `size` bytes from the current position of `file`, with values of one of the `kinds` of NumPy."""
    head = file.read(_HEAD)
    shape, fortran, dtype, start = _header(head, path, size, kinds)
    check_size(path, math.prod(shape) * max(1, dtype.itemsize // 8))
    values = read_bytes(file, size - start, head[start:])
    return np.frombuffer(values, dtype).reshape(shape, order="F" if fortran else "C")


def _header(head: bytes, path: Path, size: int, kinds: str = _NUMBERS) -> Header:
    """Parse `head`, the first bytes of a .npy file of `size` bytes."""
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if reader is None:
        raise DataError(f"'{path}' has the unknown .npy version {version}.", "Save a plain array of numbers.")
    shape, fortran, dtype = reader(stream)
    if dtype.kind not in kinds or not dtype.itemsize:
        raise DataError(f"'{path}' holds {dtype}, not numbers.", "Save uint8, integers or floats; pickled objects are never read.")
    start = stream.tell()
    if min(shape, default=0) < 0 or start + math.prod(shape) * dtype.itemsize != size:
        raise DataError(
            f"'{path}' declares an array {shape} of {dtype}, but has {size - start} bytes for it.",
            "Give a file that is neither damaged nor truncated.",
        )
    return Header(shape, fortran, dtype, start)
