"""Files and folders that are whole or not there: written beside their place, put on the disk, and renamed.

What a process leaves behind that is killed has a name that starts with a dot and ends with `.partial` or `.removed`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from torch import Tensor

from sdezoo.errors import RunError

_FLOAT = np.lib.format.dtype_to_descr(np.dtype(np.float32))


class Sink(Protocol):
    """What bytes can be written to."""

    def write(self, data: bytes, /) -> object:
        """Take `data`."""
        ...


@contextmanager
def writing(path: Path, remedy: str) -> Iterator[None]:
    """What the system refuses inside it is said in words.

    Raises:
        RunError: with `remedy`, that `path` cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"'{path}' cannot be written ({error.strerror or error}).", remedy) from error


@contextmanager
def atomic_write(path: Path, remedy: str) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once the block has ended without an error; missing folders are made.

    Raises:
        RunError: with `remedy`, where the system does not let it be written; what was there is left as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        _to_disk(path.parent)


@contextmanager
def atomic_folder(folder: Path, remedy: str) -> Iterator[Path]:
    """An empty folder, for files, that takes the place of `folder` once the block has ended without an error.

    Raises:
        RunError: with `remedy`, where the system does not let it be written; what was there is left as it was.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    with writing(folder, remedy):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            yield partial
            for file in partial.iterdir():
                with file.open("r+b") as written:
                    os.fsync(written.fileno())
            _to_disk(partial)
            remove(folder)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _to_disk(folder.parent)


def remove(folder: Path) -> None:
    """Remove a folder, if it is there: it goes as a whole, then its files."""
    gone = folder.with_name(f".{folder.name}.removed")
    if folder.exists():
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in `folder`; nobody may be writing there."""
    for left in [*folder.glob(".*.partial"), *folder.glob(".*.removed")]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _to_disk(folder: Path) -> None:
    """The names in `folder`, as fsync does for what is in a file; where a system has no such thing, nothing."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def put_array(file: Sink, shape: Sequence[int], parts: Iterable[Tensor]) -> None:
    """Write an array of `shape` in NumPy's format: the rows of `parts`, float32 on the CPU, one after the other."""
    np.lib.format.write_array_header_1_0(file, {"descr": _FLOAT, "fortran_order": False, "shape": tuple(shape)})  # pyright: ignore[reportArgumentType]
    for part in parts:
        file.write(part.contiguous().numpy().data)  # pyright: ignore[reportArgumentType]


def writable_folder(folder: Path) -> None:
    """Check that `folder` can be made and written to; makes nothing.

    Raises:
        RunError: where it cannot.
    """
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        raise RunError(f"'{folder}' cannot be a folder ({getattr(error, 'strerror', None) or error}).", "Give another --out.") from None
    existing = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    if not existing.is_dir():
        raise RunError(f"'{existing}' is a file, not a folder.", "Give another --out.")
    if not os.access(existing, os.W_OK):
        raise RunError(f"The folder '{existing}' cannot be written to.", "Give another --out, or change its permissions.")
