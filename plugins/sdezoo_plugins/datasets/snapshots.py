"""Snapshots of a population: points, each with its time of observation, in an array file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sdezoo.data.dataset import Data, Dataset
from sdezoo.data.formats import ArrayFormat
from sdezoo.data.reading import reading
from sdezoo.data.snapshots import by_time
from sdezoo.data.validation import check_finite
from sdezoo.errors import DataError
from sdezoo.parameters import Count, Fraction
from sdezoo.zoo.formats import find_format
from sdezoo.zoo.registry import FORMATS


@dataclass(frozen=True)
class Snapshots(Dataset):
    """Points with times, from an .npz with arrays x (N, d) and time (N,): rows of one time are a snapshot, not paired with others.

    Times count from the first one. Both arrays are of any real dtype.
    """

    path: str
    """Path of the file."""
    holdout: Fraction = 0.1
    """Fraction of the rows of each snapshot that are held out; the same rows every time."""
    without: tuple[float, ...] = ()
    """Times of snapshots to leave out, as they stand in the file, to test interpolation against them."""
    columns: Count | None = None
    """Number of leading columns to keep, such as the first principal components; None: all."""

    def load(self) -> Data:
        path = Path(self.path)
        with reading(path, "a NumPy file"):
            form: ArrayFormat = find_format(path, ArrayFormat) or FORMATS.build("npz")
            arrays = form.read(path, _chosen)
        x, time = (torch.from_numpy(np.ascontiguousarray(arrays[key], dtype)) for key, dtype in (("x", np.float32), ("time", np.float64)))
        if x.ndim == 2 and self.columns is not None:
            if self.columns > x.shape[1]:
                raise DataError(f"'{path}' has {x.shape[1]} columns, fewer than {self.columns}.", "Keep fewer columns.")
            x = x[:, : self.columns]
        check_finite(x)
        return by_time(x, time, holdout=self.holdout, without=self.without)


def _chosen(keys: tuple[str, ...]) -> tuple[str, ...]:
    if "x" not in keys or "time" not in keys:
        found = ", ".join(keys[:5]) or "nothing"
        raise DataError(f"The file holds {found}, and not x and time.", "Store points as x (N, d), and the time of each as time (N,).")
    return "x", "time"
