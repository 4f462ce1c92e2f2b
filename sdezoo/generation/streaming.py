"""Stream any number of samples to a file: memory is that of a few batches, an interruption loses at most one shard a process.

Up to eight batches are drawn in memory and then written. Larger jobs write shards to disk as they are drawn (see `sdezoo.store.shards`)
and merge them at the end. The boundaries of shards and batches depend only on positions in the list of samples, so any number of processes
draws the same batches.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.bounds import Outside
from sdezoo.data.column_types import or_numbers
from sdezoo.data.conversion import held
from sdezoo.data.formats import TableFormat
from sdezoo.generation.classes import LabelColumn, class_names, label_column
from sdezoo.generation.export import check_output, write_parts
from sdezoo.generation.given import column_names
from sdezoo.generation.samples import Draw, Generated, SamplingProgress
from sdezoo.generation.sharing import Share
from sdezoo.generation.single_files import check_folder, write_folder
from sdezoo.learning.paths.simulated import is_simulated
from sdezoo.store.restoring import Trained
from sdezoo.store.shards import Shards
from sdezoo.zoo.formats import find_format

_BATCHES = 8


@dataclass(frozen=True)
class Written:
    """Summary of the samples that were written.

    Args:
        n: number of samples.
        kept: how many of them an earlier, interrupted command had drawn.
        values: number of values in the samples.
        outside: statistics of the values outside the range of the data.
        evaluations: network evaluations (NFE) for each sample drawn by this process; None if it drew none.
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
    singly: bool = False,
    share: Share | None = None,
    progress: SamplingProgress | None = None,
) -> Written | None:
    """Draw samples and write them to a file.

    Args:
        draw: specification of the samples.
        out: output file, see `sdezoo.generation.export.write`. A picture needs all samples in memory at the end.
        precision: precision of the network; shards drawn in another precision are not resumed.
        singly: whether `out` is a folder, and each image a file of its own, see `sdezoo.generation.single_files`.
        overwrite: whether an existing file, or shards of another command, may be replaced.
        share: rank of this process; None: the only process.
        progress: called after every step, in the main process only.

    Returns:
        A summary in the main process, None in the others.

    Raises:
        RunError: before sampling, if `out` or its shards cannot be written; later, if the disk is full. Then shards are kept, and the same
            call resumes from them.
        SupportError: if the sampler leaves the support.
        KeyboardInterrupt: if interrupted, with a message on what is kept.
    """
    share = share or Share()
    state, n = draw.trained.state, len(draw.rows)
    size = _BATCHES * draw.batch
    if share.first:
        Shards.clear(out)
        there = not overwrite and out.is_file() and Shards.folder_of(out).exists()
        merged = Shards.complete(out, _identity(draw, precision), total=n, event=state.event) if there else None
        if singly:
            classes = () if draw.label is None else class_names(state)
            check_folder(out, state.kind, state.event, state.levels, overwrite, classes)
        else:
            check_output(out, state.kind, overwrite or (merged is not None and _is_merged(draw, merged, out)))
    if n <= size and not Shards.folder_of(out).exists():
        return _at_once(draw, out, singly, progress) if share.first else None
    identity = _identity(draw, precision)
    if share.first:
        Shards.reserve(out, identity, total=n, event=state.event, size=size, overwrite=overwrite)
    share.wait()
    shards = Shards.found(out, identity, total=n, event=state.event)
    try:
        missing = shards.missing()
        kept = n - sum(last - first for first, last in map(shards.bounds, missing))
        share.wait()
        evaluations = _fill(draw, shards, missing[share.index :: share.count], progress if share.first else None)
        share.wait()
        if not share.first:
            return None
        outside = _Counter(draw.trained)
        _write(draw, shards.read, n, out, singly, shards.remedy, outside.counted)
        shards.remove()
        return Written(n, kept, n * prod(state.event), outside.found, evaluations)
    except KeyboardInterrupt:
        rows = shards.rows()
        says = f"{rows} of {n} samples are kept in '{shards.folder}'. Give the same command to resume." if rows else ""
        raise KeyboardInterrupt(says) from None
    finally:
        if share.count == 1 and shards.folder.exists() and not shards.rows():
            shards.remove()


def _is_merged(draw: Draw, shards: Shards, out: Path) -> bool:
    """Whether `out` holds just these shards: a process may be killed after it has written the file and before it removes them."""
    again = shards.folder / f"again-{out.name}"
    _write(draw, shards.read, shards.total, again, False, shards.remedy)
    try:
        return filecmp.cmp(again, out, shallow=False)
    finally:
        again.unlink()


def _write(
    draw: Draw,
    read: Callable[[], Iterator[Tensor]],
    n: int,
    out: Path,
    singly: bool,
    remedy: str,
    follow: Callable[[Iterator[Tensor]], Iterator[Tensor]] = iter,
) -> None:
    state = draw.trained.state
    parts = map(state.bounds.final, follow(read()))
    types = held(draw.trained.encoding.types, read())
    labels = _labels(draw)
    if singly:
        write_folder(parts, out, state.levels, remedy, state.maximum, labels)
        return
    event, columns = state.event, state.columns
    if draw.label is not None and find_format(out, TableFormat) is not None:
        added = label_column(state)
        parts = _labelled(draw, parts, added)
        types = _inserted(or_numbers(types, event[0]), added.place, added.type)
        columns = _inserted(column_names(draw.trained), added.place, added.name)
        event = (event[0] + 1,)
    begun = draw.begun if draw.begun and draw.begun.steps else None
    observed, steps = (begun.observed, begun.steps) if begun else (None, 0)
    times = draw.trained.model.times if is_simulated(draw.trained.model) else None
    form = {"columns": columns, "levels": state.levels, "types": types, "times": times, "observed": observed, "given": steps}
    form |= {"style": state.style, "labels": labels}
    write_parts(parts, (n, *event), out, kind=state.kind, **form, remedy=remedy)


def _labels(draw: Draw) -> np.ndarray | None:
    """The names of the samples' classes."""
    numbers = draw.labels(list(draw.rows))
    return None if numbers is None else np.array(class_names(draw.trained.state))[numbers.numpy()]


def _inserted(items: Sequence[Any], place: int, item: object) -> tuple[Any, ...]:
    return (*items[:place], item, *items[place:])


def _labelled(draw: Draw, parts: Iterable[Tensor], added: LabelColumn) -> Iterator[Tensor]:
    """The samples with a column of the codes of their classes."""
    first = 0
    for part in parts:
        last = first + len(part)
        labels = draw.labels(list(draw.rows.cut(first, last)))
        first = last
        yield part if labels is None else torch.cat([part[:, : added.place], added.codes[labels][:, None], part[:, added.place :]], 1)


def _at_once(draw: Draw, out: Path, singly: bool, progress: SamplingProgress | None) -> Written:
    made = draw.together(progress=progress)
    _write(draw, lambda: iter([made.x]), len(made.x), out, singly, "Give --out another place.")
    return Written(len(made.x), 0, made.x.numel(), made.outside, made.evaluations)


def _fill(draw: Draw, shards: Shards, missing: list[int], progress: SamplingProgress | None) -> int | None:
    """Draw the `missing` shards; return the network evaluations for each sample."""
    calls = []

    def counted(batches: Iterator[Generated]) -> Iterator[Tensor]:
        for made in batches:
            calls.append(made.evaluations)
            yield made.x

    for k in missing:
        before = shards.rows() if progress else 0  # drawn by all processes

        def follow(done: float, _: int, before: int = before) -> None:
            if progress:
                progress(before + done, shards.total)

        shards.put(k, counted(draw.batches(*shards.bounds(k), progress=follow)))
    if progress:
        progress(shards.rows(), shards.total)
    return sum(calls) // len(calls) if calls else None


class _Counter:
    """Count values outside the range of the data while chunks of samples pass through."""

    def __init__(self, trained: Trained) -> None:
        self._bounds = trained.state.bounds
        self.found = Outside()

    def counted(self, parts: Iterator[Tensor]) -> Iterator[Tensor]:
        for part in parts:
            self.found += self._bounds.outside(part)
            yield part


def _identity(draw: Draw, precision: str) -> dict[str, Any]:
    """Everything that determines the samples, up to rounding."""
    given = {"start": draw.start.fingerprint} if draw.start.fingerprint else {}
    given |= {"given": draw.given.fingerprint} if draw.given else {}
    given |= {"begun": draw.begun.fingerprint} if draw.begun else {}
    given |= {"observed": draw.guides.fingerprint} if draw.guides.observed else {}
    return {
        "model": _fingerprint(draw.trained),
        "sampler": draw.sampler.spec,
        "steps": draw.steps,
        "seed": draw.seed,
        "seeds": str(draw.rows),
        "label": draw.label,
        "guides": list(draw.guides.specs),
        "precision": precision,
        **given,
    }


def _fingerprint(trained: Trained) -> str:
    """Hash the state and the weights of a checkpoint, independently of its path."""
    digest = hashlib.sha256(json.dumps(asdict(trained.state), sort_keys=True).encode())
    for tensor in chain(trained.model.parameters(), trained.model.buffers()):
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]
