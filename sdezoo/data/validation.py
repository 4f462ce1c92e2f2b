"""Whether data are what `Data` promises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.dataset import Data
from sdezoo.errors import DataError

_CLASSES = 2**16


def check(data: Data) -> None:
    """Whether `data` is what `Data` promises.

    Raises:
        DataError: NaN or infinite values first, then wrong shapes, fewer than two training rows, images outside [0, 1].
    """
    parts = {"training": data.train, "held-out": data.test}
    for part, values in parts.items():
        check_finite(values, data.columns, part)
    _check_stored(data)
    dims = 4 if data.kind == "image" else 2
    for part, values in parts.items():
        if values.ndim != dims or 0 in data.event:
            wanted = "(N, C, H, W)" if dims == 4 else "(N, d)"
            raise DataError(
                f"The {part} data have shape {tuple(values.shape)}, which is not {wanted} for kind '{data.kind}'.",
                f"Bring them into the shape {wanted}, one row for each sample.",
            )
    if data.test.shape[1:] != data.train.shape[1:]:
        raise DataError(
            f"Held-out rows have shape {tuple(data.test.shape[1:])}, training rows {data.event}.",
            "Give both parts rows of one shape.",
        )
    if len(data.train) < 2:
        raise DataError(
            f"There are too few training rows: {len(data.train)}, where 2 is the least.",
            "Give more data, or hold out fewer rows.",
        )
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
                f"The {part} labels reach from {int(labels.min())} to {int(labels.max())}; classes have numbers from 0, below {_CLASSES}.",
                "Number the classes anew, or leave the labels out.",
            )
    if data.kind == "image":
        for values in parts.values():
            check_pixels(values)


def check_finite(values: Tensor, columns: Sequence[str] = (), part: str = "", first: int = 0) -> None:
    """Refuse NaN and infinities in `values` (N, *event).

    Args:
        values: any floating dtype.
        columns: names, for messages; numbers where there are none.
        part: the part of the data, for messages.
        first: number of the first row, for messages.

    Raises:
        DataError: with how many there are and where the first is.
    """
    finite = values.isfinite()
    if finite.all():
        return
    missing, wrong = int(values.isnan().sum()), int((~finite).sum())
    parts = [f"{missing} missing (NaN)"] * (missing > 0) + [f"{wrong - missing} infinite (or too large for float32)"] * (wrong > missing)
    row, *position = map(int, np.unravel_index(int((~finite).flatten().to(torch.uint8).argmax()), finite.shape))
    raise DataError(
        f"The {part + ' ' if part else ''}data have {' and '.join(parts)} value{'s' * (wrong > 1)}, the first in "
        f"{_position([first + row, *position], columns)} (counted from 0).",
        "Remove or fill in these rows.",
    )


def check_pixels(values: Tensor) -> None:
    """Refuse images outside [0, 1].

    Raises:
        DataError: with the range found, and what to divide by.
    """
    if values.numel() == 0:
        return
    low, high = values.aminmax()
    if low < 0 or high > 1:
        divide = "Divide them by 255" if low >= 0 and high <= 255 else "Rescale them"
        raise DataError(
            f"Images must lie in [0, 1], and these reach from {low:g} to {high:g}.",
            f"{divide}, or store them as uint8.",
        )


def column_name(index: int, names: Sequence[str]) -> str:
    """A column as messages call it: its name in quotes, or its number."""
    return f"'{names[index]}'" if index < len(names) else str(index)


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
        case [row, channel, line, column]:
            return f"image {row}, channel {channel}, pixel ({line}, {column})"
        case _:
            return f"position {tuple(index)}"
