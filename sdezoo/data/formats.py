"""File formats: how data and samples lie in a file.

A format is found by the ending of a file's name. Everybody writes by `FileFormat.write`. What can be read back is a `ReadableFormat`:
an `ArrayFormat` holds arrays by name, which the dataset `array` reads; a `TableFormat` holds columns by name, which `table` reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.arrays import Header
from sdezoo.data.dataset import Kind
from sdezoo.data.reading import reading
from sdezoo.data.tables import Columns
from sdezoo.errors import DataError
from sdezoo.parameters import Plugin


@dataclass(frozen=True, eq=False)
class Samples:
    """What is written to a file: final rows, and what they are.

    Args:
        parts: the rows, float32 `(n_i, *event)` on the CPU, in the user's units; gone through once, so that two parts are never in memory.
        shape: `(n, *event)`, of all of them together.
        kind: what a row is.
        columns: the names of the columns; empty: they have none.
        levels: the lattice of images: their values are multiples of 1/levels; None where continuous.
        types: the dtypes of the columns, see `sdezoo.data.encoding.Encoding`.
        times: of the observations of paths, `(T,)`, float64; None where they are not known.
    """

    parts: Iterable[Tensor]
    shape: tuple[int, ...]
    kind: Kind
    columns: tuple[str, ...] = ()
    levels: int | None = None
    types: tuple[str, ...] = ()
    times: Tensor | None = None

    @property
    def names(self) -> list[str]:
        """The names of the columns, x0, x1, … where they have none."""
        return list(self.columns) or [f"x{i}" for i in range(self.shape[-1])]


class FileFormat(Plugin, ABC):
    """A format that is written. Abstract: `write`."""

    endings: ClassVar[tuple[str, ...]] = ()
    """Lower-case endings of the names of such files, with their dots."""
    form: ClassVar[str] = ""
    """What such a file is, in words, as in "a table"."""
    kinds: ClassVar[tuple[Kind, ...]] = ()
    """What can be written."""

    @abstractmethod
    def write(self, samples: Samples, file: BinaryIO) -> None:
        """Write samples, of one of `kinds`, part by part.

        Args:
            samples: what to write.
            file: takes the bytes, from the first to the last; not seekable backwards.

        Raises:
            RunError: where they cannot be written in this format.
        """


class ReadableFormat(FileFormat):
    """A format that is read back. Abstract: `read_samples`, beside `write`."""

    @abstractmethod
    def read_samples(self, path: Path, columns: Sequence[str]) -> Tensor:
        """Rows of a file that `write` may have written, float32 `(n, *event)`.

        Args:
            path: the file.
            columns: names of the columns to take, in this order; empty: all, or there are none.

        Raises:
            DataError: where it cannot be read, or a column is missing.
        """


class ArrayFormat(ReadableFormat):
    """Arrays by name. Abstract: `read`, beside `write`."""

    form: ClassVar[str] = "an array"

    @abstractmethod
    def read(self, path: Path, choose: Callable[[tuple[str, ...]], Iterable[str]]) -> dict[str, np.ndarray]:
        """The arrays that `choose` picks from all names; an array without a name is called x.

        Args:
            path: the file.
            choose: is given all names, and returns those to read.

        Raises:
            DataError: where the file cannot be read, or needs more memory than there is.
        """

    def header(self, path: Path) -> Header | None:
        """What a file says of its only array, whose rows can be read one by one from the disk; None where they cannot.

        Raises:
            DataError: where the file cannot be read.
        """
        return None

    def read_samples(self, path: Path, columns: Sequence[str]) -> Tensor:
        with reading(path, "samples", KeyError, TypeError):
            return torch.from_numpy(self.read(path, lambda names: ["x"])["x"].astype(np.float32))


class TableFormat(ReadableFormat):
    """Columns by name. Abstract: `read`, beside `write`."""

    form: ClassVar[str] = "a table"
    kinds: ClassVar[tuple[Kind, ...]] = ("table", "points")

    @abstractmethod
    def read(self, path: Path) -> Columns:
        """All columns. Missing values are NaN, and values too large for float32 infinite.

        Raises:
            DataError: where the file cannot be read, or has columns that are not numbers, or needs more memory than there is.
        """

    def read_samples(self, path: Path, columns: Sequence[str]) -> Tensor:
        found = self.read(path)
        if missing := [name for name in columns if name not in found.names]:
            raise DataError(f"'{path}' has no column '{missing[0]}'.", "Give samples of the run's model.")
        return found.values[:, [found.names.index(name) for name in columns]] if columns else found.values
