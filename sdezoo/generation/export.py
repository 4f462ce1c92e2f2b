"""Write samples to files, in any installed format (`sdezoo.data.formats`).

`check_output` rejects an invalid output path before any computation. `write` and `write_parts` are atomic: an interruption leaves neither
a partial file nor a damaged old one. All formats but pictures are written chunk by chunk, with one chunk in memory at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from sdezoo.data.column_types import ColumnType, column_types
from sdezoo.data.conversion import held
from sdezoo.data.dataset import Kind
from sdezoo.data.formats import FileFormat, Samples
from sdezoo.data.text_style import TextStyle
from sdezoo.errors import RunError
from sdezoo.store.files import atomic_write, clear
from sdezoo.zoo.formats import endings, find_format

_IN_WORDS: dict[Kind, str] = {"image": "Images", "table": "Tables", "points": "Points", "paths": "Paths", "series": "Series"}


def check_output(path: str | Path, kind: Kind, overwrite: bool = False) -> None:
    """Check that samples of `kind` can be written to `path`, without writing. Call it before the computation.

    Args:
        path: the file.
        kind: the kind of the samples.
        overwrite: whether an existing file may be replaced.

    Raises:
        RunError: if the ending is unknown or does not fit the kind, if the file exists (unless `overwrite`), if `path` is a folder, or if
            the parent folder cannot be created or written to.
    """
    _format(Path(path), kind)
    check_place(path, overwrite)


def check_place(path: str | Path, overwrite: bool = False) -> None:
    """Check that a file can be written to `path`, without writing it; the ending is not checked. Leftovers of killed commands are removed.

    Args:
        path: the file.
        overwrite: whether an existing file may be replaced.

    Raises:
        RunError: as for `check_output`, except for the ending.
    """
    path = Path(path)
    clear(path)
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
    types: Sequence[ColumnType | str] = (),
    times: Tensor | None = None,
) -> None:
    """Write samples to a file, atomically replacing an existing one. Its ending selects the format.

    Values are clamped only in pictures. Tables round integer columns (by `types`) to the nearest integer.

    Args:
        samples: rows in the user's units: `(n, C, H, W)` for images, `(n, T, d)` for paths, else `(n, d)`.
        path: the file; missing parent folders are created.
        kind: the kind of the data.
        columns: column names; empty: unnamed.
        levels: lattice of the data, see `sdezoo.data.dataset.Data`.
        types: types of the columns, see `sdezoo.data.encoding.Encoding`.
        times: observation times of paths, `(T,)`.

    Raises:
        RunError: if the ending is unknown or does not fit the kind, the samples cannot be shown as a picture, or the file cannot be
            written.
    """
    parts = [samples.detach().float().cpu()]
    fitting = held(column_types(types), parts)
    write_parts(parts, samples.shape, path, kind=kind, columns=columns, levels=levels, types=fitting, times=times)


def write_parts(
    parts: Iterable[Tensor],
    shape: Sequence[int],
    path: str | Path,
    *,
    kind: Kind,
    columns: Sequence[str] = (),
    levels: int | None = None,
    types: Sequence[ColumnType | str] = (),
    times: Tensor | None = None,
    observed: Tensor | None = None,
    given: int = 0,
    style: TextStyle | None = None,
    labels: np.ndarray | None = None,
    remedy: str = "Give --out another place.",
) -> None:
    """Write samples that arrive in chunks; otherwise the same as `write`.

    Args:
        parts: chunks of rows `(n_i, *event)`, float32 on the CPU, in the user's units; iterated once.
        shape: total shape `(n, *event)`.
        path: see `write`.
        kind: see `write`.
        columns: see `write`.
        levels: see `write`.
        types: see `write`.
        times: see `write`.
        observed: windows that series continue, see `sdezoo.data.formats.Samples`.
        given: number of their given steps.
        style: how the data were written as text; None: they were not.
        labels: the class of each row, see `sdezoo.data.formats.Samples`.
        remedy: what the user can do if the file cannot be written.

    Raises:
        RunError: as for `write`.
    """
    path = Path(path)
    form = _format(path, kind)
    with atomic_write(path, remedy) as file:
        form.write(
            Samples(parts, tuple(shape), kind, tuple(columns), levels, column_types(types), times, observed, given, style, labels), file
        )


def _format(path: Path, kind: Kind) -> FileFormat:
    found, remedy = find_format(path, FileFormat), f"Give one of {', '.join(endings(FileFormat, kind))}."
    if found is None:
        raise RunError(f"No installed format can write '{path}'.", remedy)
    if kind not in found.kinds:
        raise RunError(f"{_IN_WORDS[kind]} cannot be written as {found.form}, '{path}'.", remedy)
    return found
