"""NumPy's own files: headers are checked against what the file can hold before anything is allocated; no pickles."""

import io
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, ClassVar

import numpy as np
import torch
from torch import Tensor

from sdezoo.errors import DataError
from sdezoo.parameters import Fraction
from sdezoo.runs.data import Data, Dataset, Kind, check_finite, check_pixels, check_size, reading, split

_CHANNELS = (1, 3, 4)
_DEFLATE = 1032  # the highest ratio that deflate reaches
_FAILURES = (zipfile.BadZipFile, zlib.error, RuntimeError, TypeError, SyntaxError, TokenError)  # NumPy parses headers


@dataclass(frozen=True)
class Array(Dataset):
    """NumPy arrays, .npy or .npz: images or points.

    Images are uint8, or floating in [0, 1]: (N, H, W), (N, H, W, C) or (N, C, H, W), with C one of 1, 3, 4 (where both
    layouts fit, uint8 is read as channels last, floats as channels first). Points are (N, d), of any real dtype. A file
    .npz holds x_train and, if it has them, x_test, y_train, y_test; or x and y; or one array of any name. Labels are
    whole numbers from 0.

    Args:
        path: the file.
        holdout: fraction of the rows that are held out where there is no x_test; the same rows every time.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".npz", ".npy")

    path: str
    holdout: Fraction = 0.1

    def load(self) -> Data:
        with reading(self.path, "a NumPy file", *_FAILURES):
            arrays = _arrays(Path(self.path))
            values, kind, levels = _values(arrays["x_train"])
            labels = _labels(arrays.get("y_train"), len(values))
            if "x_test" not in arrays:
                return split(values, kind, holdout=self.holdout, labels=labels, levels=levels)
            test, test_kind, test_levels = _values(arrays["x_test"])
            if (test.shape[1:], test_kind, test_levels) != (values.shape[1:], kind, levels):
                raise DataError(
                    f"In '{self.path}', x_test differs from x_train in shape or type.",
                    "Store both parts in the same way.",
                )
            test_labels = _labels(arrays.get("y_test"), len(test))
            return Data(values, test, kind, train_labels=labels, test_labels=test_labels, levels=levels)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays by their role: x_train, and those of x_test, y_train, y_test that exist."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            return {"x_train": _array(file, path, path.stat().st_size)}
        with zipfile.ZipFile(file) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            return {role: _member(archive, members[key], path) for role, key in _roles(tuple(members), path).items()}


def _roles(keys: tuple[str, ...], path: Path) -> dict[str, str]:
    if "x_train" in keys:
        return {key: key for key in ("x_train", "x_test", "y_train", "y_test") if key in keys}
    if "x" in keys:
        return {"x_train": "x"} | ({"y_train": "y"} if "y" in keys else {})
    if len(keys) == 1:
        return {"x_train": keys[0]}
    raise DataError(
        f"'{path}' has no array x_train or x ({'it holds ' + ', '.join(keys[:5]) if keys else 'it is empty'}).",
        "Store the data as x_train (and x_test, y_train, y_test), or as x (and y).",
    )


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    info = archive.getinfo(name)
    if info.file_size > _DEFLATE * info.compress_size:
        raise DataError(f"'{path}' promises more data than it can hold.", "Give a file that is not damaged.")
    with archive.open(info) as file:
        return _array(file, path, info.file_size)


def _array(file: IO[bytes], path: Path, size: int) -> np.ndarray:
    """The .npy file of `size` bytes whose first byte is next."""
    head = io.BytesIO(file.read(65_536))
    version = np.lib.format.read_magic(head)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if header is None:
        raise DataError(f"'{path}' is of an unknown .npy version, {version}.", "Store a plain array of numbers.")
    shape, fortran, dtype = header(head)
    if dtype.kind not in "fiu":
        raise DataError(f"'{path}' holds {dtype}, not numbers.", "Store uint8, integers or floats; pickled objects are never read.")
    count = math.prod(shape)
    check_size(path, count)
    if head.tell() + count * dtype.itemsize != size:
        raise DataError(
            f"'{path}' promises an array {shape} of {dtype}, but has {size - head.tell()} bytes for it.",
            "Give a file that is not damaged or cut off.",
        )
    return _filled(count * dtype.itemsize, head, file).view(dtype).reshape(shape, order="F" if fortran else "C")


def _filled(size: int, *sources: IO[bytes]) -> np.ndarray:
    """The next `size` bytes of the sources, one after another."""
    data, filled = np.empty(size, np.uint8), 0
    for source in sources:
        while count := len(chunk := source.read(min(2**20, size - filled))):
            data[filled : filled + count] = np.frombuffer(chunk, np.uint8)
            filled += count
    if filled < size:
        raise EOFError("it ends early")
    return data


def _values(array: np.ndarray) -> tuple[Tensor, Kind, int | None]:
    """As float32, with its kind and lattice."""
    if array.size == 0:
        raise DataError(f"The array is empty, of shape {array.shape}.", "Give at least two rows.")
    if array.ndim == 2:
        return _finite(array), "points", None
    if array.ndim not in (3, 4):
        raise DataError(
            f"The array has shape {array.shape}, which is neither points (N, d) nor images.",
            "Store points as (N, d), images as (N, H, W), (N, H, W, C) or (N, C, H, W).",
        )
    if array.dtype == np.uint8:
        return torch.from_numpy(_channels_first(array, -1).astype(np.float32)) / 255, "image", 255
    if array.dtype.kind != "f":
        raise DataError(f"Images of {array.dtype} have no known range.", "Store them as uint8, or as floats in [0, 1].")
    values = _finite(_channels_first(array, 1))
    check_pixels(values)
    return values, "image", None


def _finite(array: np.ndarray) -> Tensor:
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused by the next line, with its position
        values = torch.from_numpy(np.ascontiguousarray(array, np.float32))
    check_finite(values)
    return values


def _channels_first(array: np.ndarray, preferred: int) -> np.ndarray:
    if array.ndim == 3:
        return array[:, None]
    for axis in (preferred, -1 if preferred == 1 else 1):
        if array.shape[axis] in _CHANNELS:
            return np.moveaxis(array, axis, 1)
    raise DataError(f"Images of shape {array.shape} have no axis of 1, 3 or 4 channels.", "Store (N, H, W, C) or (N, C, H, W).")


def _labels(array: np.ndarray | None, rows: int) -> Tensor | None:
    if array is None:
        return None
    if array.dtype.kind not in "iu" or array.size != rows or array.shape[:1] != (rows,) or array.min() < 0:
        raise DataError(
            f"The labels are {array.dtype} of shape {array.shape}, not a whole number from 0 for each of {rows} rows.",
            "Store class numbers of shape (N,), or leave the labels out.",
        )
    return torch.from_numpy(array.reshape(rows).astype(np.int64))
