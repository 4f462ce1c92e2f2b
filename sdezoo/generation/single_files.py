"""Write images into a folder, one file each, at the depth of the data.

Levels up to 255 become 8-bit .png, more become 16-bit .png, which are grey. Data without levels, which are floating, become .tif of
float32, not clamped. Pillow writes neither colour of 16 bits nor floating colour.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from sdezoo.data.dataset import Kind
from sdezoo.errors import RunError
from sdezoo.store.files import atomic_folder, is_link

_NAME = re.compile(r"\d{6,}\.(png|tif)")
_BYTE = 255


def names_a_folder(out: str | Path) -> bool:
    """Whether an output is a folder for single files: it ends with a slash, or it exists and has no ending.

    Args:
        out: the output.
    """
    return str(out).endswith(("/", os.sep)) or (Path(out).is_dir() and not Path(out).suffix)


def check_folder(folder: Path, kind: Kind, event: tuple[int, ...], levels: int | None, overwrite: bool = False) -> None:
    """Check that images can be written into a folder, without writing.

    Args:
        folder: the folder.
        kind: the kind of the samples.
        event: shape of an image, `(C, H, W)`.
        levels: lattice of the data: values are multiples of 1/levels; None: floating.
        overwrite: whether images that were written there before may be replaced.

    Raises:
        RunError: if the samples are no images, have more channels than a file of their depth, or if the folder has other files, or files
            and `overwrite` is false.
    """
    if kind != "image":
        raise RunError(f"'{folder}' is a folder, and only images are written as single files.", "Give the name of a file.")
    most = 4 if levels is not None and levels <= _BYTE else 1
    if event[0] > most:
        depth = "floating values" if levels is None else "8 bits" if levels <= _BYTE else "16 bits"
        raise RunError(f"Images of {event[0]} channels of {depth} cannot be written as single files.", "Give the name of an .npz.")
    if is_link(folder) or (os.path.lexists(folder) and not folder.is_dir()):
        raise RunError(f"'{folder}' is a link or a file.", "Give a new folder.")
    inside = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if other := [name for name in inside if not _NAME.fullmatch(name)]:
        raise RunError(f"The folder '{folder}' has other files, such as '{other[0]}'.", "Give a new folder.")
    if inside and not overwrite:
        raise RunError(f"The folder '{folder}' has images.", "Give --overwrite to replace them, or another name.")


def write_folder(parts: Iterable[Tensor], folder: Path, levels: int | None, remedy: str) -> None:
    """Write images into a folder, `000000.png` and so on. The folder appears when all are written.

    Args:
        parts: chunks of images `(n_i, C, H, W)`, float32 on the CPU; clamped to [0, 1] and rounded to levels, unless they are floating.
        folder: the folder, see `check_folder`; it is replaced.
        levels: see `check_folder`.
        remedy: what the user can do if the folder cannot be written.

    Raises:
        RunError: if the folder cannot be written.
    """
    with atomic_folder(folder.absolute(), remedy) as place:
        for number, image in enumerate(chain.from_iterable(parts)):
            _image(image, levels).save(place / f"{number:06}.{'tif' if levels is None else 'png'}")


def _image(image: Tensor, levels: int | None) -> Image.Image:
    if levels is None:
        return Image.fromarray(image[0].numpy())
    steps = (image.clamp(0, 1) * levels).round()
    if levels > _BYTE:
        return Image.fromarray(steps[0].numpy().astype(np.uint16))
    pixels = (steps / levels * _BYTE).round().permute(1, 2, 0).numpy().astype(np.uint8)
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
