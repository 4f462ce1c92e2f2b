"""Safe reading of untrusted files: memory limits, and errors that say why a file cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO

import psutil

from sdezoo.errors import DataError, SdezooError

LARGEST = 8 * 2**30
"""Largest size of data held in memory, in bytes of float32."""


SHARE = 4
"""Peak memory while reading, as a multiple of the data's size in float32: the data as stored, converted, and split."""


DEFLATE = 1032
"""The highest compression ratio of deflate, used by .npz, .gz and .png."""


_CHUNK = 2**18  # bytes read at a time from a file that may be shorter than declared


def check_size(path: str | Path, values: int) -> None:
    """Check, before anything is allocated, that data are within `LARGEST` and that reading them fits in the available memory.

    Args:
        path: the file, for the message.
        values: number of values that the file declares.

    Raises:
        DataError: if the data are too large.
    """
    if values * 4 > LARGEST:
        raise DataError(
            f"'{path}' declares {values} values, more than the {LARGEST // 2**30} GiB of float32 that are read into memory.",
            "Give a smaller part of the data, a .npy in C order, which is read row by row, or an undamaged file.",
        )
    if values * 4 * SHARE > (free := psutil.virtual_memory().available):
        raise DataError(
            f"'{path}' declares {values} values, and reading them takes more memory than the {free / 2**30:.1f} GiB available.",
            "Free memory, or give a smaller part of the data, or a .npy in C order, which is read row by row.",
        )


def read_bytes(file: IO[bytes] | BufferedIOBase, size: int, begun: bytes = b"") -> bytearray:
    """Read a total of `size` bytes, allocating memory as they arrive and not up front.

    Args:
        file: the file, positioned after `begun`.
        size: total number of bytes.
        begun: the first bytes, if already read.

    Raises:
        EOFError: if the file ends early.
    """
    data = bytearray(begun[:size])
    while len(data) < size and (chunk := file.read(min(_CHUNK, size - len(data)))):
        data += chunk
    if len(data) < size:
        raise EOFError("it ends early")
    return data


@contextmanager
def reading(path: str | Path, form: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn errors raised while reading a file into `DataError`.

    Args:
        path: the file.
        form: what the file should be, with an article, such as "an IDX file".
        errors: exceptions of the reading library, in addition to `OSError`, `EOFError`, `ValueError` and `MemoryError`.

    Raises:
        DataError: if the block raises one of these, or `path` is a device or a pipe.
    """
    try:
        if not (os.path.isfile(path) or os.path.isdir(path)) and os.path.exists(path):
            raise DataError(f"'{path}' is a device or a pipe.", "Give a regular file.")
        yield
    except SdezooError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"There is no file or folder '{error.filename or path}'.", "Check the path.") from error
    except (OSError, EOFError, ValueError, MemoryError, *errors) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".") or type(error).__name__
        raise DataError(
            f"'{path}' cannot be read as {form} ({reason[:200]}).",
            f"Check that it is complete, readable, and really {form}.",
        ) from error
