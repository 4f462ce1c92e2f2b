"""Samples as files, in any format that is installed (`sdezoo.data.formats`).

`check_output` refuses an impossible file before any work is done; `write` and `write_parts` put it down in one piece, so that an
interrupted run leaves neither half a file nor a damaged old one. All but pictures are written part by part, and no two parts are
in memory at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from sdezoo.data.dataset import Kind
from sdezoo.data.formats import FileFormat, Samples
from sdezoo.errors import RunError
from sdezoo.store.files import atomic_write
from sdezoo.zoo.formats import endings, find_format

_IN_WORDS: dict[Kind, str] = {"image": "Images", "table": "Tables", "points": "Points", "paths": "Paths"}


def check_output(path: str | Path, kind: Kind, overwrite: bool = False) -> None:
    """Whether samples of `kind` can be written to `path`; to be asked before any work is done, and without a trace.

    Raises:
        RunError: an unknown ending, one that does not fit the kind, a file that exists (unless `overwrite`), a folder
            in its place, or a parent folder that is not there and cannot be made, or cannot be written to.
    """
    _format(Path(path), kind)
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
    times: Tensor | None = None,
) -> None:
    """Write samples in the user's units to `path`, whose ending says how; what was there is replaced in one step.

    Nothing is clamped, except in pictures; columns whose `types` are whole numbers are rounded to the nearest, in tables.

    Args:
        samples: (n, C, H, W) for images, (n, T, d) for paths, else (n, d).
        path: missing parent folders are made.
        kind: of the data.
        columns: names of the columns.
        levels: the data's own lattice, see `Data`.
        types: of the columns, see `sdezoo.data.encoding.Encoding`.
        times: of the observations of paths, (T,).

    Raises:
        RunError: an unknown ending, one that does not fit the kind, samples that cannot be drawn, or a file that
            cannot be written.
    """
    parts = [samples.detach().float().cpu()]
    write_parts(parts, samples.shape, path, kind=kind, columns=columns, levels=levels, types=types, times=times)


def write_parts(
    parts: Iterable[Tensor],
    shape: Sequence[int],
    path: str | Path,
    *,
    kind: Kind,
    columns: Sequence[str] = (),
    levels: int | None = None,
    types: Sequence[str] = (),
    times: Tensor | None = None,
    remedy: str = "Give --out another place.",
) -> None:
    """As `write`, of samples of `shape` whose rows come in `parts`, float32 on the CPU; they are gone through once.

    Raises:
        RunError: as `write`, with `remedy` where the file cannot be written.
    """
    path = Path(path)
    form = _format(path, kind)
    with atomic_write(path, remedy) as file:
        form.write(Samples(parts, tuple(shape), kind, tuple(columns), levels, tuple(types), times), file)


def _format(path: Path, kind: Kind) -> FileFormat:
    found, remedy = find_format(path, FileFormat), f"Give one of {', '.join(endings(FileFormat, kind))}."
    if found is None:
        raise RunError(f"'{path}' has no ending that can be written.", remedy)
    if kind not in found.kinds:
        raise RunError(f"{_IN_WORDS[kind]} cannot be written as {found.form}, '{path}'.", remedy)
    return found
