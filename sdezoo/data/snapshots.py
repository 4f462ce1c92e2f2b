"""Snapshots: rows observed at several times, not paired."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from sdezoo.data.column_types import ColumnType, common_type, or_numbers
from sdezoo.data.conversion import recoded
from sdezoo.data.dataset import Data, Snapshot, split
from sdezoo.errors import DataError


def joined(first: Data, second: Data) -> Data:
    """Join two data sets as snapshots at times 0 and 1, the ends of a bridge. Class labels are left out. Images of different levels
    get those of both.

    Args:
        first: the first end.
        second: the second end; rows of the same shape and columns, in any order. A column has the type that holds the values of both.

    Raises:
        DataError: if the two do not have the same kind of rows, or one of them has snapshots or is too large for the memory.
    """
    for data in (first, second):
        if data.later:
            raise DataError(
                f"One end has {len(data.snapshots)} snapshots.", "Give --snapshots without a target, or two data sets of one time."
            )
        if data.stored is not None:
            raise DataError("One end stays on disk, and a bridge needs both in memory.", "Give fewer rows.")
    if first.columns != second.columns and sorted(first.columns) == sorted(second.columns):
        second = second.select([second.columns.index(name) for name in first.columns])
    for what, one, other in (
        ("kind", first.kind, second.kind),
        ("shape", first.event, second.event),
        ("columns", first.columns, second.columns),
    ):
        if one != other:
            raise DataError(f"The two ends differ in {what}: {_short(one)} and {_short(other)}.", "Give data whose rows are of one kind.")
    if first.types != second.types:
        first, second = _of_common_types(first, second)
    levels = math.lcm(first.levels, second.levels) if first.levels and second.levels else None
    later = (Snapshot(1.0, second.train, second.test),)
    return replace(first, train_labels=None, test_labels=None, class_names=(), levels=levels, later=later)


def _of_common_types(first: Data, second: Data) -> tuple[Data, Data]:
    """Two tables with one type for each column."""
    pairs = zip(*(or_numbers(data.types, len(first.columns)) for data in (first, second)), strict=True)
    types: list[ColumnType] = []
    for name, (one, other) in zip(first.columns, pairs, strict=True):
        if (common := common_type(one, other)) is None:
            words = " and ".join(f"{kind.kind} ({kind})" if kind.kind != str(kind) else kind.kind for kind in (one, other))
            raise DataError(f"The two ends differ in the column '{name}': {words}.", "Store it in one way, or leave it out of both.")
        types.append(common)
    made = []
    for data in (first, second):
        parts = {name: recoded(getattr(data, name), data.types, types, data.columns) for name in ("train", "test")}
        made.append(replace(data, **parts, types=tuple(types)))
    return made[0], made[1]


def by_time(x: Tensor, time: Tensor, *, holdout: float, without: tuple[float, ...] = ()) -> Data:
    """Group points by their times of observation.

    Args:
        x: points `(N, d)`, float32.
        time: time of each, `(N,)`, float64. The first becomes time 0.
        holdout: fraction of the rows of each snapshot to hold out.
        without: times whose rows training does not see, for a test of interpolation: `Data.left_out`.

    Raises:
        DataError: if there are fewer than two times, a time to leave out does not occur, or the shapes do not match.
    """
    if x.ndim != 2 or time.shape != x.shape[:1]:
        raise DataError(
            f"Snapshots have rows of shape {tuple(x.shape)} and times of shape {tuple(time.shape)}, not (N, d) and (N,).",
            "Store a time for each row.",
        )
    if not bool(time.isfinite().all()):
        raise DataError("A time of the snapshots is not a finite number.", "Give each row its time of observation.")
    known = time.unique()
    unknown = [at for at in without if at not in known.tolist()]
    if unknown:
        raise DataError(f"No row has the time {unknown[0]:g}.", f"Leave out one of {_listed(known)}.")
    kept = [at for at in known.tolist() if at not in without]
    if len(kept) < 2:
        raise DataError(f"The snapshots have {len(kept)} time, and a bridge needs two or more.", "Give rows of several times.")
    parts = [split(x[time == at], "points", holdout=holdout) for at in kept]
    later = tuple(Snapshot(at - kept[0], part.train, part.test) for at, part in zip(kept[1:], parts[1:], strict=True))
    left_out = tuple(Snapshot(at - kept[0], x[time == at], x[:0]) for at in sorted(set(without)))
    return replace(parts[0], later=later, left_out=left_out)


def _listed(times: Tensor) -> str:
    return ", ".join(f"{at:g}" for at in times.tolist()[:20])


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
