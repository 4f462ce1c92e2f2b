"""Write images into a folder, one file each, at the depth of the data.

Levels up to 255 become 8-bit .png, more become 16-bit .png. Data without levels, which are floating, become .tif of float32, not clamped.
Pixels are multiplied by what those of the data were divided by. Pillow does not write colour of 16 bits, which is written here (PNG,
third edition, W3C 2025, sections 5 and 11.2: one filter, none, for all rows), nor floating colour.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from sdezoo.data.dataset import Kind
from sdezoo.errors import RunError
from sdezoo.store.files import atomic_folder, is_link

_NAME = re.compile(r"\d{6,}\.(png|tif)")
_CLASS = re.compile(r"(?![. ])[^/\\:*?\"<>|\x00-\x1f]{1,100}(?<![. ])")
_BYTE = 255
_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}
"""Colour types of PNG by the number of channels."""


def names_a_folder(out: str | Path) -> bool:
    """Whether an output is a folder for single files: it ends with a slash, or it exists and has no ending.

    Args:
        out: the output.
    """
    return str(out).endswith(("/", os.sep)) or (Path(out).is_dir() and not Path(out).suffix)


def check_folder(
    folder: Path,
    kind: Kind,
    event: tuple[int, ...],
    levels: int | None,
    overwrite: bool = False,
    classes: Sequence[str | int] = (),
) -> None:
    """Check that images can be written into a folder, without writing.

    Args:
        folder: the folder.
        kind: the kind of the samples.
        event: shape of an image, `(C, H, W)`.
        levels: lattice of the data: values are multiples of 1/levels; None: floating.
        overwrite: whether images that were written there before may be replaced.
        classes: the classes that images are written by; empty: none.

    Raises:
        RunError: if the samples are no images, have more channels than a file of their depth, or classes whose names no folder can have, or
            if the folder has other files, or files and `overwrite` is false.
    """
    if kind != "image":
        raise RunError(f"'{folder}' is a folder, and only images are written as single files.", "Give the name of a file.")
    if event[0] > (1 if levels is None else 4):
        depth = "floating values" if levels is None else "8 bits" if levels <= _BYTE else "16 bits"
        raise RunError(f"Images of {event[0]} channels of {depth} cannot be written as single files.", "Give the name of an .npz.")
    if unfit := [str(name) for name in classes if not _CLASS.fullmatch(str(name))]:
        raise RunError(f"The class '{unfit[0]}' cannot be the name of a folder.", "Give the name of an .npz.")
    if is_link(folder) or (os.path.lexists(folder) and not folder.is_dir()):
        raise RunError(f"'{folder}' is a link or a file.", "Give a new folder.")
    inside = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if other := [name for name in inside if not (_NAME.fullmatch(name) or _of_images(folder / name))]:
        raise RunError(f"The folder '{folder}' has other files, such as '{other[0]}'.", "Give a new folder.")
    if inside and not overwrite:
        raise RunError(f"The folder '{folder}' has images.", "Give --overwrite to replace them, or another name.")


def write_folder(
    parts: Iterable[Tensor],
    folder: Path,
    levels: int | None,
    remedy: str,
    maximum: float | None = None,
    labels: Sequence[object] | np.ndarray | None = None,
) -> None:
    """Write images into a folder, `000000.png` and so on, those of a class into a sub-folder of its name. It appears when all are written.

    Args:
        parts: chunks of images `(n_i, C, H, W)`, float32 on the CPU; pixels are at levels, unless they are floating.
        folder: the folder, see `check_folder`; it is replaced.
        levels: see `check_folder`.
        remedy: what the user can do if the folder cannot be written.
        maximum: the pixel that stands for 1; None: 255 or 1 for levels up to 255 and for floating pixels.
        labels: the class of each image; None: no classes.

    Raises:
        RunError: if the folder cannot be written.
    """
    with atomic_folder(folder.absolute(), remedy) as place:
        for number, image in enumerate(chain.from_iterable(parts)):
            inside = place if labels is None else place / str(labels[number])
            inside.mkdir(exist_ok=True)
            name = inside / f"{number:06}.{'tif' if levels is None else 'png'}"
            if levels is not None and levels > _BYTE:
                name.write_bytes(_deep((image * levels).round().permute(1, 2, 0).numpy().astype(">u2")))
            else:
                _image(image, levels, maximum).save(name)


def _of_images(folder: Path) -> bool:
    """Whether a folder has nothing but images that were written into it."""
    return folder.is_dir() and not is_link(folder) and all(_NAME.fullmatch(entry.name) for entry in folder.iterdir())


def _image(image: Tensor, levels: int | None, maximum: float | None) -> Image.Image:
    if levels is None:
        return Image.fromarray(image[0].mul(maximum or 1).numpy())
    steps = (image * levels).round()
    pixels = (steps / levels * (maximum or _BYTE)).round().permute(1, 2, 0).numpy().astype(np.uint8)
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


def _deep(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits: `(H, W, C)` of big-endian uint16, grey or colour, with or without alpha."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 16, _COLOUR[channels], 0, 0, 0)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1).view(np.uint8)], axis=1)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    parts = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
