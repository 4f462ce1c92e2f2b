"""Arrays in any installed array format: images, points or paths. Large files stay on disk if their format allows it."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Generator, Tensor

from sdezoo.data.arrays import Header, MappedRows
from sdezoo.data.dataset import Data, Dataset, Kind, split
from sdezoo.data.formats import ArrayFormat
from sdezoo.data.opening.labels import labels as named
from sdezoo.data.pixels import examined
from sdezoo.data.reading import reading
from sdezoo.data.validation import check_close, check_finite, check_pixels, check_times, to_unit
from sdezoo.errors import DataError
from sdezoo.parameters import Fraction, Positive
from sdezoo.zoo.formats import endings, find_format
from sdezoo.zoo.registry import FORMATS

IN_MEMORY = 2**30
"""Size in bytes, as float32, up to which a .npy is read into memory."""
PART = 2**26
"""Upper bound in bytes, as float32, on the held-out rows of a larger .npy, and on the rows that its statistics are computed from."""

_LARGEST = {np.dtype(bool): 1, np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
_PART_ROWS = 2**20
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Array(Dataset):
    """NumPy arrays, .npy or .npz: images, points or paths.

    Images are uint8, uint16, or floating in [0, 1], of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with C one of 1, 3, 4. If both layouts
    fit, integers are read as channels last, floats as channels first. Points are (N, d), or (N,) with one column, of any real dtype. An
    .npz holds one of: x_train with optional x_test, y_train and y_test; x with optional y; a single array of any name. Labels are whole
    numbers from 0, or texts, other whole numbers or Booleans, which name the classes.

    Paths are (N, T, d), of any real dtype, in an .npz that also holds their observation times, increasing: times, (T,), or (N, T) if each
    path has its own; beside x_test then test_times.

    A .npy in C order of more than 1 GiB as float32 stays on disk, and its rows are read on demand. Statistics then come from a random
    sample of rows, the same every time: at most 64 MiB and one million rows. Every row is checked for NaN, infinities and range.
    """

    path: str
    """Path of the file."""
    holdout: Fraction = 0.1
    """Fraction of the rows that are held out if there is no x_test; the same rows every time. At most 64 MiB and one million rows of a .npy
    that stays on disk."""
    maximum: Positive | None = None
    """Largest value that a pixel can have: images are divided by it. none: 255 for uint8, 65535 for uint16, 1 for floats."""

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return endings(ArrayFormat)

    def load(self) -> Data:
        path = Path(self.path)
        with reading(path, "a NumPy file"):
            form: ArrayFormat = find_format(path, ArrayFormat) or FORMATS.build("npy")
            found = form.header(path)
            if found and 4 * math.prod(found.shape) > IN_MEMORY:
                return self._stored(path, found)
            return self._whole(form.read(path, lambda keys: _roles(keys, path).values()))

    def _whole(self, arrays: dict[str, np.ndarray]) -> Data:
        """The data from arrays in memory, keyed by their names."""
        data = examined(replace(self._parts(arrays), maximum=self.maximum))
        check_times(data)
        return data

    def _parts(self, arrays: dict[str, np.ndarray]) -> Data:
        arrays = {role: arrays.pop(key) for role, key in _roles(tuple(arrays), Path(self.path)).items()}
        labels, test_labels = arrays.get("y_train"), arrays.get("y_test")
        times = _times(arrays["times"]) if "times" in arrays else None
        values, kind, levels = self._checked(arrays.pop("x_train"), paths=times is not None)
        if "x_test" not in arrays:
            numbers, _, names = _classes(labels, len(values))
            return split(values, kind, holdout=self.holdout, labels=numbers, levels=levels, times=times, class_names=names)
        test, test_kind, test_levels = self._checked(arrays.pop("x_test"), paths=times is not None)
        if (test.shape[1:], test_kind, test_levels) != (values.shape[1:], kind, levels):
            raise DataError(
                f"In '{self.path}', x_test differs from x_train in shape or type.",
                "Store both parts with the same shape and dtype.",
            )
        labels, test_labels, names = _classes(labels, len(values), test_labels, len(test))
        own = _times(arrays["test_times"]) if "test_times" in arrays else None
        known = {"train_labels": labels, "test_labels": test_labels, "class_names": names}
        return Data(values, test, kind, levels=levels, times=times, test_times=own, **known)

    def _checked(self, array: np.ndarray, *, paths: bool) -> tuple[Tensor, Kind, int | None]:
        """As `_values`, with empty arrays and bad values rejected; `paths`: the array has observation times."""
        if array.size == 0:
            raise DataError(f"The array is empty, of shape {array.shape}.", "Give at least two rows.")
        if paths and array.ndim != 3:
            raise DataError(
                f"The array has shape {array.shape}, not paths (N, T, d), but the file has observation times.",
                "Store paths as (N, T, d), or leave out times.",
            )
        values, kind, levels = (_float32(array), "paths", None) if paths else _values(array, self.maximum)
        check_finite(values)
        if kind == "points":
            check_close(array.reshape(values.shape))
        if kind == "image":
            if array.ndim == 3:
                _check_no_paths(array, values)
            check_pixels(values, self.maximum or 1)
        return values, kind, levels

    def _stored(self, path: Path, found: Header) -> Data:
        """The data from a .npy that stays on disk."""
        (rows, *event), generator = found.shape, Generator().manual_seed(0)
        event = event or [1]
        _, kind, levels = _values(np.empty((1, *event), found.dtype), self.maximum)
        most = min(_PART_ROWS, max(1, PART // (4 * math.prod(event))))
        held = torch.randint(rows, (min(round(self.holdout * rows), most),), generator=generator).unique()
        stored = MappedRows(path, lambda array: _values(array, self.maximum)[0], held)
        drawn = torch.randint(len(stored), (min(len(stored), most),), generator=generator).unique()
        if kind == "points":
            check_close(np.memmap(path, found.dtype, "r", found.start, (rows, *event))[drawn.numpy()])
        return Data(stored[drawn], stored.at(held), kind, levels=levels, stored=stored)


def _roles(keys: tuple[str, ...], path: Path) -> dict[str, str]:
    if "x_train" in keys:
        return {key: key for key in ("x_train", "x_test", "y_train", "y_test", "times", "test_times") if key in keys}
    if "x" in keys:
        return {"x_train": "x"} | {role: key for role, key in (("y_train", "y"), ("times", "times")) if key in keys}
    if len(keys) == 1:
        return {"x_train": keys[0]}
    raise DataError(
        f"'{path}' has no array x_train or x ({'it holds ' + ', '.join(keys[:5]) if keys else 'it is empty'}).",
        "Store the data as x_train (and x_test, y_train, y_test), or as x (and y).",
    )


def _values(array: np.ndarray, maximum: float | None) -> tuple[Tensor, Kind, int | None]:
    """The array as float32, its kind, and the number of its levels."""
    if array.ndim in (1, 2):
        return _float32(array[:, None] if array.ndim == 1 else array), "points", None
    if array.ndim not in (3, 4):
        raise DataError(
            f"The array has shape {array.shape}, neither points (N, d) nor images.",
            "Store points as (N, d), images as (N, H, W), (N, H, W, C) or (N, C, H, W).",
        )
    if array.dtype.kind == "f":
        values = _float32(_channels_first(array, 1))  # the file itself, if it is mapped
        return values if maximum is None else values / maximum, "image", None
    largest = maximum or _LARGEST.get(array.dtype)
    if largest is None or not float(largest).is_integer():
        raise DataError(
            f"Images of {array.dtype} have no known range.",
            "Store them as uint8 or uint16, as floats in [0, 1], or give their largest value, a whole number: maximum=4095.",
        )
    return _float32(_channels_first(array, -1)).div_(largest), "image", int(largest)


def _check_no_paths(array: np.ndarray, values: Tensor) -> None:
    """Reject paths without times, which have the shape of grey images: fractions beyond [0, 1]."""
    low, high = map(float, values.aminmax())
    if (low < 0 or high > 1) and (values != values.round()).any():
        raise DataError(
            f"The array has shape {array.shape} and fractions from {low:g} to {high:g}: grey images lie in [0, 1], and paths need times.",
            f"Store paths (N, T, d) as x in an .npz, their times (T,) as times, or pixels in [0, 1], such as {to_unit(low, high)}.",
        )


def _float32(array: np.ndarray) -> Tensor:
    if array.dtype.kind == "U":
        raise DataError("The array holds texts, not numbers.", "Store uint8, integers or floats; texts can be labels: y.")
    with np.errstate(over="ignore"):  # values that overflow float32 are rejected later, with their position
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _channels_first(array: np.ndarray, preferred: int) -> np.ndarray:
    if array.ndim == 3:
        return array[:, None]
    for axis in (preferred, -1 if preferred == 1 else 1):
        if array.shape[axis] in _CHANNELS:
            return np.moveaxis(array, axis, 1)
    raise DataError(f"Images of shape {array.shape} have no axis of 1, 3 or 4 channels.", "Store (N, H, W, C) or (N, C, H, W).")


def _times(array: np.ndarray) -> Tensor:
    """Observation times, float64."""
    return torch.from_numpy(np.ascontiguousarray(array, np.float64))


def _classes(
    labels: np.ndarray | None, rows: int, test: np.ndarray | None = None, test_rows: int = 0
) -> tuple[Tensor | None, Tensor | None, tuple[str | int, ...]]:
    """Class indices of training and held-out rows, and the names of the classes; none if the labels are indices already."""
    given = [(one, count) for one, count in ((labels, rows), (test, test_rows)) if one is not None]
    for one, count in given:
        if one.size != count or one.shape[:1] != (count,):
            raise DataError(
                f"The labels are {one.dtype} of shape {one.shape}, not one for each of {count} rows.",
                "Store one label for each row, of shape (N,), or leave the labels out.",
            )
    plain = all(one.dtype.kind in "iu" and one.min(initial=0) >= 0 for one, _ in given)
    if plain or labels is None:
        first, second = (None if one is None else torch.from_numpy(one.reshape(-1).astype(np.int64)) for one in (labels, test))
        return first, second, ()
    found = named(pa.array(np.concatenate([one.reshape(-1) for one, _ in given])), "the labels y")
    return found.numbers[:rows], None if test is None else found.numbers[rows:], found.names
