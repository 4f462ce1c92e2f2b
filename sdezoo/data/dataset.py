"""Data in the user's units.

A `Dataset` plugin loads `Data`: images scaled to [0, 1], tables, points and paths unscaled.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from math import inf
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sdezoo.data.column_types import ColumnType, column_types
from sdezoo.data.text_style import TextStyle
from sdezoo.parameters import Plugin

Kind = Literal["image", "table", "points", "paths", "series"]
"""The kind of a row: an image `(C, H, W)`, a table row or a point `(d,)`, a path `(T, d)` observed at `T` times, or a window `(T, d)` of a
series, at equal steps."""

SeriesForm = Literal["growth", "level", "real"]
"""What is learned of windows: the growth factor of each step, or the value relative to the start, both of windows divided by their first
value; or the values themselves."""

LABEL = "label"
"""Name of the column of class labels in tables of samples, if the labels of the data had none."""

RowName = Callable[[int], str]
"""Names a row of a source for messages, such as `line 12 of 'prices.csv'`; rows are counted from 0."""

_BLOCK = 2**24  # bytes of float32 in a block
_ROWS = 2**16  # rows that are parted at a time


class StoredRows(ABC):
    """Rows that stay on disk and are read on access. Abstract: `__len__`, `__getitem__`."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def __getitem__(self, index: Tensor) -> Tensor:
        """Read rows.

        Args:
            index: row indices `(n,)`, int64 on the CPU.

        Returns:
            Rows `(n, *event)`, float32, in the user's units.

        Raises:
            DataError: if the rows can no longer be read.
        """


@dataclass(frozen=True, eq=False)
class _SelectedRows(StoredRows):
    """Some of the columns of stored rows."""

    base: StoredRows
    columns: Tensor

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.base[index][:, self.columns]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Rows observed at one time; rows of different snapshots are not paired.

    Args:
        time: time of observation since the first snapshot, in the user's time unit.
        train: training rows `(N, *event)`, float32, in the user's units.
        test: held-out rows `(M, *event)`, float32; M may be 0.
    """

    time: float
    train: Tensor
    test: Tensor


def _numbered(row: int) -> str:
    """Name a row by its number."""
    return f"row {row} (counted from 0)"


@dataclass(frozen=True, eq=False)
class Data:
    """A data set in the user's units: one or several snapshots, the first at time 0.

    Args:
        train: training rows `(N, *event)`, float32: images `(N, C, H, W)` in [0, 1], tables and points `(N, d)`, paths `(N, T, d)`. Tables
            hold codes, see `sdezoo.data.column_types`, and NaN for a missing value. Windows of series are `(N, T, d)`, in order of time.
        test: held-out rows `(M, *event)`, float32; M may be 0.
        kind: the kind of a row.
        columns: the `d` column names of a table or of paths; empty: unnamed.
        train_labels: class indices of `train`, `(N,)` int64, from 0; None: unlabelled.
        test_labels: class indices of `test`, `(M,)` int64, from 0; None: unlabelled.
        levels: the data's lattice: values are multiples of 1/levels (8-bit images: 255); None: continuous.
        types: types of a table's columns, or the NumPy dtype names of their numbers; empty: float32.
        stored: all training rows, if they are too many to hold in memory. Then `train` is a random subset, used for statistics, and there
            are no labels.
        later: the snapshots after the first, in order of time. The first is `train` and `test`.
        times: observation times of paths, float64, increasing: `(T,)`, or those of each path of `train`, `(N, T)`; None for other kinds.
        style: how a table was written as text; None: it was not.
        test_times: observation times of each path of `test`, `(M, T)`, if those of `train` are `(N, T)`; else None.
        left_out: snapshots that training does not see, to test interpolation; all their rows are in `train`.
        notes: what the user should know of how the data were read, a sentence each.
        class_names: the label of each class; empty: its index.
        label_column: name of the column that samples of a table have their labels in.
        label_place: number of columns before it; None: all.
        maximum: what the pixels of images were divided by; None: the largest of their depth, or 1.
        form: what is learned of windows of series; None for other kinds.
        overlap: how many windows in a row share an observation; 1: none do.
        source_rows: gives where the rows of `train`, then those of `test`, stood in their source, `(N + M,)`; None: in parts of their own.
        row_name: names a row of the source for messages.
    """

    train: Tensor
    test: Tensor
    kind: Kind
    columns: tuple[str, ...] = ()
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    levels: int | None = None
    types: tuple[ColumnType, ...] = ()
    stored: StoredRows | None = None
    later: tuple[Snapshot, ...] = ()
    times: Tensor | None = None
    notes: tuple[str, ...] = ()
    class_names: tuple[str | int, ...] = ()
    label_column: str = LABEL
    label_place: int | None = None
    maximum: float | None = None
    form: SeriesForm | None = None
    overlap: int = 1
    style: TextStyle | None = None
    test_times: Tensor | None = None
    left_out: tuple[Snapshot, ...] = ()
    source_rows: Callable[[], Tensor] | None = None
    row_name: RowName = _numbered

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", column_types(self.types))

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """All snapshots. The first holds only the rows in memory."""
        return (Snapshot(0.0, self.train, self.test), *self.later)

    @property
    def rows(self) -> int:
        """Number of training rows in the first snapshot, rows on disk included."""
        return len(self.train if self.stored is None else self.stored)

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self.train.shape[1:])

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value over all rows of all snapshots, for `Bounds`: 0 and 1 for images, else `(d,)` each, without NaN."""
        if self.kind == "image":
            return torch.tensor(0.0), torch.tensor(1.0)
        flat = (block.flatten(0, -2) for block in self.blocks())
        low, high = zip(
            *((rows.nan_to_num(inf, inf, -inf).amin(0), rows.nan_to_num(-inf, inf, -inf).amax(0)) for rows in flat), strict=True
        )
        return torch.stack(low).amin(0), torch.stack(high).amax(0)

    def where(self, keep: Callable[[Tensor], Tensor]) -> Data:
        """Return the data with some of the rows in memory, and their labels.

        Args:
            keep: maps rows `(n, *event)` to a mask `(n,)`.
        """
        snapshots = [replace(at, train=at.train[keep(at.train)], test=at.test[keep(at.test)]) for at in self.later]
        train, test = keep(self.train), keep(self.test)
        labels = [None if known is None else known[mask] for known, mask in ((self.train_labels, train), (self.test_labels, test))]
        parts = {"train": self.train[train], "test": self.test[test], "train_labels": labels[0], "test_labels": labels[1]}
        if self.times is not None and self.test_times is not None:
            parts |= {"times": self.times[train], "test_times": self.test_times[test]}
        if self.source_rows is not None:
            parts["source_rows"] = partial(_kept, self.source_rows, torch.cat([train, test]))
        left_out = tuple(replace(at, train=at.train[keep(at.train)]) for at in self.left_out)
        return replace(self, **parts, later=tuple(snapshots), left_out=left_out)

    def select(self, columns: Sequence[int]) -> Data:
        """Return the data with some of the columns of a table or of points.

        Args:
            columns: indices of the columns to keep.
        """
        index = torch.tensor(columns)
        kept = [replace(snapshot, train=snapshot.train[:, index], test=snapshot.test[:, index]) for snapshot in self.snapshots]
        return replace(
            self,
            train=kept[0].train,
            test=kept[0].test,
            later=tuple(kept[1:]),
            left_out=tuple(replace(at, train=at.train[:, index], test=at.test[:, index]) for at in self.left_out),
            columns=tuple(self.columns[i] for i in columns) if self.columns else (),
            types=tuple(self.types[i] for i in columns) if self.types else (),
            label_place=None if self.label_place is None else sum(i < self.label_place for i in columns),
            stored=None if self.stored is None else _SelectedRows(self.stored, index),
        )

    def row_in_words(self, place: int) -> str:
        """Name a row for a message, such as `line 12 of 'prices.csv'`.

        Args:
            place: where it comes in `blocks`, counted from 0.
        """
        first = self.rows + len(self.test)
        if self.source_rows is not None and not self.later and place < first:
            return self.row_name(int(self.source_rows()[place]))
        parts = [(name, len(rows), at.time) for at in self.snapshots for name, rows in (("training", at.train), ("held-out", at.test))]
        parts[0] = ("training", self.rows, 0.0)
        for name, count, time in parts:
            if place < count:
                return f"{name} {_numbered(place)}" + f" of the snapshot at time {time:g}" * bool(self.later)
            place -= count
        raise IndexError(place)

    def blocks(self) -> Iterator[Tensor]:
        """Iterate over all rows of all snapshots, training and held-out, in non-empty blocks of at most 16 MiB (or one row)."""
        later = (_blocks(rows) for snapshot in self.later for rows in (snapshot.train, snapshot.test))
        return chain(self.training_blocks(), _blocks(self.test), *later)

    def training_blocks(self) -> Iterator[Tensor]:
        """Iterate over all training rows of the first snapshot, in the blocks of `blocks`; rows on disk are read again each time."""
        if self.stored is None:
            return _blocks(self.train)
        numbers = range(0, len(self.stored), size := _rows(self.event))
        return (self.stored[torch.arange(first, min(first + size, len(self.stored)))] for first in numbers)


class Dataset(Plugin, ABC):
    """A source of data. Fields are its parameters. Abstract: `load`."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Lower-case file name endings that this plugin reads, `""` for a directory. A plugin with endings needs a field `path`."""

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        """File name endings that this plugin reads: `suffixes`. Override to include the endings of installed file formats."""
        return cls.suffixes

    @abstractmethod
    def load(self) -> Data:
        """Read the data set.

        Raises:
            DataError: if the data cannot be read or are invalid.
        """

    @classmethod
    def reads(cls, path: str | Path) -> bool:
        """Whether this plugin reads `path`.

        Args:
            path: a directory, or a file, judged by the ending of its name; it need not exist.
        """
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
    types: tuple[ColumnType, ...] = (),
    times: Tensor | None = None,
    notes: tuple[str, ...] = (),
    class_names: tuple[str | int, ...] = (),
    label_column: str = LABEL,
    label_place: int | None = None,
    maximum: float | None = None,
    style: TextStyle | None = None,
    row_name: RowName = _numbered,
) -> Data:
    """Build `Data` with a fixed random fraction of the rows held out; both parts keep the order of the rows.

    Args:
        values: all rows `(N, *event)`, float32.
        kind: the kind of a row.
        holdout: fraction of rows to hold out, in [0, 1].
        labels: class indices `(N,)`, int64; None: unlabelled.
        columns: see `Data`.
        levels: see `Data`.
        types: see `Data`.
        times: observation times of paths, `(T,)` or `(N, T)`, float64.
        notes: see `Data`.
        class_names: see `Data`.
        label_column: see `Data`.
        label_place: see `Data`.
        maximum: see `Data`.
        style: see `Data`.
        row_name: see `Data`.
    """
    held = _held_out(len(values), holdout)
    train, test = _parted(values, held)
    train_labels, test_labels = (None, None) if labels is None else _parted(labels, held)
    times, test_times = (times, None) if times is None or times.ndim != 2 or len(times) != len(values) else _parted(times, held)
    data = Data(train, test, kind, columns, train_labels, test_labels, levels, types, times=times, notes=notes, test_times=test_times)
    origin = {"source_rows": partial(_source_rows, len(values), holdout), "row_name": row_name, "style": style}
    return replace(data, class_names=class_names, label_column=label_column, label_place=label_place, maximum=maximum, **origin)


def _held_out(count: int, holdout: float) -> Tensor:
    """Which of `count` rows are held out, `(count,)`."""
    held = torch.zeros(count, dtype=torch.bool)
    small = torch.int32 if count < 2**31 else torch.int64  # the permutation is the same
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0), dtype=small)
    for rows in order[: round(holdout * count)].split(_ROWS):
        held[rows.long()] = True
    return held


def _source_rows(count: int, holdout: float) -> Tensor:
    """Where the rows of both parts stood."""
    held = _held_out(count, holdout)
    return torch.cat([(~held).nonzero().flatten(), held.nonzero().flatten()])


def _kept(rows: Callable[[], Tensor], keep: Tensor) -> Tensor:
    return rows()[keep]


def _parted(values: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that are not held out, and those that are; a mask of all rows at once would take eight bytes for each."""
    test = values.new_empty(int(held.sum()), *values.shape[1:])
    train = values.new_empty(len(values) - len(test), *values.shape[1:])
    for part, mask in ((train, ~held), (test, held)):
        at = 0
        for rows, chosen in zip(values.split(_ROWS), mask.split(_ROWS), strict=True):
            found = rows[chosen]
            part[at : at + len(found)] = found
            at += len(found)
    return train, test


def _rows(event: Sequence[int]) -> int:
    """Number of rows in a block."""
    return max(1, _BLOCK // max(1, 4 * math.prod(event)))


def _blocks(rows: Tensor) -> Iterator[Tensor]:
    # `Tensor.split` returns one empty block if there are no rows.
    return (block for block in rows.split(_rows(rows.shape[1:])) if len(block))
