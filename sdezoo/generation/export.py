"""Samples as files: pictures, arrays and tables.

`check_output` refuses an impossible file before any work is done; `write` and `write_parts` put it down in one piece, so that an
interrupted run leaves neither half a file nor a damaged old one. All but pictures are written part by part, and no two parts are
in memory at once.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from PIL import Image
from pyarrow import csv, parquet
from torch import Tensor

from sdezoo.data.dataset import Kind
from sdezoo.data.encoding import column_types, typed_columns
from sdezoo.errors import RunError
from sdezoo.store.files import atomic_write, put_array

_PICTURE = 512  # pixels that a grid is enlarged to at most
_PANELS = 36  # histograms in one picture at most
_GAP = 0.5  # the grey between images


class _Samples(NamedTuple):
    parts: Iterable[Tensor]
    shape: tuple[int, ...]
    kind: Kind
    columns: tuple[str, ...]
    levels: int | None
    types: tuple[str, ...]


def check_output(path: str | Path, kind: Kind, overwrite: bool = False) -> None:
    """Whether samples of `kind` can be written to `path`; to be asked before any work is done, and without a trace.

    Raises:
        RunError: an unknown ending, one that does not fit the kind, a file that exists (unless `overwrite`), a folder
            in its place, or a parent folder that is not there and cannot be made, or cannot be written to.
    """
    _writer(Path(path), kind)
    check_place(path, overwrite)


def check_place(path: str | Path, overwrite: bool = False) -> None:
    """Whether any file can be written to `path`, without a trace.

    Raises:
        RunError: as `check_output`, whatever the ending.
    """
    path = Path(path)
    if path.is_dir():
        raise RunError(f"'{path}' is a folder.", "Give the name of a file in it.")
    if os.path.lexists(path) and not overwrite:
        raise RunError(f"'{path}' exists.", "Give --overwrite to replace it, or another name.")
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise RunError(f"'{parent}' is not a folder, so '{path}' cannot be written.", "Give another name.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(f"The folder '{parent}' cannot be written to.", "Give a name in another folder.")


def write(
    samples: Tensor,
    path: str | Path,
    *,
    kind: Kind,
    columns: Sequence[str] = (),
    levels: int | None = None,
    types: Sequence[str] = (),
) -> None:
    """Write samples in the user's units to `path`, whose ending says how; what was there is replaced in one step.

    - `.npz` (key `x`) and `.npy`: float32 (n, *event), never clamped or rounded.
    - `.csv` and `.parquet`, for tables and points: float32 under the names `columns`, else x0, x1, …; never clamped. Columns whose
      `types` are whole numbers are rounded to the nearest, in int64.
    - `.png`, for images: a near-square grid, enlarged by a whole factor; values are saturated to [0, 1] and rounded to
      the data's lattice here and nowhere else. For points in the plane a scatter plot, for the rest histograms.

    Args:
        samples: (n, C, H, W) for images, else (n, d).
        path: missing parent folders are made.
        kind: of the data.
        columns: names of a table's columns.
        levels, types: the data's own lattice, and the types of its columns, see `Data`.

    Raises:
        RunError: an unknown ending, one that does not fit the kind, samples that cannot be drawn, or a file that
            cannot be written.
    """
    write_parts([samples.detach().float().cpu()], samples.shape, path, kind=kind, columns=columns, levels=levels, types=types)


def write_parts(
    parts: Iterable[Tensor],
    shape: Sequence[int],
    path: str | Path,
    *,
    kind: Kind,
    columns: Sequence[str] = (),
    levels: int | None = None,
    types: Sequence[str] = (),
    remedy: str = "Give --out another place.",
) -> None:
    """As `write`, of samples of `shape` whose rows come in `parts`, float32 on the CPU; they are gone through once.

    Raises:
        RunError: as `write`, with `remedy` where the file cannot be written.
    """
    path = Path(path)
    writer = _writer(path, kind)
    with atomic_write(path, remedy) as file:
        writer(_Samples(parts, tuple(shape), kind, tuple(columns), levels, tuple(types)), file)


def _writer(path: Path, kind: Kind) -> Callable[[_Samples, BinaryIO], None]:
    ending = path.suffix.lower()
    if ending not in _WRITERS:
        raise RunError(f"'{path}' has no ending that can be written.", f"Give one of {', '.join(_fitting(kind))}.")
    if ending not in _fitting(kind):
        raise RunError(f"Images cannot be written as a table, '{path}'.", f"Give one of {', '.join(_fitting(kind))}.")
    return _WRITERS[ending]


def _fitting(kind: Kind) -> tuple[str, ...]:
    return tuple(ending for ending in _WRITERS if kind != "image" or ending not in _TABLES)


def _npz(samples: _Samples, file: BinaryIO) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w", force_zip64=True) as member:
        put_array(member, samples.shape, samples.parts)


def _npy(samples: _Samples, file: BinaryIO) -> None:
    put_array(file, samples.shape, samples.parts)


def _csv(samples: _Samples, file: BinaryIO) -> None:
    with csv.CSVWriter(file, _schema(samples)) as table:
        for part in samples.parts:
            table.write_batch(_rows(part, samples))


def _parquet(samples: _Samples, file: BinaryIO) -> None:
    with parquet.ParquetWriter(file, _schema(samples)) as table:
        for part in samples.parts:
            table.write_batch(_rows(part, samples))


def _schema(samples: _Samples) -> pa.Schema:
    names = _names(samples)
    kinds = column_types(samples.types, len(names))
    return pa.schema([pa.field(name, pa.from_numpy_dtype(np.dtype(kind))) for name, kind in zip(names, kinds, strict=True)])


def _rows(part: Tensor, samples: _Samples) -> pa.RecordBatch:
    columns = typed_columns(part, samples.types, _names(samples))
    return pa.record_batch([pa.array(column) for column in columns], schema=_schema(samples))


def _names(samples: _Samples) -> list[str]:
    return list(samples.columns) or [f"x{i}" for i in range(samples.shape[1])]


def _png(samples: _Samples, file: BinaryIO) -> None:
    values = torch.cat(list(samples.parts))
    wrong = int((~values.isfinite()).sum())
    if wrong or not values.numel():
        raise RunError(
            f"The samples cannot be drawn: {f'{wrong} values are not finite' if wrong else 'there are none'}.",
            "Write .npz instead to see what is in them.",
        )
    if samples.kind == "image":
        sheet(values, samples.levels).save(file, format="PNG")
    else:
        _figure(values.numpy(), _names(samples)).savefig(file, format="png", dpi=120)


def sheet(images: Tensor, levels: int | None, columns: int | None = None) -> Image.Image:
    """The grid of images (n, C, H, W), saturated to [0, 1] and rounded to the data's lattice, enlarged by a whole factor.

    Other numbers of channels than 1, 3 or 4 are drawn as one grey image each. `columns`: of the grid; default: near-square.
    """
    levels = levels or 255
    if images.shape[1] not in (1, 3, 4):
        images = images.flatten(0, 1)[:, None]
    pixels = _grid((images.clamp(0, 1) * levels).round() / levels, columns)
    factor = max(1, _PICTURE // max(pixels.shape[1:]))
    enlarged = pixels.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    array = (enlarged * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)


def _grid(images: Tensor, columns: int | None) -> Tensor:
    """(n, C, H, W) row by row into (C, rows · (H + 1) + 1, columns · (W + 1) + 1), with gaps of one pixel."""
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    grid = torch.full((channels, rows * (height + 1) + 1, columns * (width + 1) + 1), _GAP)
    for i, image in enumerate(images):
        top, left = i // columns * (height + 1) + 1, i % columns * (width + 1) + 1
        grid[:, top : top + height, left : left + width] = image
    return grid


def _figure(values: np.ndarray, names: Sequence[str]) -> Figure:
    if values.shape[1] == 2:
        figure = Figure(figsize=(5, 5), layout="constrained")
        axes = figure.subplots()
        axes.scatter(values[:, 0], values[:, 1], s=4, alpha=0.5, linewidths=0)
        axes.set(xlabel=names[0], ylabel=names[1])
        return figure
    shown = min(values.shape[1], _PANELS)
    columns = math.ceil(math.sqrt(shown))
    rows = math.ceil(shown / columns)
    figure = Figure(figsize=(2.4 * columns, 2 * rows), layout="constrained")
    if shown < values.shape[1]:
        figure.suptitle(f"the first {shown} of {values.shape[1]} columns")
    for i in range(shown):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.hist(values[:, i].astype(np.float64), bins=30)
        axes.set_title(names[i], fontsize=8)
        axes.tick_params(labelsize=6)
    return figure


_TABLES: dict[str, Callable[[_Samples, BinaryIO], None]] = {".csv": _csv, ".parquet": _parquet}
_WRITERS: dict[str, Callable[[_Samples, BinaryIO], None]] = {".png": _png, ".npz": _npz, ".npy": _npy} | _TABLES
