"""Snapshots of a population: points, each with its time of observation, in an array file."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.dataset import Data, Dataset
from sdezoo.data.formats import ArrayFormat
from sdezoo.data.reading import reading
from sdezoo.data.snapshots import by_time
from sdezoo.data.validation import check_finite
from sdezoo.errors import DataError
from sdezoo.parameters import Count, Fraction
from sdezoo.zoo.datasets import find_dataset
from sdezoo.zoo.formats import find_format
from sdezoo.zoo.registry import FORMATS

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Snapshots(Dataset):
    """Points with times, from an .npz with arrays x (N, d) and time (N,): rows of one time are a snapshot, not paired with others.

    Times count from the first one. Both arrays are of any real dtype. Or a folder with a file of points for each snapshot: its time is the
    number in its name, such as day3.5.npy; if no name has a number, files are at times 0, 1, 2, … in the order of their names.
    """

    path: str
    """Path of the file, or of the folder."""
    holdout: Fraction = 0.1
    """Fraction of the rows of each snapshot that are held out; the same rows every time."""
    without: tuple[float, ...] = ()
    """Times of snapshots to leave out, as they stand in the file, to test interpolation against them."""
    columns: Count | None = None
    """Number of leading columns to keep, such as the first principal components; None: all."""

    def load(self) -> Data:
        path = Path(self.path)
        x, time = _of_folder(path) if path.is_dir() else _of_file(path)
        if x.ndim == 2 and self.columns is not None:
            if self.columns > x.shape[1]:
                raise DataError(f"'{path}' has {x.shape[1]} columns, fewer than {self.columns}.", "Keep fewer columns.")
            x = x[:, : self.columns]
        check_finite(x)
        return by_time(x, time, holdout=self.holdout, without=self.without)


def _of_file(path: Path) -> tuple[Tensor, Tensor]:
    """Points and their times."""
    with reading(path, "a NumPy file"):
        form: ArrayFormat = find_format(path, ArrayFormat) or FORMATS.build("npz")
        arrays = form.read(path, _chosen)
    x, time = (torch.from_numpy(np.ascontiguousarray(arrays[key], dtype)) for key, dtype in (("x", np.float32), ("time", np.float64)))
    return x, time


def _of_folder(path: Path) -> tuple[Tensor, Tensor]:
    """Points and their times, from a file for each snapshot."""
    with reading(path, "a folder"):
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if len(files) < 2:
        raise DataError(f"'{path}' holds {len(files)} files, and a bridge needs two snapshots.", "Give a file for each snapshot.")
    numbers = [_NUMBER.findall(file.stem) for file in files]
    odd = next((file for file, found in zip(files, numbers, strict=True) if len(found) != 1), None)
    if any(numbers) and odd:
        raise DataError(
            f"The name of '{odd}' does not have one number, its time.", "Name every file by its time, such as day3.npy, or none."
        )
    times = [float(found[0]) if found else float(k) for k, found in enumerate(numbers)]
    if len(set(times)) < len(times):
        raise DataError(f"Two files in '{path}' have the same time.", "Give each snapshot one file.")
    parts = [_points(file) for file in files]
    for file, part in zip(files, parts, strict=True):
        if part.shape[1:] != parts[0].shape[1:]:
            raise DataError(
                f"The rows in '{file}' have {part.shape[1]} columns, and those in '{files[0]}' have {parts[0].shape[1]}.",
                "Give every snapshot the same columns.",
            )
    return torch.cat(parts), torch.cat([torch.full((len(part),), at, dtype=torch.float64) for part, at in zip(parts, times, strict=True)])


def _points(file: Path) -> Tensor:
    data = find_dataset(str(file)).load()
    if data.train.ndim != 2 or data.types or data.later or data.stored is not None:
        raise DataError(f"'{file}' does not hold points in memory.", "Store points (N, d) of numbers, in an .npy or .npz.")
    return torch.cat([data.train, data.test])


def _chosen(keys: tuple[str, ...]) -> tuple[str, ...]:
    if "x" not in keys or "time" not in keys:
        found = ", ".join(keys[:5]) or "nothing"
        raise DataError(f"The file holds {found}, and not x and time.", "Store points as x (N, d), and the time of each as time (N,).")
    return "x", "time"
