"""Samples to a file, however many: memory is that of a batch, an interruption loses a shard at most, processes share the work.

Up to eight batches are drawn into memory and written. More go to the disk as they are drawn (see `sdezoo.store.shards`), and are
put together there at the end. Shards and batches are cut by places among the samples alone: however many processes draw them,
the same batches are drawn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor

from sdezoo.data.bounds import Outside
from sdezoo.generation.export import check_output, write_parts
from sdezoo.generation.samples import Draw, Generated, SamplingProgress, together
from sdezoo.generation.sharing import Share
from sdezoo.store.restoring import Trained
from sdezoo.store.shards import Shards

_BATCHES = 8


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        n: samples. kept: those of them that an earlier command had drawn. values: all numbers in them. outside: those outside the
        range of the data, and how far. evaluations: calls of the network for each sample that this process drew; None where it drew none.
    """

    n: int
    kept: int
    values: int
    outside: Outside
    evaluations: int | None


def stream(
    draw: Draw,
    out: Path,
    *,
    precision: str = "float32",
    overwrite: bool = False,
    share: Share | None = None,
    progress: SamplingProgress | None = None,
) -> Written | None:
    """Draw and write; the outcome in the first process, None in others.

    Args:
        draw: what and how. out: see `sdezoo.generation.export.write`; a picture holds all samples in memory at the end. precision: of the
        network; parts in another one are not gone on from. overwrite: what is there may be replaced. share: of this process;
        default: it is the only one. progress: called after every step in the first process.

    Raises:
        RunError: before any work, where `out` or its parts cannot be written; later, where the disk is full: parts stay, and the same
            call goes on from them.
        SupportError: where the sampler leaves the support.
        KeyboardInterrupt: when interrupted, with a sentence on what is kept.
    """
    share = share or Share()
    state, n = draw.trained.state, len(draw.rows)
    size = _BATCHES * draw.batch_size
    if share.first:
        check_output(out, state.kind, overwrite)
    if n <= size and not Shards.folder_of(out).exists():
        return _at_once(draw, out, progress) if share.first else None
    if share.first:
        Shards.reserve(out, _identity(draw, precision), total=n, event=state.event, size=size, overwrite=overwrite)
    share.wait()
    shards = Shards.found(out)
    try:
        kept, missing = shards.rows(), shards.missing()
        share.wait()
        evaluations = _fill(draw, shards, missing[share.index :: share.count], progress if share.first else None)
        share.wait()
        if not share.first:
            return None
        outside = _Counter(draw.trained)
        write_parts(outside.counted(shards.read()), (n, *state.event), out, remedy=shards.remedy, **_form(draw))
        shards.remove()
        return Written(n, kept, n * prod(state.event), outside.found, evaluations)
    except KeyboardInterrupt:
        rows = shards.rows()
        says = f"{rows} of {n} samples are kept in '{shards.folder}'. Give the same command to go on." if rows else ""
        raise KeyboardInterrupt(says) from None
    finally:
        if share.count == 1 and shards.folder.exists() and not shards.rows():
            shards.remove()


def _at_once(draw: Draw, out: Path, progress: SamplingProgress | None) -> Written:
    made = together(draw.batches(progress=progress))
    write_parts([made.x], made.x.shape, out, remedy="Give --out another place.", **_form(draw))
    return Written(len(made.x), 0, made.x.numel(), made.outside, made.evaluations)


def _fill(draw: Draw, shards: Shards, missing: list[int], progress: SamplingProgress | None) -> int | None:
    """Draw the `missing` shards; the calls of the network for each sample."""
    calls = []

    def counted(batches: Iterator[Generated]) -> Iterator[Tensor]:
        for made in batches:
            calls.append(made.evaluations)
            yield made.x

    for k in missing:
        before = shards.rows() if progress else 0  # what all processes have drawn

        def follow(done: float, _: int, before: int = before) -> None:
            if progress:
                progress(before + done, shards.total)

        shards.put(k, counted(draw.batches(*shards.bounds(k), progress=follow)))
    if progress:
        progress(shards.rows(), shards.total)
    return sum(calls) // len(calls) if calls else None


class _Counter:
    """Counts values outside the range of the data, as samples go by."""

    def __init__(self, trained: Trained) -> None:
        self._bounds = trained.state.bounds
        self.found = Outside()

    def counted(self, parts: Iterator[Tensor]) -> Iterator[Tensor]:
        for part in parts:
            self.found += self._bounds.outside(part)
            yield part


def _form(draw: Draw) -> dict[str, Any]:
    state = draw.trained.state
    return {"kind": state.kind, "columns": state.columns, "levels": state.levels, "types": draw.trained.encoding.types}


def _identity(draw: Draw, precision: str) -> dict[str, Any]:
    """All that the numbers depend on but rounding."""
    return {
        "model": _fingerprint(draw.trained),
        "sampler": draw.sampler.spec,
        "steps": draw.steps,
        "seed": draw.seed,
        "seeds": str(draw.rows),
        "label": draw.label,
        "guidance": draw.guidance,
        "precision": precision,
    }


def _fingerprint(trained: Trained) -> str:
    """Of a checkpoint's state and weights, wherever they lie."""
    digest = hashlib.sha256(json.dumps(asdict(trained.state), sort_keys=True).encode())
    for tensor in chain(trained.model.parameters(), trained.model.buffers()):
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]
