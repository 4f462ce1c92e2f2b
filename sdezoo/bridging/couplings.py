"""Couplings: pairs of states at neighbouring snapshots, one real and one simulated, in a folder of a round.

A coupling is written atomically, as a checkpoint is. `SHA256SUMS` holds its digest, by which the next round of training knows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save as serialize
from torch import Tensor

from sdezoo.errors import RunError
from sdezoo.store.checkpoint import load_tensors
from sdezoo.store.files import atomic_folder, opened, read_small

_FOLDER, _FILE, _SUMS = "coupling", "pairs.safetensors", "SHA256SUMS"
_REMEDY = "Make room, or make it writable, then give --resume."
_SMALL = 2**12


class Pairs(NamedTuple):
    """Pairs over one span, paired by row, in the domain of the process."""

    early: Tensor
    """Rows at the earlier snapshot, `(N, *event)`."""
    late: Tensor
    """Rows at the later snapshot, `(N, *event)`."""


def write_coupling(run: Path, spans: list[Pairs]) -> str:
    """Write the coupling that a round is trained on.

    Args:
        run: the folder of the round.
        spans: the pairs of each span, in order of the user's time.

    Returns:
        Its SHA-256 digest in hexadecimal.

    Raises:
        RunError: if it cannot be written.
    """
    tensors = {f"{name}.{i}": getattr(pairs, name) for i, pairs in enumerate(spans) for name in Pairs._fields}
    content = serialize({key: values.detach().cpu().contiguous() for key, values in tensors.items()})
    digest = hashlib.sha256(content).hexdigest()
    with atomic_folder(run / _FOLDER, _REMEDY) as beside:
        (beside / _FILE).write_bytes(content)
        (beside / _SUMS).write_text(f"{digest}  {_FILE}\n", encoding="ascii")
    return digest


def coupling_digest(run: Path) -> str | None:
    """The digest of the coupling of a round; None if there is none, or it is not what was written.

    Args:
        run: the folder of the round.
    """
    try:
        stated = read_small(run / _FOLDER / _SUMS, _SMALL).decode("ascii").partition("  ")[0]
        with opened(run / _FOLDER / _FILE) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
    return found if found == stated else None


def read_coupling(run: Path, digest: str, spans: int, event: Sequence[int]) -> list[Pairs]:
    """Read the coupling of a round, which may come from somebody else.

    Args:
        run: the folder of the round.
        digest: the digest that it must have.
        spans: number of spans.
        event: shape of a row in the domain of the process.

    Returns:
        The pairs of each span, in order of the user's time.

    Raises:
        RunError: if it is missing, not the one with this digest, or does not hold finite pairs of these shapes.
    """
    if coupling_digest(run) != digest:
        raise RunError(f"The coupling in '{run / _FOLDER}' is missing or damaged.", "Resume the run that the round belongs to.")
    try:
        tensors = load_tensors(run / _FOLDER / _FILE)
        pairs = [Pairs(tensors[f"early.{i}"], tensors[f"late.{i}"]) for i in range(spans)]
        if len(tensors) == 2 * spans and all(_fits(each, tuple(event)) for each in pairs):
            return pairs
    except (OSError, ValueError, KeyError):
        pass
    raise RunError(f"The coupling in '{run / _FOLDER}' does not fit the run.", f"Remove '{run}' to train this round again.")


def _fits(pairs: Pairs, event: tuple[int, ...]) -> bool:
    same = pairs.early.shape == pairs.late.shape and tuple(pairs.early.shape[1:]) == event and len(pairs.early) > 0
    return same and all(ends.dtype == torch.float32 and bool(ends.isfinite().all()) for ends in pairs)
