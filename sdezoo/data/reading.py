"""Files read without trusting them: what they may cost, and what is said where they cannot be read."""

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
"""Bytes of float32 that data which are held in memory as a whole may take."""


SHARE = 4
"""Memory that the reading of such data takes at most, over their bytes of float32: as stored, converted, and split."""


DEFLATE = 1032
"""The highest ratio that deflate, in .npz, .gz and .png, reaches."""


_CHUNK = 2**18  # bytes read at a time from what may be shorter than it says


def check_size(path: str | Path, values: int) -> None:
    """Refuse more than `LARGEST` bytes of float32, and more than memory has room for while they are read, before anything is allocated.

    Raises:
        DataError: with the number of values promised.
    """
    if values * 4 > LARGEST:
        raise DataError(
            f"'{path}' promises {values} values, more than the {LARGEST // 2**30} GiB of float32 that are read into memory.",
            "Give a smaller part of the data, a .npy in C order, which is read row by row, or a file that is not damaged.",
        )
    if values * 4 * SHARE > (free := psutil.virtual_memory().available):
        raise DataError(
            f"'{path}' promises {values} values, and to read them takes more memory than the {free / 2**30:.1f} GiB available.",
            "Make room, or give a smaller part of the data, or a .npy in C order, which is read row by row.",
        )


def read_bytes(file: IO[bytes] | BufferedIOBase, size: int, begun: bytes = b"") -> bytearray:
    """`begun`, and what follows in `file`, `size` bytes in all; memory is taken as they come, not as they are promised.

    Raises:
        EOFError: where there are fewer.
    """
    data = bytearray(begun[:size])
    while len(data) < size and (chunk := file.read(min(_CHUNK, size - len(data)))):
        data += chunk
    if len(data) < size:
        raise EOFError("it ends early")
    return data


@contextmanager
def reading(path: str | Path, form: str, *errors: type[Exception]) -> Iterator[None]:
    """What goes wrong inside, while the file `path` is read, becomes a `DataError`.

    Args:
        path: for the message.
        form: what the file should be, as in "an IDX file".
        errors: what the reading library raises besides `OSError`, `EOFError`, `ValueError` and `MemoryError`.
    """
    try:
        if not (os.path.isfile(path) or os.path.isdir(path)) and os.path.exists(path):
            raise DataError(f"'{path}' is a device or a pipe.", "Give a file on a disk.")
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
