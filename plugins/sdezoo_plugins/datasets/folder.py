"""A folder of images."""

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from sdezoo.data.dataset import Data, Dataset, split
from sdezoo.data.reading import DEFLATE, check_size, reading
from sdezoo.errors import DataError
from sdezoo.parameters import Fraction

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")  # checked by content: some of Pillow's readers start other programs
_FAILURES = (
    *(SyntaxError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, struct.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
_FREE = 2**22  # pixels that any file may declare
_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


@dataclass(frozen=True)
class Folder(Dataset):
    """A folder of images of one size: png, jpg, bmp, webp, tif, pgm or ppm.

    Images lie directly in the folder, or one level down. In sub-folders, each sub-folder is a class, numbered in the order of their names.
    Images are 8-bit grey, RGB or RGBA, all of the same mode. Black-and-white images are read as grey, palette images as colour. Other
    files and hidden files are ignored.
    """

    suffixes: ClassVar[tuple[str, ...]] = ("",)

    path: str
    """Path of the folder."""
    holdout: Fraction = 0.1
    """Fraction of the images that are held out; the same images every time."""

    def load(self) -> Data:
        root = Path(self.path)
        with reading(root, "a folder of images"):
            files, labels = _files(root)
        first = _pixels(files[0])
        check_size(root, len(files) * first.size)
        pixels = np.empty((len(files), *first.shape), np.uint8)
        for row, file in enumerate(files):
            image = _pixels(file)
            if image.shape != first.shape:
                raise DataError(
                    f"'{file}' is {_form(image)}, but '{files[0].name}' is {_form(first)}.",
                    "Convert all images to one size and one mode.",
                )
            pixels[row] = image
        values = torch.from_numpy(pixels).movedim(-1, 1).contiguous().float().div_(255)
        classes = None if labels is None else torch.tensor(labels)
        return split(values, "image", holdout=self.holdout, labels=classes, levels=255)


def _files(root: Path) -> tuple[list[Path], list[int] | None]:
    """The images in the order of their names, and their classes if they lie in sub-folders."""
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    direct = _within(root)
    classes = [files for files in map(_within, folders) if files]
    if direct and classes:
        raise DataError(
            f"'{root}' has images both in itself and in sub-folders.",
            "Put all images into sub-folders, one per class, or all directly into the folder.",
        )
    if direct:
        return direct, None
    if not classes:
        raise DataError(f"'{root}' has no images ({', '.join(_ENDINGS)}).", "Check the path.")
    return [file for files in classes for file in files], [label for label, files in enumerate(classes) for _ in files]


def _within(folder: Path) -> list[Path]:
    return sorted(
        entry for entry in folder.iterdir() if entry.suffix.lower() in _ENDINGS and not entry.name.startswith(".") and entry.is_file()
    )


def _pixels(file: Path) -> np.ndarray:
    """The pixels of an image, (H, W, C), uint8."""
    with (
        reading(file, "an image", *_FAILURES),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # warnings about metadata
        # Up to twice `Image.MAX_IMAGE_PIXELS`, Pillow only warns; training data should not be that large.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=_FORMATS) as image:
            # One compressed byte expands to at most 1032 bytes of 8 pixels each.
            if image.width * image.height > max(_FREE, 8 * DEFLATE * file.stat().st_size):
                raise DataError(f"'{file}' declares {image.width} × {image.height} pixels, more than it can hold.", "Remove or replace it.")
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(f"'{file}' has more than one frame.", "Store each frame as a separate image.")
            plain = _plain(image)
            if plain.mode not in _CHANNELS:
                raise DataError(
                    f"'{file}' has the mode {image.mode}, not 8-bit grey or colour.",
                    "Convert it to 8-bit grey, RGB or RGBA.",
                )
            return np.asarray(plain).reshape(plain.height, plain.width, _CHANNELS[plain.mode])


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    return image


def _form(pixels: np.ndarray) -> str:
    height, width, channels = pixels.shape
    return f"{width} × {height} with {channels} channel{'s' * (channels > 1)}"
