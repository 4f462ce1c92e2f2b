"""MNIST's IDX files: two zero bytes, a type, the number of axes, their sizes as big-endian uint32, then the values."""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.dataset import Data, Dataset, split
from sdezoo.data.pixels import examined
from sdezoo.data.reading import DEFLATE, check_size, read_bytes, reading
from sdezoo.errors import DataError
from sdezoo.parameters import Fraction

_UINT8 = 8
_AXES = 3


@dataclass(frozen=True)
class Idx(Dataset):
    """Images in MNIST's IDX format, with or without gzip.

    Labels and the held-out part are found next to the file by MNIST's names: `train-images-idx3-ubyte` goes with
    `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each with or without `.gz`.
    """

    suffixes: ClassVar[tuple[str, ...]] = ("-ubyte", ".idx", "-ubyte.gz", ".idx.gz")

    path: str
    """Path of the training images, uint8 (N, H, W)."""
    holdout: Fraction = 0.1
    """Fraction of the images that are held out if no held-out file is found; the same images every time."""

    def load(self) -> Data:
        path = Path(self.path)
        values, labels = _part(path)
        held_out = _beside(path, ("train", "t10k")) or _beside(path, ("train", "test"))
        if held_out is None:
            return examined(split(values, "image", holdout=self.holdout, labels=labels, levels=255))
        test, test_labels = _part(held_out)
        if test.shape[1:] != values.shape[1:]:
            raise DataError(
                f"'{held_out}' holds images {tuple(test.shape[2:])}, but '{path}' holds images {tuple(values.shape[2:])}.",
                "Give two parts of one image size, or move the held-out part away.",
            )
        return examined(Data(values, test, "image", train_labels=labels, test_labels=test_labels, levels=255))


def _beside(path: Path, *renames: tuple[str, str]) -> Path | None:
    name = path.name
    for old, new in renames:
        if old not in name:
            return None
        name = name.replace(old, new)
    plain = name.removesuffix(".gz")
    return next((path.with_name(other) for other in (name, plain, plain + ".gz") if path.with_name(other).is_file()), None)


def _part(path: Path) -> tuple[Tensor, Tensor | None]:
    """Images (N, 1, H, W), and the labels next to them if there are any."""
    images = _read(path)
    if images.ndim != 3 or images.size == 0:
        raise DataError(
            f"'{path}' holds an array of shape {images.shape}, not images (N, H, W).",
            "Give the file of images, as in train-images-idx3-ubyte.",
        )
    return torch.from_numpy(images[:, None].astype(np.float32)).div_(255), _labels(path, len(images))


def _labels(images: Path, count: int) -> Tensor | None:
    path = _beside(images, ("images", "labels"), ("idx3", "idx1")) or _beside(images, ("images", "labels"))
    if path is None:
        return None
    labels = _read(path)
    if labels.shape != (count,):
        raise DataError(
            f"'{path}' holds labels of shape {labels.shape}, but there are {count} images next to it.",
            "Give matching files, or move the labels away.",
        )
    return torch.from_numpy(labels.astype(np.int64))


def _read(path: Path) -> np.ndarray:
    with reading(path, "an IDX file", zlib.error, struct.error), path.open("rb") as file:
        size = path.stat().st_size
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if packed:
            with gzip.open(file) as unpacked:
                return _parse(unpacked, path, DEFLATE * size)
        return _parse(file, path, size)


def _parse(file: BufferedIOBase, path: Path, most: int) -> np.ndarray:
    """The array in `file`, which holds at most `most` bytes."""
    zeros, kind, axes = struct.unpack(">HBB", file.read(4))
    if zeros or kind != _UINT8 or not 1 <= axes <= _AXES:
        raise DataError(f"'{path}' is not an IDX file of uint8 with up to three axes.", "Give MNIST's format, or store an .npz.")
    shape = struct.unpack(f">{axes}I", file.read(4 * axes))
    count = math.prod(shape)
    if count > most:
        raise DataError(f"'{path}' declares an array of shape {shape}, more than it can hold.", "Give a complete file.")
    check_size(path, count)
    try:
        data = read_bytes(file, count)
    except EOFError:
        raise DataError(f"'{path}' declares an array of shape {shape}, but holds fewer bytes.", "Give a complete file.") from None
    if file.read(1):
        raise DataError(f"'{path}' declares an array of shape {shape}, but holds more bytes.", "Give an intact file.")
    return np.frombuffer(data, np.uint8).reshape(shape)
