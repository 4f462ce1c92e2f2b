"""Windows cut from long series: a table with a row for each step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.lib.stride_tricks import sliding_window_view

from sdezoo.data.column_types import NumberType, offset_of, or_numbers
from sdezoo.data.conversion import Columns
from sdezoo.data.dataset import Data, Dataset
from sdezoo.data.formats import SERIES, STEP, TableFormat
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.inference import is_numeric
from sdezoo.data.tables import columns
from sdezoo.data.validation import check_close
from sdezoo.errors import DataError, listed, shortened
from sdezoo.parameters import Count, Fraction, Positive
from sdezoo.zoo.formats import find_format
from sdezoo.zoo.registry import FORMATS

_LARGEST = 2**30
"""Largest size of all windows, in bytes."""
_USUAL, _SHARE = 0.2, 0.5
"""At least half of the steps in time must be within 20 % of the usual one."""
_HELD, _MOST_HELD = 0.1, 0.5
"""The fraction of rows that are held out by default, and the most of them if a window takes more."""


@dataclass(frozen=True)
class Series(Dataset):
    """Windows cut from long series: a table with a row for each step.

    The columns of numbers are the channels of one series, or of several, told apart by a column `key`. A column of dates, or the column
    `time`, must increase within each series, and is left out. Rows with missing values are left out; windows never cross a gap in
    time, or without times a missing row. The last part of the time is held out, and no training window shares a step with a held-out one.
    Without dates, whole numbers that increase in every row, mostly in equal steps, are the times.

    Prices are learned relative to the start of their window: each window is divided by its first value, and samples start at 1.
    """

    path: str
    """Path of the table: text, .parquet or .xlsx."""
    window: Count = 64
    """Steps of a window."""
    stride: Count = 1
    """Steps between the starts of two windows."""
    columns: tuple[str, ...] = ()
    """Columns to learn; empty: all columns of numbers but key and time."""
    key: str | None = None
    """Column that tells series apart."""
    time: str | None = None
    """Column of times; none: the first column of dates, or of whole numbers that count time, if there is one."""
    form: Literal["growth", "level", "real"] | None = None
    """What is learned: growth, the factor of each step; level, the value relative to the start; real, the values. none: growth if all
    values are positive, else real."""
    holdout: Fraction | None = None
    """Fraction of the rows that are held out, the latest ones; none: a tenth, or if that is too few, what one window takes."""
    embargo: int | None = None
    """Steps left out between training and held-out rows; none: one window."""
    longest_gap: Positive = 7.0
    """Longest step in time within a window, in units of the usual one: the default takes days without weekends as regular."""
    separator: str | None = None
    """As for `table`."""
    decimal: str | None = None
    """As for `table`."""
    thousands: str | None = None
    """As for `table`."""
    missing: tuple[str, ...] = ()
    """As for `table`."""

    def load(self) -> Data:
        path, notes = Path(self.path), []
        form = find_format(path, TableFormat) or FORMATS.build("csv")
        table = form.open(path, Dialect.of(self), notes.append)
        if table is None:
            raise DataError(f"The format of '{path}' has no series.", "Convert it to .csv or .parquet.")
        if self.window < 2:
            raise DataError(f"A window of {self.window} step is no series.", "Give window at least 2.")
        style, found = form.style(path, table, Dialect.of(self)), columns(path, table)
        if self.key is not None:
            _check_named([self.key], found.names, "key")
        series = self._series(found)
        time = self._time(table)
        counting = self._counting(table, found, series, time)
        if time is None and counting:
            time = next(iter(counting))
            notes.append(f"The column '{time}' increases in every row, mostly in equal steps, so it is taken for time.")
        left = [name for name, even in counting.items() if even and name != time]
        notes += [f"{listed(left)} left out: whole numbers that count the rows."] if left else []
        names = self._names(found, (self.key, time, *left))
        if reserved := {SERIES, STEP} & set(names):
            raise DataError(f"The column '{min(reserved)}' has a name that tables of samples use.", "Rename it.")
        places = [found.names.index(name) for name in names]
        every = or_numbers(found.types, len(found.names))
        kinds = [every[place] for place in places]
        values = found.values[:, places].numpy().astype(np.float64) + [offset_of(kind) for kind in kinds]
        infinite = int(np.isinf(values).sum())
        if infinite:
            raise DataError(f"{infinite} values of '{path}' are infinite or too large for float32.", "Remove these rows.")
        if constant := [name for name, column in zip(names, values.T, strict=True) if len(np.unique(column[~np.isnan(column)])) == 1]:
            others = ",".join(name for name in names if name not in constant)
            raise DataError(
                f"The column '{constant[0]}' is constant, which no series needs a model for.",
                f"Leave it out: columns=({others})." if others else "Give a column whose values differ.",
            )
        times = None if time is None else _numbers(table.column(time), time)
        learned = self.form or ("growth" if not (values <= 0).any() else "real")
        if learned != "real" and (wrong := int((values <= 0).sum())):
            raise DataError(
                f"{wrong} values of the series are zero or negative, and have no growth.", "Give form=real, or leave these columns out."
            )
        if learned == "real":
            check_close(values[~np.isnan(values).any(1)], names)
        stretches, broken = self._stretches(series, times, values)
        notes += broken
        held = self._held(stretches)
        train, test = self._windows(stretches, values, self._cut(series, times, len(values), held), held, path)
        if learned != "real":
            train, test = train / train[:, :1], test / test[:, :1]
            notes.append("Each window is divided by its first value; samples start at 1.")
            style = style and replace(style, decimals={})  # those of the values are not those of their ratios
        notes.append(
            f"{len(train)} windows of {self.window} steps of {', '.join(names)} for training, {len(test)} later held out"
            + (f", {len(series)} series." if len(series) > 1 else ".")
        )
        types = tuple(NumberType("float32") if offset_of(kind) else kind for kind in kinds) if learned == "real" else ()
        parts = [torch.from_numpy(np.ascontiguousarray(part, np.float32)) for part in (train, test)]
        overlap = -(-self.window // self.stride)
        return Data(parts[0], parts[1], "series", tuple(names), types=types, notes=tuple(notes), form=learned, overlap=overlap, style=style)

    def _time(self, table: pa.Table) -> str | None:
        if self.time is not None:
            _check_named([self.time], table.column_names, "time")
            return self.time
        return next((field.name for field in table.schema if pa.types.is_temporal(field.type)), None)

    def _counting(self, table: pa.Table, found: Columns, series: Sequence[np.ndarray], time: str | None) -> dict[str, bool]:
        """The columns of whole numbers that increase in every row, at least half in equal steps, and whether all are equal. None if there
        are no others to learn."""
        numbers = [name for name in _numbered(found) if name not in (self.key, time, *self.columns)]
        counting = {}
        for name in numbers:
            column = table.column(name)
            if not pa.types.is_integer(column.type) or column.null_count:
                continue
            steps = np.concatenate([np.diff(column.to_numpy()[rows]) for rows in series])
            equal = steps == np.median(steps) if len(steps) else np.zeros(0, bool)
            if len(steps) and (steps > 0).all() and equal.mean() >= _SHARE:
                counting[name] = bool(equal.all())
        return counting if self.columns or len(numbers) > len(counting) else {}

    def _names(self, found: Columns, left: Sequence[str | None]) -> list[str]:
        _check_named(self.columns, found.names, "columns")
        numbers = _numbered(found)
        chosen = list(self.columns) or [name for name in numbers if name not in left]
        words = [name for name in chosen if name not in numbers]
        if words or not chosen:
            what = f"The column '{words[0]}' does not hold numbers" if words else f"'{self.path}' has no column of numbers"
            raise DataError(f"{what}.", "Name the columns of the series: columns=(open,close).")
        return chosen

    def _series(self, found: Columns) -> list[np.ndarray]:
        """The rows of each series, in the order of the file."""
        if self.key is None:
            return [np.arange(len(found.values))]
        keys = found.values[:, found.names.index(self.key)].numpy()
        if np.isnan(keys).any():
            raise DataError(f"The column '{self.key}' has missing values.", "Name the series of each row.")
        return [np.flatnonzero(keys == key) for key in np.unique(keys)]

    def _stretches(self, series: Sequence[np.ndarray], times: np.ndarray | None, values: np.ndarray) -> tuple[list[np.ndarray], list[str]]:
        """The rows of each stretch without a gap or a missing value, and notes."""
        missing = np.asarray(np.isnan(values).any(1))
        usual = None if times is None else self._usual_step(series, times)
        stretches, gaps = [], 0
        for every in series:
            places = np.flatnonzero(~missing[every])
            rows = every[places]
            # Where times are known, they tell whether a missing row leaves a gap.
            breaks = np.diff(places) > 1 if times is None or usual is None else np.diff(times[rows]) > self.longest_gap * usual
            gaps += int(breaks.sum())
            stretches += [part for part in np.split(rows, 1 + np.flatnonzero(breaks)) if len(part)]
        notes = [f"{int(missing.sum())} of {len(values)} rows have missing values, and are left out."] if missing.any() else []
        notes += [f"Windows do not cross {gaps} gap{'s' * (gaps > 1)}."] if gaps else []
        longest = max(map(len, stretches), default=0)
        if longest < self.window:
            raise DataError(
                f"A window of {self.window} steps is longer than the longest series without a gap, which has {longest}.",
                f"Give window at most {longest}, or fill in what is missing." if longest > 1 else "Fill in what is missing.",
            )
        return stretches, notes

    def _usual_step(self, series: Sequence[np.ndarray], times: np.ndarray) -> float:
        steps = []
        for rows in series:
            step = np.diff(times[rows])
            if (step <= 0).any():
                row = int(rows[1:][step <= 0][0])
                raise DataError(
                    f"The times do not increase: that of row {row} (counted from 0) is not later than the one before.",
                    "Sort the rows by time, or name the column that tells series apart: key=COLUMN.",
                )
            steps.append(step)
        every = np.concatenate(steps)
        usual = float(np.median(every)) if len(every) else 1.0
        share = float((np.abs(every - usual) <= _USUAL * usual).mean()) if len(every) else 1.0
        if share < _SHARE:
            raise DataError(
                f"The steps in time are irregular: only {share:.0%} are near the usual one.",
                "Resample the series to equal steps, or leave out the column of times.",
            )
        return usual

    def _held(self, stretches: Sequence[np.ndarray]) -> float:
        """The fraction of rows that are held out."""
        if self.holdout is not None:
            return self.holdout
        least = self._least_held(stretches)
        return max(_HELD, least) if least <= _MOST_HELD else _HELD

    def _least_held(self, stretches: Sequence[np.ndarray]) -> float:
        """The fraction of rows that a held-out window takes, in hundredths."""
        return math.ceil(100 * (self.window + self._embargo) / max(map(len, stretches))) / 100

    def _cut(self, series: Sequence[np.ndarray], times: np.ndarray | None, count: int, held: float) -> tuple[np.ndarray, np.ndarray]:
        """Which rows are before the held-out part, and which in it, without the embargo."""
        if self._embargo < 0:
            raise DataError(f"embargo={self._embargo} is negative.", "Give embargo at least 0.")
        if held == 0:
            return np.ones(count, bool), np.zeros(count, bool)
        first = None if times is None else np.quantile(times, 1 - held, method="lower")
        before, after = np.zeros(count, bool), np.zeros(count, bool)
        for rows in series:
            at = round((1 - held) * len(rows)) if first is None or times is None else int(np.searchsorted(times[rows], first))
            before[rows[:at]] = True
            after[rows[at + self._embargo :] if at else rows] = True
        return before, after

    @property
    def _embargo(self) -> int:
        return self.window if self.embargo is None else self.embargo

    def _windows(
        self, stretches: Sequence[np.ndarray], values: np.ndarray, cut: tuple[np.ndarray, np.ndarray], held: float, path: Path
    ) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for name, inside, least in zip(("training", "held-out"), cut, (2, 1 if held else 0), strict=True):
            parts = [rows[inside[rows]] for rows in stretches]
            parts = [rows for rows in parts if len(rows) >= self.window]
            number = sum((len(rows) - self.window) // self.stride + 1 for rows in parts)
            if number < least:
                enough = self._least_held(stretches)
                wider = f"holdout={enough:g}" if name == "held-out" and held < enough < _MOST_HELD else "another holdout"
                raise DataError(
                    f"The {name} part of '{path}' has {number} window{'s' * (number != 1)} of {self.window} steps, with "
                    f"{self._embargo} steps left out between training and held-out rows.",
                    f"Give {wider}, a shorter window, or a smaller embargo; holdout=0 holds nothing out.",
                )
            if 4 * number * self.window * values.shape[1] > _LARGEST:
                raise DataError(f"{number} windows of {self.window} steps do not fit into 1 GiB.", "Give a larger stride.")
            cuts = [sliding_window_view(values[rows], self.window, axis=0)[:: self.stride] for rows in parts]
            whole = np.concatenate(cuts) if cuts else np.empty((0, values.shape[1], self.window))
            found.append(whole.transpose(0, 2, 1))
        return found[0], found[1]


def _numbered(found: Columns) -> list[str]:
    """The columns of numbers."""
    kinds = or_numbers(found.types, len(found.names))
    return [name for name, kind in zip(found.names, kinds, strict=True) if isinstance(kind, NumberType)]


def _check_named(names: Sequence[str], known: Sequence[str], field: str) -> None:
    if unknown := [name for name in names if name not in known]:
        raise DataError(f"There is no column '{unknown[0]}', given as {field}.", f"Choose from: {shortened(known)}.")


def _numbers(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Times as numbers, float64 or int64."""
    if column.null_count:
        raise DataError(f"The column of times '{name}' has {column.null_count} missing values.", "Fill them in, or leave these rows out.")
    kind = column.type
    if pa.types.is_temporal(kind):
        # Dates are counted in days; all other times in the unit of their type.
        column = column.cast(pa.int32()) if pa.types.is_date32(kind) or pa.types.is_time32(kind) else column.cast(pa.int64())
    elif not is_numeric(kind):
        raise DataError(f"The column of times '{name}' holds neither numbers nor dates.", "Name a column of times: time=COLUMN.")
    found = column.to_numpy()
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise DataError(f"The column of times '{name}' has values that are not finite.", "Leave these rows out.")
    return found.astype(np.int64) if found.dtype.kind in "iu" else found
