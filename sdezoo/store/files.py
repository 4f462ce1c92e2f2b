"""Atomic writes of files and folders: write to a temporary name, flush to disk, rename.

A killed process may leave temporary files. Their names start with a dot and end with `.partial` or `.removed`.
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
    """A writable binary stream."""

    def write(self, data: bytes, /) -> object:
        """Write `data`."""
        ...


@contextmanager
def writing(path: Path, remedy: str) -> Iterator[None]:
    """Turn an `OSError` raised in the block into a `RunError`.

    Args:
        path: what is being written, for the message.
        remedy: what the user can do about it.

    Raises:
        RunError: if the block raises `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"'{path}' cannot be written ({error.strerror or error}).", remedy) from error


@contextmanager
def atomic_write(path: Path, remedy: str) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends without an error; missing parent folders are created.

    Args:
        path: the file to write.
        remedy: what the user can do if it cannot be written.

    Raises:
        RunError: if the file cannot be written; an existing file is left unchanged.
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
    """Create a temporary folder that replaces `folder` when the block ends without an error; put only files in it, no folders.

    Args:
        folder: the folder to write.
        remedy: what the user can do if it cannot be written.

    Raises:
        RunError: if the folder cannot be written; an existing folder is left unchanged.
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
    """Remove a folder if it exists. It is renamed first, so that it disappears atomically; then its files are deleted.

    Args:
        folder: the folder.
    """
    gone = folder.with_name(f".{folder.name}.removed")
    if folder.exists():
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove temporary files that killed processes left behind.

    Args:
        folder: a folder that no other process is writing to.
    """
    for left in [*folder.glob(".*.partial"), *folder.glob(".*.removed")]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _to_disk(folder: Path) -> None:
    """Flush the directory entries of `folder` to disk; does nothing on systems without support for it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def put_array(file: Sink, shape: Sequence[int], parts: Iterable[Tensor]) -> None:
    """Write an array in the `.npy` format, chunk by chunk.

    Args:
        file: the output.
        shape: total shape `(n, *event)`.
        parts: consecutive chunks of rows `(n_i, *event)`, float32 on the CPU.
    """
    np.lib.format.write_array_header_1_0(file, {"descr": _FLOAT, "fortran_order": False, "shape": tuple(shape)})  # pyright: ignore[reportArgumentType]
    for part in parts:
        file.write(part.contiguous().numpy().data)  # pyright: ignore[reportArgumentType]


def writable_folder(folder: Path) -> None:
    """Check that a folder can be created and written to, without creating it.

    Args:
        folder: the folder.

    Raises:
        RunError: if it cannot.
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
