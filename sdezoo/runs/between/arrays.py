"""Data from arrays and data frames: rows, the two ends of a bridge, snapshots with times, paths, and windows of series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.conversion import recoded
from sdezoo.data.dataset import Data
from sdezoo.data.opening.labels import Labels
from sdezoo.data.snapshots import by_time, joined
from sdezoo.errors import DataError, ParameterError
from sdezoo.runs.frames import Rows, read_labels, read_rows, series_form
from sdezoo.store.restoring import Trained


@dataclass(frozen=True, eq=False)
class Given:
    """What an estimator is fitted on.

    Args:
        data: the data.
        rows: the form in which they were given.
        labels: the class labels; None: none.
    """

    data: Data
    rows: Rows
    labels: Labels | None


def read_given(x: Any, y: Any, target: Any, times: Any, *, labelled: bool) -> Given:
    """Read the arguments of `fit`.

    Args:
        x: as for `sdezoo.runs.frames.read_rows`.
        y: class labels, read if `labelled`.
        target: rows at the other end of a bridge, as `x`; None: none.
        times: the time of each row, `(N,)`: `x` are then snapshots; or the times of paths `(N, T, d)`: `(T,)`, or `(N, T)`; None: none.
        labelled: whether labels are used.

    Raises:
        SdezooError: if the arguments are no such data, or do not fit together.
    """
    if target is not None and times is not None:
        raise ParameterError("Both target and times were given.", "Give the other end of a bridge, or the times of snapshots or paths.")
    rows = read_rows(x)
    if len(rows.values) == 1:
        raise DataError("There is 1 sample (n_samples=1), and at least 2 are needed.", "Give more rows.")
    if times is not None:
        return Given(_timed(rows, read_times(times)), rows, None)
    labels = read_labels(y, len(rows.values)) if labelled and y is not None else None
    data = _at_one_time(rows, labels)
    return Given(data if target is None else joined(data, _at_one_time(read_rows(target), None)), rows, labels)


def read_times(times: Any) -> Tensor:
    """Convert times to float64.

    Args:
        times: numbers in an array, a list, or a series of a data frame.

    Raises:
        DataError: if they are not numbers.
    """
    try:
        return torch.from_numpy(np.array(times, dtype=np.float64))
    except (TypeError, ValueError):
        raise DataError("The times are not an array of numbers.", "Give times as numbers, such as days since the first.") from None


def _at_one_time(rows: Rows, labels: Labels | None) -> Data:
    values, form = rows.values, None
    if values.ndim == 3:
        form = series_form(values)
        values = values / values[:, :1] if form == "growth" else values
    kind = "image" if values.ndim == 4 else "series" if values.ndim == 3 else "table" if rows.columns else "points"
    classes = None if labels is None else labels.numbers
    held_out = None if classes is None else classes[:0]
    names = () if labels is None else labels.names
    return Data(values, values[:0], kind, rows.columns, classes, held_out, types=rows.types, class_names=names, form=form)


def _timed(rows: Rows, times: Tensor) -> Data:
    values = rows.values
    if values.ndim == 3:
        return Data(values, values[:0], "paths", times=times, test_times=times[:0] if times.ndim == 2 else None)
    if values.ndim != 2:
        raise DataError("Images have no times here.", "Leave out times, or give the images of two times as X and target.")
    data = by_time(values, times, holdout=0)
    return replace(data, kind="table", columns=rows.columns, types=rows.types) if rows.columns else data


def read_like(x: Any, rows: Rows, trained: Trained, who: str) -> Tensor:
    """Read rows of the form that a model was fitted on.

    Args:
        x: the rows.
        rows: the rows that it was fitted on; their values are not used.
        trained: the model.
        who: what expects the rows, for the message.

    Returns:
        Rows `(n, *event)`, float32, in the user's units and the codes of the model.

    Raises:
        DataError: if they have another shape or other columns.
    """
    read, state = read_rows(x), trained.state
    values, columns, types = read.values, read.columns, read.types
    if columns and columns == rows.columns != state.columns:  # without the columns that training left out
        kept = [columns.index(name) for name in state.columns]
        values, columns, types = values[:, kept], state.columns, tuple(types[place] for place in kept)
    given, wanted = math.prod(values.shape[1:]) if len(values) else math.prod(state.event), math.prod(state.event)
    if given != wanted:
        features = math.prod(rows.values.shape[1:])
        raise DataError(f"X has {given} features, but {who} is expecting {features} features as input.", _ALIKE)
    if tuple(values.shape[1:]) != state.event or (columns and state.columns and columns != state.columns):
        raise DataError("The rows differ in shape or columns from the fitted data.", "Give the same columns in the same order.")
    if trained.encoding.starts_at_one:
        values = values / values[:, :1]
    return recoded(values, types, trained.encoding.types, columns) if columns and state.columns else values


def spaced(times: Sequence[float] | np.ndarray | Tensor) -> Tensor:
    """Read increasing times at which curves are recorded, float64, `(T,)`.

    Args:
        times: the times.

    Raises:
        ParameterError: if they do not increase.
    """
    found = read_times(times)
    if found.ndim != 1 or not len(found) or not bool(found.isfinite().all()) or not bool((found.diff() > 0).all()):
        raise ParameterError("The times of the curves do not increase.", "Give increasing times, such as [0, 0.5, 1].")
    return found


_ALIKE = "Give rows of the form that was fitted."
