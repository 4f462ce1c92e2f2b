"""NumPy's `.npy`: one array. `sdezoo.data.arrays` reads it as untrusted input."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from sdezoo.data.arrays import Header, header, is_npz, read_arrays
from sdezoo.data.dataset import Kind
from sdezoo.data.formats import ArrayFormat, Samples
from sdezoo.store.files import put_array


@dataclass(frozen=True)
class Npy(ArrayFormat):
    """One NumPy array, .npy: float32 (n, *event); the times of paths are not stored."""

    endings: ClassVar[tuple[str, ...]] = (".npy",)
    kinds: ClassVar[tuple[Kind, ...]] = ("image", "table", "points", "paths", "series")

    def write(self, samples: Samples, file: BinaryIO) -> None:
        put_array(file, samples.shape, samples.parts)

    def read(self, path: Path, choose: Callable[[tuple[str, ...]], Iterable[str]]) -> dict[str, np.ndarray]:
        return read_arrays(path, choose)

    def header(self, path: Path) -> Header | None:
        return None if is_npz(path) else header(path)
