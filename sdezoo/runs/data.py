"""Data as a user has them.

A `Dataset` plugin loads `Data` in the user's own units: images in [0, 1], tables and points as they are.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import IO, ClassVar, Literal

import numpy as np
import psutil
import torch
from torch import Tensor

from sdezoo.errors import DataError, RunError, SdezooError
from sdezoo.parameters import Plugin

Kind = Literal["image", "table", "points"]

LARGEST = 8 * 2**30
"""Bytes of float32 that data which are held in memory as a whole may take."""
SHARE = 4
"""Memory that the reading of such data takes at most, over their bytes of float32: as stored, converted, and split."""
DEFLATE = 1032
"""The highest ratio that deflate, in .npz, .gz and .png, reaches."""

_BLOCK = 2**24  # bytes of float32 that are looked at together
_CHUNK = 2**18  # bytes read at a time from what may be shorter than it says
_CLASSES = 2**16
_WHOLE = 2.0**62


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
class Data:
    """A data set in the user's own units.

    Args:
        train: (N, *event), float32. Images (N, C, H, W) in [0, 1]; tables and points (N, d).
        test: held out, of the same event; may have no rows.
        kind: what a row is.
        columns: the d names of a table's columns, else empty.
        train_labels: (N,) int64, class numbers from 0, or None.
        test_labels: likewise for `test`.
        levels: the data's own lattice: values are multiples of 1/levels (8-bit images: 255); None where continuous.
        types: what a table's columns were before they were made float32, as NumPy names it; empty: float32. For `typed`.
        stored: all training rows, where there are more than memory should hold: then `train` is a random part of them, which
            statistics are taken of, and there are no labels.
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

    @property
    def rows(self) -> int:
        """How many training rows there are."""
        return len(self.train if self.stored is None else self.stored)

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self.train.shape[1:])

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value: 0 and 1 for images, else (d,) each, over all rows; for `out_of_range`."""
        if self.kind == "image":
            return torch.tensor(0.0), torch.tensor(1.0)
        low, high = zip(*((block.amin(0), block.amax(0)) for block in self.blocks()), strict=True)
        return torch.stack(low).amin(0), torch.stack(high).amax(0)

    def blocks(self) -> Iterator[Tensor]:
        """All rows, training and held out, block by block of some megabytes; none is empty."""
        return chain(self.training_blocks(), _blocks(self.test))

    def training_blocks(self) -> Iterator[Tensor]:
        """All training rows, likewise; what is stored is read once more."""
        if self.stored is None:
            return _blocks(self.train)
        numbers = range(0, len(self.stored), size := _rows(self.event))
        return (self.stored[torch.arange(first, min(first + size, len(self.stored)))] for first in numbers)


class Dataset(Plugin, ABC):
    """Where data come from: the fields are the hyper-parameters, `load` reads."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Lower-case endings of the file names that this plugin reads, `""` for a directory; it then has a field `path`."""

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
            return "" in cls.suffixes
        return Path(path).name.lower().endswith(tuple(filter(None, cls.suffixes)))


def typed(values: np.ndarray, kind: str, name: str) -> np.ndarray:
    """Samples of one column, as the dtype that NumPy calls `kind`; whole numbers are rounded, in int64 where `kind` is too small.

    Raises:
        RunError: where int64 is too small, with the column's `name`.
    """
    dtype = np.dtype(kind)
    if dtype.kind not in "iu":
        return values.astype(dtype)
    low, high = values.min(initial=0), values.max(initial=0)
    if not -_WHOLE <= low <= high <= _WHOLE:
        raise RunError(
            f"'{name}' is a column of whole numbers, and its samples reach from {low:g} to {high:g}, too far for int64.",
            "Write a .npy, which keeps them as they are, or train longer.",
        )
    whole = values.astype(np.float64).round().astype(np.int64)
    return whole.astype(dtype) if np.iinfo(dtype).min <= whole.min(initial=0) and whole.max(initial=0) <= np.iinfo(dtype).max else whole


def out_of_range(samples: Tensor, low: Tensor, high: Tensor) -> int:
    """How many values of `samples` (n, *event), in the user's units, lie outside [low, high]; nothing is changed."""
    low, high = low.to(samples.device, samples.dtype), high.to(samples.device, samples.dtype)
    return int(((samples < low) | (samples > high)).sum())


def split(
    values: Tensor,
    kind: Kind,
    *,
    holdout: float,
    labels: Tensor | None = None,
    columns: tuple[str, ...] = (),
    levels: int | None = None,
    types: tuple[str, ...] = (),
) -> Data:
    """`Data` with the fraction `holdout` of the rows of `values` held out: the same rows every time, in their order."""
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    held = round(holdout * len(values))
    test, train = order[:held].sort().values, order[held:].sort().values
    train_labels, test_labels = (None, None) if labels is None else (labels[train], labels[test])
    return Data(values[train], values[test], kind, columns, train_labels, test_labels, levels, types)


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


def _rows(event: Sequence[int]) -> int:
    """How many rows are looked at together."""
    return max(1, _BLOCK // max(1, 4 * math.prod(event)))


def _blocks(rows: Tensor) -> Iterator[Tensor]:
    # `split` makes one empty block of no rows.
    return (block for block in rows.split(_rows(rows.shape[1:])) if len(block))


def _position(index: Sequence[int], names: Sequence[str]) -> str:
    match index:
        case [row, column]:
            return f"row {row}, column {column_name(column, names)}"
        case [row, channel, line, column]:
            return f"image {row}, channel {channel}, pixel ({line}, {column})"
        case _:
            return f"position {tuple(index)}"
