"""Atomic writes of files and folders: write to a temporary name, flush to disk, rename.

A killed process may leave temporary files. Their names start with a dot and end with `.partial` or `.removed`.

Links are not followed. A folder may come from somebody else, and a link in it may lead to any file of the user's.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import psutil
from torch import Tensor

from sdezoo.errors import RunError

_REMAINS = re.compile(
    r"\.(?:.+\.(?P<process>\d+)\.partial|(?:step-\d+|checkpoints|samples|tensorboard|rounds|coupling)\.(?:partial|removed))"
)
"""Names of temporary files and folders of a run."""

_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems answer that cannot flush a folder."""

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
        discard(partial)
        try:
            with partial.open("xb") as file:  # "x" follows no link
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        _to_disk(path.parent)


@contextmanager
def atomic_folder(folder: Path, remedy: str) -> Iterator[Path]:
    """Create a temporary folder that replaces `folder` when the block ends without an error. It may have folders of files.

    Args:
        folder: the folder to write.
        remedy: what the user can do if it cannot be written.

    Raises:
        RunError: if the folder cannot be written; an existing folder is left unchanged.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    with writing(folder, remedy):
        discard(partial)
        try:
            partial.mkdir(parents=True)
            yield partial
            folders = [partial, *(entry for entry in partial.iterdir() if entry.is_dir())]
            for file in (entry for inside in folders for entry in inside.iterdir() if not entry.is_dir()):
                with file.open("r+b") as written:
                    os.fsync(written.fileno())
            for inside in reversed(folders):
                _to_disk(inside)
            remove(folder)
            partial.rename(folder)
        finally:
            discard(partial)
        _to_disk(folder.parent)


def remove(folder: Path) -> None:
    """Remove a folder if it exists. It is renamed first, so that it disappears atomically; then its files are deleted.

    Args:
        folder: the folder. If it is a link, the link is removed, and what it points to is left unchanged.
    """
    gone = folder.with_name(f".{folder.name}.removed")
    if os.path.lexists(folder):
        discard(gone)
        folder.rename(gone)
        discard(gone)


def discard(path: Path) -> None:
    """Delete a file, a link, or a folder with its contents, as far as the system permits. Links are deleted, never followed.

    Args:
        path: what to delete; it may be missing.
    """
    if path.is_dir() and not is_link(path):
        shutil.rmtree(path, ignore_errors=True)  # unlinks the links in it
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove temporary files that killed processes left behind. Only names that this module gives are removed.

    Args:
        folder: a folder, in which other processes of this machine may be writing files.
    """
    if folder.is_dir():
        for left in folder.iterdir():
            found = _REMAINS.fullmatch(left.name)
            if found and not (found["process"] and _lives(int(found["process"]))):
                discard(left)


def clear(path: Path) -> None:
    """Remove the temporary files that killed processes left behind when they wrote a file. Other files stay.

    Args:
        path: the file; it may be missing.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial") if path.parent.is_dir() else ():
        number = left.name[len(path.name) + 2 : -len(".partial")]
        if number.isdecimal() and not _lives(int(number)):
            discard(left)


def _lives(process: int) -> bool:
    """Whether a process of this machine, other than this one, has this number."""
    return process != os.getpid() and psutil.pid_exists(process)


def as_path(path: str | Path | None) -> Path | None:
    """Convert a path that a caller may give as text, or leave out."""
    return None if path is None else Path(path)


def is_link(path: Path) -> bool:
    """Whether a path is a symbolic link, or a junction on Windows.

    Args:
        path: the path.
    """
    return path.is_symlink() or (hasattr(path, "is_junction") and path.is_junction())  # pyright: ignore[reportAttributeAccessIssue]


def refuse_links(folder: Path) -> None:
    """Check that a folder contains no links, so that nothing outside it is written or deleted.

    Args:
        folder: the folder. It may be a link itself, and may be missing.

    Raises:
        RunError: naming the first link found, at any depth.
    """
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in sorted((*folders, *files))):
            if is_link(path):
                raise RunError(f"'{path}' is a link.", f"Replace it by what it points to: everything in '{folder}' must lie in it.")


def opened(path: Path) -> BufferedReader:
    """Open a regular file for reading; a pipe, which might never answer, or a device is an error.

    Args:
        path: the file. A link is followed.

    Raises:
        OSError: if it cannot be read, or is something else.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(handle, "rb")


def read_small(path: Path, most: int) -> bytes:
    """Read a small file.

    Args:
        path: the file.
        most: largest size in bytes.

    Raises:
        OSError: if it is larger, or as for `opened`.
    """
    with opened(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, "file too large", str(path))
    return content


def _to_disk(folder: Path) -> None:
    """Flush the directory entries of `folder` to disk; does nothing on systems and file systems without support for it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
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
