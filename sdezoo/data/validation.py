"""Validation of data: shapes, finite values, times, labels and the range of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.dataset import Data, Kind, Snapshot
from sdezoo.errors import DataError

_CLASSES = 2**16
_ROWS = 2**16  # rows that are checked at a time
_SHAPES: dict[Kind, str] = {"image": "(N, C, H, W)", "table": "(N, d)", "points": "(N, d)", "paths": "(N, T, d)", "series": "(N, T, d)"}


class FoundRows(NamedTuple):
    """Rows that are named in a message."""

    number: int
    """How many there are."""
    first: str
    """The first of them, such as `line 12 of 'prices.csv'`."""

    def __str__(self) -> str:
        return self.first if self.number == 1 else f"{self.number} rows, such as {self.first}"


def find_rows(data: Data, wrong: Callable[[Tensor], Tensor]) -> FoundRows | None:
    """Find the rows of all snapshots that meet a condition; None if there are none.

    Args:
        data: the data.
        wrong: maps rows `(n, *event)` to a mask `(n,)`.
    """
    count, first, before = 0, None, 0
    for block in data.blocks():
        found = wrong(block)
        if first is None and found.any():
            first = before + int(found.to(torch.uint8).argmax())
        count, before = count + int(found.sum()), before + len(block)
    return None if first is None else FoundRows(count, data.row_in_words(first))


def located(count: int, row: str) -> str:
    """Say where values are, for a message: `in line 12 of 'prices.csv'`, or `such as in` it if there are several.

    Args:
        count: number of values.
        row: the row of the first, see `Data.row_in_words`.
    """
    return f"{'such as ' * (count > 1)}in {row}"


def check(data: Data, *, missing: bool = False) -> None:
    """Check that `data` meets the specification of `Data`.

    Args:
        data: the data, rows on disk included.
        missing: whether a table may have missing values.

    Raises:
        DataError: if values are not finite (checked first), shapes do not match, there are fewer than two training rows, times do not
            increase, labels are out of range, or images leave [0, 1].
    """
    parts = {"training": data.train, "held-out": data.test}
    _check_types(data)
    everything = dict(parts)
    for later in data.later:
        everything |= {f"training (time {later.time:g})": later.train, f"held-out (time {later.time:g})": later.test}
    for part, values in everything.items():
        check_finite(values, data.columns, part, missing=missing and data.kind == "table")
    _check_stored(data)
    wanted = _SHAPES[data.kind]
    for part, values in everything.items():
        if values.ndim != len(wanted.split(",")) or 0 in data.event:
            raise DataError(
                f"The {part} data have shape {tuple(values.shape)}, which is not {wanted} for kind '{data.kind}'.",
                f"Reshape them to {wanted}, one row for each sample.",
            )
    for snapshot in data.snapshots:
        _check_rows(snapshot, data.event)
    check_times(data)
    if data.columns and len(data.columns) != data.event[-1]:
        raise DataError(f"There are {len(data.columns)} column names for {data.event[-1]} columns.", "Give each column one name.")
    for (part, values), labels in zip(parts.items(), (data.train_labels, data.test_labels), strict=True):
        if labels is not None and labels.shape != (len(values),):
            raise DataError(
                f"There are {len(values)} {part} rows, but their labels have shape {tuple(labels.shape)}.",
                "Give each row one label, or leave the labels out.",
            )
        if labels is not None and len(labels) and not 0 <= labels.min() <= labels.max() < _CLASSES:
            raise DataError(
                f"The {part} labels range from {int(labels.min())} to {int(labels.max())}; classes are numbered from 0, below {_CLASSES}.",
                "Renumber the classes, or leave the labels out.",
            )
    if data.kind == "image":
        for values in everything.values():
            check_pixels(values)


def _check_types(data: Data) -> None:
    """Check what no shape tells: that rows and labels are tensors of numbers."""
    if data.kind not in _SHAPES:
        raise DataError(f"There is no kind '{data.kind}' of data.", f"Give one of {', '.join(_SHAPES)}.")
    for rows in (part for snapshot in data.snapshots for part in (snapshot.train, snapshot.test)):
        plain = isinstance(rows, Tensor) and rows.layout == torch.strided and rows.device.type != "meta"
        if not plain or rows.dtype.is_complex or rows.requires_grad:
            raise DataError("The rows are not a plain tensor of real numbers.", "Give float32 tensors without gradients.")
    for labels in (data.train_labels, data.test_labels):
        if labels is not None and not isinstance(labels, Tensor):
            raise DataError("The labels are not a tensor.", "Number the classes from 0: torch.tensor(numbers).")


def check_one_time(data: Data, what: str) -> None:
    """Check that data are rows observed at one time.

    Args:
        data: validated data, see `check`.
        what: the subject of the message, such as "Score learning".

    Raises:
        DataError: if the data are paths, or have several snapshots.
    """
    if data.kind == "paths":
        raise DataError(
            f"{what} takes rows of one time, and these data are paths.",
            "Store the rows of one time, x[:, k], as points (N, d), without times, or train an SDE of paths: --task paths.",
        )
    if data.later:
        raise DataError(
            f"{what} takes rows of one time, and these data are {len(data.snapshots)} snapshots.",
            "Give the rows of one snapshot alone, or train a bridge through them: --sde bridge.",
        )


def check_times(data: Data) -> None:
    """Check that the times of snapshots, or of the observations of paths, increase.

    Args:
        data: data whose rows have the right shape for their kind.

    Raises:
        DataError: if times do not increase, if paths have no times, or if other data have times.
    """
    found = [snapshot.time for snapshot in data.snapshots]
    if (wrong := _not_later(torch.tensor(found, dtype=torch.float64))) is not None:
        raise DataError(
            f"The snapshots are at times {', '.join(f'{time:g}' for time in found)}, of which number {wrong} (counted from 0) is not later "
            "than the one before.",
            "Give snapshots in order of time, measured from the first.",
        )
    if (data.times is None) == (data.kind == "paths"):
        missing = data.times is None
        raise DataError(
            "The paths have no times of observation." if missing else f"Data of kind '{data.kind}' cannot have times of observation.",
            "Give one time for each observation." if missing else "Leave out the times, or give paths (N, T, d).",
        )
    if data.times is None:
        return
    own = data.times.ndim == 2
    for times, rows in ((data.times, data.train), (data.test_times, data.test)):
        if (times is None) == (own or rows is data.train):
            raise DataError("The training and the held-out paths do not both have times.", "Give both parts times of one kind.")
        if times is not None:
            _check_observed(times, rows, own=own)


def _check_observed(times: Tensor, rows: Tensor, *, own: bool) -> None:
    """Check the times of observation of paths `rows`, `(N, T, d)`: `(T,)`, or `(N, T)` if each path has its `own`."""
    if times.shape != (rows.shape[:2] if own else rows.shape[1:2]):
        raise DataError(
            f"The paths have {rows.shape[1]} observations, and times of shape {tuple(times.shape)}.",
            f"Give one time for each observation, in an array ({rows.shape[1]},), or {tuple(rows.shape[:2])} if each path has its own.",
        )
    for path, of_path in enumerate(times if own else times[None]):
        if (wrong := _not_later(of_path)) is not None:
            raise DataError(
                f"The times of observation{f' of path {path}' if own else ''} do not increase: number {wrong} (counted from 0), "
                f"{float(of_path[wrong]):g}, is not later than the one before.",
                "Sort the observations by time, and give each time once.",
            )


def check_finite(values: Tensor, columns: Sequence[str] = (), part: str = "", first: int = 0, *, missing: bool = False) -> None:
    """Check that all values are finite.

    Args:
        values: rows `(N, *event)`, of any floating dtype.
        columns: column names for the message; empty: column indices are used.
        part: name of the part of the data, such as "training", for the message.
        first: index of the first row, for the message.
        missing: whether NaN stands for a missing value, and is allowed.

    Raises:
        DataError: if values are NaN or infinite, with their number and the position of the first.
    """
    if not any((rows.isinf() if missing else ~rows.isfinite()).any() for rows in values.split(_ROWS)):
        return
    right = ~values.isinf() if missing else values.isfinite()
    absent, wrong = 0 if missing else int(values.isnan().sum()), int((~right).sum())
    parts = [f"{absent} missing (NaN)"] * (absent > 0) + [f"{wrong - absent} infinite (or too large for float32)"] * (wrong > absent)
    row, *position = map(int, np.unravel_index(int((~right).flatten().to(torch.uint8).argmax()), right.shape))
    raise DataError(
        f"The {part + ' ' if part else ''}data have {' and '.join(parts)} value{'s' * (wrong > 1)}, the first in "
        f"{_position([first + row, *position], columns)} (counted from 0).",
        "Remove or fill in these rows.",
    )


def check_pixels(values: Tensor, maximum: float | None = None) -> None:
    """Check that pixels lie in [0, 1].

    Args:
        values: images `(N, C, H, W)`.
        maximum: what the dataset has divided the pixels by, which is its parameter of that name; None: it has no such parameter.

    Raises:
        DataError: if a pixel lies outside [0, 1].
    """
    if values.numel() == 0:
        return
    low, high = (float(bound) * (maximum or 1) for bound in values.aminmax())
    largest = maximum or 1
    if low < 0 or high > largest:
        divide = "Divide them by 255" if largest == 1 and low >= 0 and high <= 255 else f"Store {to_unit(low, high)}"
        store = ", or store them as uint8" if maximum else ""
        give = f", or give their largest value: maximum={high:g}" if maximum and low >= 0 else ""
        raise DataError(f"Images must lie in [0, {largest:g}], but these range from {low:g} to {high:g}.", f"{divide}{store}{give}.")


def check_close(rows: np.ndarray, names: Sequence[str] = ()) -> None:
    """Check that float32 tells the values of each column apart.

    Args:
        rows: numbers `(N, …, d)`, of the dtype that they came in.
        names: names of the columns; empty: they are those of an array.

    Raises:
        DataError: if the range of a column is below 2⁻¹⁴ of its largest value.
    """
    if rows.dtype.kind not in "iuf" or rows.dtype.itemsize <= 2 or not rows.size:
        return
    flat = rows.reshape(-1, rows.shape[-1])
    low, high = flat.min(0).astype(np.float64), flat.max(0).astype(np.float64)
    close = (high > low) & (high - low < 2.0**-14 * np.maximum(-low, high))
    if close.any():
        column = int(close.argmax())
        between = f"{low[column]:.17g} and {high[column]:.17g}"
        what = f"The column '{names[column]}'" if names else f"Column {column} of the array (counted from 0)"
        other = "" if names else ", or give a table, whose columns are counted from their middle"
        raise DataError(f"{what} lies between {between}, too close together for float32.", f"Subtract {low[column]:.17g} from it{other}.")


def to_unit(low: float, high: float) -> str:
    """A formula that maps pixels into [0, 1], for messages.

    Args:
        low: smallest pixel.
        high: largest pixel.
    """
    below, above = math.ceil(-low), max(1, math.ceil(high))
    return f"x / {above}" if low >= 0 else f"(x + {below}) / {below + above}"


def column_name(index: int, names: Sequence[str]) -> str:
    """Format a column for a message: its name in quotes, or its index if it has no name.

    Args:
        index: index of the column.
        names: column names; may be empty.
    """
    return f"'{names[index]}'" if index < len(names) else str(index)


def _check_rows(snapshot: Snapshot, event: tuple[int, ...]) -> None:
    """Check that a snapshot has at least two training rows, and that its rows have the shape `event` of the first snapshot."""
    at = f" at time {snapshot.time:g}" if snapshot.time else ""
    for part, rows in {"Training": snapshot.train, "Held-out": snapshot.test}.items():
        if rows.shape[1:] != event:
            raise DataError(
                f"{part} rows{at} have shape {tuple(rows.shape[1:])}, training rows {event}.", "Give both parts rows of one shape."
            )
    if len(snapshot.train) < 2:
        raise DataError(
            f"There are too few training rows{at}: {len(snapshot.train)}, and at least 2 are needed.",
            "Give more data, or hold out fewer rows.",
        )


def _not_later(times: Tensor) -> int | None:
    """Index of the first of `times` `(n,)` that is not finite or not after the previous one; None if there is none."""
    wrong = ~times.isfinite()
    wrong[1:] |= ~(times[1:] > times[:-1])
    return int(wrong.to(torch.uint8).argmax()) if wrong.any() else None


def _check_stored(data: Data) -> None:
    if data.stored is None:
        return
    if data.train_labels is not None:
        raise DataError("Rows that stay on the disk have no labels.", "Leave the labels out.")
    first = 0
    for block in data.training_blocks():
        check_finite(block, data.columns, "training", first)
        if data.kind == "image":
            check_pixels(block)
        first += len(block)


def _position(index: Sequence[int], names: Sequence[str]) -> str:
    match index:
        case [row, column]:
            return f"row {row}, column {column_name(column, names)}"
        case [row, time, column]:
            return f"path {row}, observation {time}, column {column_name(column, names)}"
        case [row, channel, line, column]:
            return f"image {row}, channel {channel}, pixel ({line}, {column})"
        case _:
            return f"position {tuple(index)}"
