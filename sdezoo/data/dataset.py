"""Data as a user has them.

A `Dataset` plugin loads `Data` in the user's own units: images in [0, 1], tables, points and paths as they are.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sdezoo.parameters import Plugin

Kind = Literal["image", "table", "points", "paths"]
"""What a row is: an image `(C, H, W)`, a row of a table or a point `(d,)`, or a path `(T, d)` observed at `T` times."""


_BLOCK = 2**24  # bytes of float32 that are looked at together


class StoredRows(ABC):
    """Rows that stay where they are stored, and are read when they are asked for. Abstract: `len`, and indexing."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def __getitem__(self, index: Tensor) -> Tensor:
        """The rows of these numbers (n,), int64 on the CPU: (n, *event), float32, in the user's own units.

        Raises:
            DataError: where they cannot be read any more.
        """


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Rows observed at one time; rows of different snapshots are not paired.

    Args:
        time: of observation, counted from the first snapshot, in a unit of the user's own.
        train: `(N, *event)`, float32, in the user's own units.
        test: held out, of the same event; may have no rows.
    """

    time: float
    train: Tensor
    test: Tensor


@dataclass(frozen=True, eq=False)
class Data:
    """A data set in the user's own units: one snapshot of rows, or several, the first of them at time 0.

    Args:
        train: (N, *event), float32. Images (N, C, H, W) in [0, 1]; tables and points (N, d); paths (N, T, d).
        test: held out, of the same event; may have no rows.
        kind: what a row is.
        columns: the d names of the columns of a table or of paths; empty: they have none.
        train_labels: (N,) int64, class numbers from 0, or None.
        test_labels: likewise for `test`.
        levels: the data's own lattice: values are multiples of 1/levels (8-bit images: 255); None where continuous.
        types: what a table's columns were before they were made float32, as NumPy names it; empty: float32. For the encoding.
        stored: all training rows, where there are more than memory should hold: then `train` is a random part of them, which
            statistics are taken of, and there are no labels.
        later: the snapshots after the first, which is `train` and `test`, in the order of their times.
        times: of the observations of paths, (T,), float64, increasing; None for other kinds.
    """

    train: Tensor
    test: Tensor
    kind: Kind
    columns: tuple[str, ...] = ()
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    levels: int | None = None
    types: tuple[str, ...] = ()
    stored: StoredRows | None = None
    later: tuple[Snapshot, ...] = ()
    times: Tensor | None = None

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """All of them; of the first, only the rows in memory."""
        return (Snapshot(0.0, self.train, self.test), *self.later)

    @property
    def rows(self) -> int:
        """How many training rows the first snapshot has."""
        return len(self.train if self.stored is None else self.stored)

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self.train.shape[1:])

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value: 0 and 1 for images, else (d,) each, over all rows of all snapshots; for `Bounds`."""
        if self.kind == "image":
            return torch.tensor(0.0), torch.tensor(1.0)
        low, high = zip(*((rows.amin(0), rows.amax(0)) for rows in (block.flatten(0, -2) for block in self.blocks())), strict=True)
        return torch.stack(low).amin(0), torch.stack(high).amax(0)

    def blocks(self) -> Iterator[Tensor]:
        """All rows of all snapshots, training and held out, block by block of some megabytes; none is empty."""
        later = (_blocks(rows) for snapshot in self.later for rows in (snapshot.train, snapshot.test))
        return chain(self.training_blocks(), _blocks(self.test), *later)

    def training_blocks(self) -> Iterator[Tensor]:
        """All training rows of the first snapshot, likewise; what is stored is read once more."""
        if self.stored is None:
            return _blocks(self.train)
        numbers = range(0, len(self.stored), size := _rows(self.event))
        return (self.stored[torch.arange(first, min(first + size, len(self.stored)))] for first in numbers)


class Dataset(Plugin, ABC):
    """Where data come from: the fields are the hyper-parameters, `load` reads."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Lower-case endings of the file names that this plugin reads, `""` for a directory; it then has a field `path`."""

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        """What `suffixes` says. Override it where the endings are those of file formats that may be installed."""
        return cls.suffixes

    @abstractmethod
    def load(self) -> Data:
        """Read everything.

        Raises:
            DataError: where it cannot be read or is not of the promised form.
        """

    @classmethod
    def reads(cls, path: str | Path) -> bool:
        """Whether this plugin is the one for `path`: a directory, or a name with one of its endings."""
        if os.path.isdir(path):
            return "" in cls.endings()
        return Path(path).name.lower().endswith(tuple(filter(None, cls.endings())))


def split(
    values: Tensor,
    kind: Kind,
    *,
    holdout: float,
    labels: Tensor | None = None,
    columns: tuple[str, ...] = (),
    levels: int | None = None,
    types: tuple[str, ...] = (),
    times: Tensor | None = None,
) -> Data:
    """`Data` with the fraction `holdout` of the rows of `values` held out: the same rows every time, in their order."""
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    held = round(holdout * len(values))
    test, train = order[:held].sort().values, order[held:].sort().values
    train_labels, test_labels = (None, None) if labels is None else (labels[train], labels[test])
    return Data(values[train], values[test], kind, columns, train_labels, test_labels, levels, types, times=times)


def _rows(event: Sequence[int]) -> int:
    """How many rows are looked at together."""
    return max(1, _BLOCK // max(1, 4 * math.prod(event)))


def _blocks(rows: Tensor) -> Iterator[Tensor]:
    # `split` makes one empty block of no rows.
    return (block for block in rows.split(_rows(rows.shape[1:])) if len(block))
