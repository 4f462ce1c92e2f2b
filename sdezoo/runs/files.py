"""Files that are whole or not there: written beside their place, put on the disk, and renamed."""

from __future__ import annotations

import os
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
def replacing(path: Path, remedy: str) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once the block has ended without an error; missing folders are made.

    Raises:
        RunError: with `remedy`, where the system does not let it be written; what was there is left as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"'{path}' cannot be written ({error.strerror or error}).", remedy) from error


def put_array(file: Sink, shape: Sequence[int], parts: Iterable[Tensor]) -> None:
    """Write an array of `shape` in NumPy's format: the rows of `parts`, float32 on the CPU, one after the other."""
    np.lib.format.write_array_header_1_0(file, {"descr": _FLOAT, "fortran_order": False, "shape": tuple(shape)})  # pyright: ignore[reportArgumentType]
    for part in parts:
        file.write(part.contiguous().numpy().data)  # pyright: ignore[reportArgumentType]
