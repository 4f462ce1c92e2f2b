"""Sampling: from a run folder to a file of samples, and where asked a picture of their way from noise to data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sdezoo.data.bounds import Outside
from sdezoo.errors import ParameterError
from sdezoo.generation.acceleration import prepare
from sdezoo.generation.samples import Draw, SampleIndices, SamplingProgress, choose_sampler
from sdezoo.generation.sharing import Share
from sdezoo.generation.streaming import stream
from sdezoo.generation.trajectory import check_trajectory, record
from sdezoo.store.launch import resolve_device
from sdezoo.store.restoring import restore
from sdezoo.zoo.registry import load

SAMPLES = 64
"""How many are drawn where neither a number nor indices are given."""


@dataclass(frozen=True)
class Sampled:
    """What was drawn, and where it lies.

    Args:
        out: the file. kind: of the data, see `sdezoo.data.dataset.Data`. n: samples. kept: those of them that an earlier command had drawn.
        values: all numbers in them. outside: those outside the range of the data, and how far.
        sampler: its spec string. steps, seed, label, guidance: as asked for. seeds: indices, as `SampleIndices.parse` reads them.
        evaluations: calls of the network for each sample that this process drew; None where it drew none.
        trajectory: the picture of the way of the first `shown` samples; None where none was asked for.
        seconds: time spent drawing and writing.
    """

    out: Path
    kind: str
    n: int
    kept: int
    values: int
    outside: Outside
    sampler: str
    steps: int
    seed: int
    seeds: str
    label: int | str | None
    guidance: float
    evaluations: int | None
    trajectory: Path | None
    shown: int
    seconds: float


def sample(
    run: str | Path,
    out: str | Path,
    *,
    checkpoint: str = "newest",
    sampler: str | None = None,
    steps: int = 20,
    n: int | None = None,
    seeds: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    label: int | Literal["each"] | None = None,
    guidance: float = 1.0,
    device: str = "auto",
    precision: str = "float32",
    compiled: bool = False,
    trajectory: Path | None = None,
    overwrite: bool = False,
    plugins: Sequence[Path] = (),
    progress: SamplingProgress | None = None,
) -> Sampled | None:
    """Draw samples of a trained model into a file; what was drawn, in the first of the processes that share the work, None in the others.

    Samples that are many go to the disk as they are drawn, and the same call resumes what was interrupted, see
    `sdezoo.generation.streaming`. Processes that `accelerate launch` started share the work.

    Args:
        run: the run folder. out: the file; its ending says how it is written, see `sdezoo.generation.export.write`.
        checkpoint: of the run, see `sdezoo.store.checkpoint.choose`.
        sampler: spec string; None: the first that fits of those preferred for such data. steps: of the sampler.
        n: number of samples, from index 0 on; default: `SAMPLES`. seeds: their indices, in place of `n`, such as `3,17,100-120`.
        batch_size: samples drawn at a time; changes memory, speed, and the network's rounding. seed: sample i depends on (seed, i) alone.
        label: class to draw; `each`: all of them in turn. guidance: scale of classifier-free guidance to the label.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`. precision: of the network, `float32` or `bf16`. compiled: whether it is compiled.
        trajectory: file for the way of the first samples, see `sdezoo.generation.trajectory.record`. overwrite: files may be replaced.
        plugins: files or modules that are loaded first, see `sdezoo.zoo.registry.load`. progress: called after every step.

    Raises:
        SdezooError: for anything that cannot work, before anything is written; later, where the sampler leaves the support, or the disk is
            full.
        KeyboardInterrupt: when interrupted, with a sentence on what is kept.
    """
    run, out = Path(run), Path(out)
    share = Share.join()
    if not share.first:
        share.wait()  # what is refused, the first process says alone
    for file in plugins:
        load(file)
    where = share.device(resolve_device(device))
    trained = restore(run, checkpoint)
    chosen = choose_sampler(trained, sampler)
    trained = replace(trained, model=prepare(trained.model, where, precision, compiled=compiled))
    draw = Draw(trained, chosen, _rows(n, seeds), steps, seed, batch_size, where, label, guidance)
    if trajectory:
        check_trajectory(trajectory, out, overwrite)
    if share.first:
        share.wait()
    began = time.perf_counter()
    written = stream(draw, out, precision=precision, overwrite=overwrite, share=share, progress=progress if share.first else None)
    if written is None:
        return None
    shown = record(draw, trajectory) if trajectory else 0
    return Sampled(
        out=out,
        kind=trained.state.kind,
        n=written.n,
        kept=written.kept,
        values=written.values,
        outside=written.outside,
        sampler=chosen.spec,
        steps=steps,
        seed=seed,
        seeds=str(draw.rows),
        label=label,
        guidance=guidance,
        evaluations=written.evaluations,
        trajectory=trajectory,
        shown=shown,
        seconds=time.perf_counter() - began,
    )


def _rows(n: int | None, seeds: str | None) -> SampleIndices:
    if seeds is None:
        return SampleIndices.first(SAMPLES if n is None else n)
    if n is not None:
        raise ParameterError("Both -n and --seeds were given.", "Give one of them: --seeds names the samples, -n is that many from 0 on.")
    return SampleIndices.parse(seeds)
