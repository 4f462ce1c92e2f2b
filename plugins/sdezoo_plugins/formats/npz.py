"""NumPy's `.npz`: named arrays. `sdezoo.data.arrays` reads it as untrusted input."""

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from sdezoo.data.arrays import read_arrays
from sdezoo.data.dataset import Kind
from sdezoo.data.formats import ArrayFormat, Samples
from sdezoo.store.files import put_array


@dataclass(frozen=True)
class Npz(ArrayFormat):
    """Named NumPy arrays, .npz, compressed: x, float32 (n, *event), for paths times, float64 (T,), and for classes y (n,)."""

    endings: ClassVar[tuple[str, ...]] = (".npz",)
    kinds: ClassVar[tuple[Kind, ...]] = ("image", "table", "points", "paths", "series")

    def write(self, samples: Samples, file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("x.npy", "w", force_zip64=True) as member:
                put_array(member, samples.shape, samples.parts)
            times = None if samples.times is None else samples.times.double().numpy()
            for name, array in (("times", times), ("y", samples.labels)):
                if array is not None:
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.save(member, array, allow_pickle=False)

    def read(self, path: Path, choose: Callable[[tuple[str, ...]], Iterable[str]]) -> dict[str, np.ndarray]:
        return read_arrays(path, choose)
