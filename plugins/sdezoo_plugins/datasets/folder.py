"""A folder of images."""

import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

from sdezoo.data.dataset import Data, Dataset, split
from sdezoo.data.pixels import examined
from sdezoo.data.reading import DEFLATE, check_size, reading
from sdezoo.data.validation import check_finite, check_pixels
from sdezoo.errors import DataError
from sdezoo.parameters import Fraction, Positive

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")  # checked by content: some of Pillow's readers start other programs
_FAILURES = (
    *(SyntaxError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, struct.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
_SEARCHED = 1000  # entries of a folder without images
_FREE = 2**22  # pixels that any file may declare
_MOST = 2**24  # pixels of an image
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")


@dataclass(frozen=True)
class Folder(Dataset):
    """A folder of images of one size: png, jpg, bmp, webp, tif, pgm or ppm.

    Images lie directly in the folder, or one level down. In sub-folders, each sub-folder is a class of its name.
    Images are 8-bit grey or RGB, with or without alpha, 16-bit grey, or floating grey in [0, 1], all of the same depth, and all grey or all
    colour. Photos are turned as their metadata say. Black-and-white images are read as grey, palette images as colour. If some have alpha,
    the others are opaque. Other files and hidden files are ignored.
    """

    suffixes: ClassVar[tuple[str, ...]] = ("",)

    path: str
    """Path of the folder."""
    holdout: Fraction = 0.1
    """Fraction of the images that are held out; the same images every time."""
    maximum: Positive | None = None
    """Largest value that a pixel can have: images are divided by it. none: 255 or 65535 by depth, 1 for floats."""

    def load(self) -> Data:
        root = Path(self.path)
        with reading(root, "a folder of images"):
            files, labels, names = _files(root)
        first, lossy = _pixels(files[0])
        check_size(root, len(files) * first.size)
        images, notes = [first], [files[0].name] if lossy else []
        for file in files[1:]:
            image, lossy = _pixels(file)
            notes += [file.name] if lossy else []
            if (image.shape[:2], image.shape[2] > 2, image.dtype) != (first.shape[:2], first.shape[2] > 2, first.dtype):
                raise DataError(
                    f"'{file}' is {_form(image)}, but '{files[0].name}' is {_form(first)}.",
                    "Convert all images to one size and one mode: all grey or all colour, of one depth.",
                )
            images.append(image)
        channels = max(image.shape[2] for image in images)
        pixels = np.empty((len(files), *first.shape[:2], channels), first.dtype)
        for row, image in enumerate(images):
            pixels[row, ..., : image.shape[2]] = image
            pixels[row, ..., image.shape[2] :] = 255  # opaque
        del images
        values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 1), np.float32)).div_(largest := self._largest(root, pixels))
        check_finite(values)
        check_pixels(values, largest)
        classes = None if labels is None else torch.tensor(labels)
        levels = None if pixels.dtype == np.float32 else round(largest)
        note = f"{len(notes)} images of 16-bit colour, such as '{notes[0]}', are read at 8 bits." if notes else ""
        known = {"labels": classes, "class_names": names, "maximum": self.maximum}
        return examined(split(values, "image", holdout=self.holdout, levels=levels, notes=(note,) if note else (), **known))

    def _largest(self, root: Path, pixels: np.ndarray) -> float:
        if pixels.dtype == np.float32:
            return self.maximum or 1.0
        if self.maximum is not None and not self.maximum.is_integer():
            raise DataError(f"The images in '{root}' have whole numbers, and maximum={self.maximum:g} is none.", "Give a whole number.")
        return self.maximum or (255.0 if pixels.dtype == np.uint8 else 65535.0)


def _files(root: Path) -> tuple[list[Path], list[int] | None, tuple[str, ...]]:
    """The images in the order of their names, and their classes and these' names if they lie in sub-folders."""
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    direct = _within(root)
    classes = {folder.name: files for folder in folders if (files := _within(folder))}
    if direct and classes:
        raise DataError(
            f"'{root}' has images both in itself and in sub-folders.",
            "Put all images into sub-folders, one per class, or all directly into the folder.",
        )
    if direct:
        return direct, None, ()
    if not classes:
        below = next((folder for folder in folders if any(_within(inner) for inner in folder.iterdir() if inner.is_dir())), None)
        if below:
            raise DataError(f"'{root}' has images only two levels down.", f"Give a folder with its images or classes, such as '{below}'.")
        other = next((file for file in islice(root.rglob("*"), _SEARCHED) if file.is_file() and not file.name.startswith(".")), None)
        raise DataError(
            f"'{root}' has no images ({', '.join(_ENDINGS)}){f', but files such as {str(other)!r}' if other else ''}.",
            "Check the path." if other is None else "Convert images to one of these forms; of tables and arrays, give one file.",
        )
    files = [file for files in classes.values() for file in files]
    return files, [label for label, files in enumerate(classes.values()) for _ in files], tuple(classes)


def _within(folder: Path) -> list[Path]:
    return sorted(
        entry for entry in folder.iterdir() if entry.suffix.lower() in _ENDINGS and not entry.name.startswith(".") and entry.is_file()
    )


def _pixels(file: Path) -> tuple[np.ndarray, bool]:
    """The pixels of an image, (H, W, C), uint8, uint16 or float32, and whether Pillow has fewer bits than the file."""
    with (
        reading(file, "an image", *_FAILURES),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # warnings about metadata
        # Up to twice `Image.MAX_IMAGE_PIXELS`, Pillow only warns; training data should not be that large.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > _MOST:
                raise DataError(
                    f"'{file}' has {image.width} × {image.height} pixels, more than {_MOST // 2**20} million.", "Scale it down, or cut it."
                )
            # One compressed byte expands to at most 1032 bytes of 8 pixels each.
            if image.width * image.height > max(_FREE, 8 * DEFLATE * file.stat().st_size):
                raise DataError(f"'{file}' declares {image.width} × {image.height} pixels, more than it can hold.", "Remove or replace it.")
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(f"'{file}' has more than one frame.", "Store each frame as a separate image.")
            lossy = image.mode.startswith("RGB") and any("16" in str(tile[3]) for tile in image.tile)
            plain = _plain(_upright(image))
            if plain.mode in _DEEP:
                return _deep(file, plain), False
            if plain.mode == "F":
                return np.asarray(plain, np.float32)[..., None], False
            if plain.mode not in _CHANNELS:
                raise DataError(
                    f"'{file}' has the mode {image.mode}, not grey or colour of 8 bits, or grey of 16 bits or floats.",
                    "Convert it to grey, RGB or RGBA.",
                )
            return np.asarray(plain).reshape(plain.height, plain.width, _CHANNELS[plain.mode]), lossy


def _deep(file: Path, image: Image.Image) -> np.ndarray:
    """The pixels of a 16-bit image; Pillow holds some in 32 bits."""
    pixels = np.asarray(image)[..., None]
    if pixels.min(initial=0) < 0 or pixels.max(initial=0) > np.iinfo(np.uint16).max:
        raise DataError(f"'{file}' has pixels from {pixels.min()} to {pixels.max()}, beyond 16 bits.", "Convert it to 16 bits.")
    return pixels.astype(np.uint16)


def _upright(image: Image.Image) -> Image.Image:
    """The image as it is to be looked at: cameras write how they were held, and viewers turn the image."""
    orientation = 1
    with suppress(*_FAILURES, OSError, ValueError):  # broken metadata are no reason to refuse an image
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    return image


def _form(pixels: np.ndarray) -> str:
    height, width, channels = pixels.shape
    depth = {"uint16": " of 16 bits (mode I;16)", "float32": " of floats (mode F)"}.get(pixels.dtype.name, "")
    colour = {1: "grey", 2: "grey with alpha", 3: "colour", 4: "colour with alpha"}[channels]
    return f"{width} × {height} with {channels} channel{'s' * (channels > 1)}{depth}, {colour}"
