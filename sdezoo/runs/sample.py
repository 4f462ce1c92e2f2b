"""Sampling: draw samples from a run folder into a file, optionally with a picture of their trajectories."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdezoo.bridging.rounds import newest_round
from sdezoo.data.bounds import Outside
from sdezoo.data.dataset import Kind
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.generation.acceleration import prepare
from sdezoo.generation.beginnings import Beginnings
from sdezoo.generation.classes import class_names, class_number
from sdezoo.generation.export import check_output
from sdezoo.generation.given import STEPS as GIVEN_STEPS
from sdezoo.generation.given import Given
from sdezoo.generation.guiding import Guides
from sdezoo.generation.samples import Draw, SampleIndices, SamplingProgress, choose_sampler, steps_for
from sdezoo.generation.sharing import Share
from sdezoo.generation.single_files import names_a_folder
from sdezoo.generation.streaming import stream
from sdezoo.learning.paths.simulated import is_simulated
from sdezoo.process.bridge import Bridge
from sdezoo.runs.given_rows import read_observed, read_windows, snapshot_rows, start_at, start_at_end, training_data
from sdezoo.sampling.start import PRIOR, AtRows, Start
from sdezoo.store.files import as_path, refuse_links
from sdezoo.store.launch import resolve_device, usual_torch
from sdezoo.store.restoring import Trained, restore
from sdezoo.zoo.registry import load

if TYPE_CHECKING:
    from sdezoo.bridging.curves import Curves

SAMPLES = 64
"""Default number of samples."""
_ENDINGS: dict[Kind, str] = {"table": ".csv", "image": ".png", "points": ".png", "paths": ".npz", "series": ".csv"}


@dataclass(frozen=True)
class Sampled:
    """Summary of the samples that were drawn.

    Args:
        out: the file.
        kind: the kind of the data, see `sdezoo.data.dataset.Data`.
        levels: pixels are multiples of 1/levels; None: floating, or no images.
        n: number of samples.
        kept: how many of them an earlier, interrupted command had drawn.
        values: number of values in the samples.
        outside: statistics of the values outside the range of the data.
        sampler: spec string of the sampler.
        steps: sampler steps, as requested.
        seed: the seed.
        seeds: indices of the samples, in the form that `SampleIndices.parse` reads.
        label: name of the class, or `each`; None: no label.
        guides: spec strings of the guides, from the inside to the outside.
        start: file of initial rows; None: the prior.
        evaluations: network evaluations (NFE) for each sample drawn by this process; None if it drew none.
        trajectory: file with the trajectories of the first `shown` samples; None: not requested.
        shown: number of samples in `trajectory`.
        effective: smallest effective number of particles of each sample drawn by this process; empty without given values.
        seconds: time spent drawing and writing, in seconds.
    """

    out: Path
    kind: str
    levels: int | None
    n: int
    kept: int
    values: int
    outside: Outside
    sampler: str
    steps: int
    seed: int
    seeds: str
    label: int | str | None
    guides: tuple[str, ...]
    start: Path | None
    evaluations: int | None
    trajectory: Path | None
    shown: int
    effective: tuple[float, ...]
    seconds: float


@usual_torch()
def sample(
    run: str | Path,
    out: str | Path | None = None,
    *,
    checkpoint: str = "newest",
    sampler: str | None = None,
    steps: int | None = None,
    n: int | None = None,
    seeds: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    label: str | int | None = None,
    guides: Sequence[str] = (),
    observed: str | Path | None = None,
    start: str | Path | None = None,
    start_time: float | None = None,
    direction: str | None = None,
    times: str | None = None,
    given: Sequence[str] = (),
    given_first: int | None = None,
    start_value: Sequence[float] = (),
    device: str = "auto",
    precision: str = "float32",
    compiled: bool = False,
    trajectory: str | Path | None = None,
    overwrite: bool = False,
    plugins: Sequence[Path] = (),
    progress: SamplingProgress | None = None,
) -> Sampled | None:
    """Draw samples from a trained model into a file.

    Large jobs write to disk as samples are drawn. If interrupted, the same call resumes them, see `sdezoo.generation.streaming`. Processes
    started by `accelerate launch` share the work.

    Args:
        run: the run folder.
        out: output file; its ending selects the format, see `sdezoo.generation.export.write`. A folder, with a slash at the end: one file
            for each image, see `sdezoo.generation.single_files`. None: a new file in the run's `samples/`, see `default_place`.
        checkpoint: the checkpoint, see `sdezoo.store.checkpoint.choose`.
        sampler: spec string of the sampler; None: the preferred one that fits.
        steps: sampler steps; None: see `steps_for`, or 50 if values are given. For paths: between two observations.
        n: number of samples, from index 0; None: `SAMPLES`, or the number of rows in `start`.
        seeds: sample indices in place of `n`, such as `3,17,100-120`.
        batch_size: samples in a batch; affects memory, speed and the rounding of the network. None: 64, and more of small rows.
        seed: the seed; sample `i` depends only on `(seed, i)`.
        label: class to condition on, by its name, or by its number if names are texts; `each`: cycle through all classes; None: no label.
            Tables as text, .parquet and .xlsx get a column of labels.
        guides: spec strings of guides, which steer the samples, such as `cfg:weight=2`; the later stand around the earlier.
        observed: file of what was observed of the samples, for guides that take it, see `sdezoo.runs.given_rows.read_observed`; sample `i`
            has row `i` modulo their number. None: nothing.
        start: file of initial rows, sample `i` starts from row `i`, see `sdezoo.runs.given_rows.start_at`; None: start from the prior.
        start_time: process time up to which these rows are noised; None: the final time.
        direction: direction of a bridge, `forward` or `backward`, see `sdezoo.bridging.rounds.newest_round`; None: no bridge.
        times: times of a bridge at which to record, see `sdezoo.bridging.curves.parse_times`: the file then holds curves. None: the end.
        given: conditions on the columns of a table, `COLUMN=VALUE` or `COLUMN=LOW..HIGH`, see `sdezoo.generation.given`.
        given_first: number of given steps of series: sample `i` continues window `i` modulo their number, of those in `start`, or of the
            held-out ones of the run. Default `n`: 64 for each window.
        start_value: where series that start at 1 start instead, one number for each column, or one for all.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        precision: `float32`, `bf16` (the network in bfloat16) or `float64` (the states in float64).
        compiled: whether to compile the network.
        trajectory: file for the trajectories of the first samples, see `sdezoo.generation.trajectory.record`; None: no file.
        overwrite: whether existing files may be replaced.
        plugins: files or modules to load first, see `sdezoo.zoo.registry.load`.
        progress: called after every step.

    Returns:
        A summary in the main process, None in the others.

    Raises:
        SdezooError: before anything is written, if an argument is invalid; later, if the sampler leaves the support or the disk is full.
        KeyboardInterrupt: if interrupted, with a message on what is kept.
    """
    run, singly = Path(run), out is not None and names_a_folder(out)
    observed, start, trajectory = as_path(observed), as_path(start), as_path(trajectory)
    share = Share.join()
    if not share.first:
        share.wait()  # let the main process alone report errors
    for file in plugins:
        load(file)
    where = share.device(resolve_device(device))
    run = newest_round(run, direction)
    trained = restore(run, checkpoint)
    out = Path(out) if out is not None else default_place(run, trained.state.kind, overwrite=overwrite)
    chosen = choose_sampler(trained, sampler)
    trained = replace(trained, model=prepare(trained.model, where, precision, compiled=compiled))
    if start is None and start_time is not None:
        raise ParameterError(f"There are no rows to start from at t = {start_time:g}.", "Give --from a file, or leave out --from-time.")
    begun = _begun(run, trained, given_first, start, start_value, start_time)
    behind = snapshot_rows(run, trained) if start is None and isinstance(trained.model.sde, Bridge) else []
    begin = PRIOR if begun else _start(trained, start, start_time, behind)
    if given and trajectory:
        raise ParameterError("Trajectories are not drawn under conditions.", "Leave out --trajectory, or --given.")
    meet = Given.of(given, trained) if given else None
    steps = steps if steps is not None else GIVEN_STEPS if meet and meet.exact else steps_for(trained, chosen)
    rows = _rows(n, seeds, begin.rows or SAMPLES * (len(begun.observed) if begun else 1))
    chosen_class = label if label is None or label == "each" else class_number(label, trained.state)
    if trajectory and is_simulated(trained.model):
        raise ParameterError("Samples of this model are trajectories themselves.", "Leave out --trajectory.")
    seen = read_observed(observed) if observed is not None else None
    steered = Guides.of(guides, trained, cache(lambda: training_data(run, trained)), seen)
    draw = Draw(trained, chosen, rows, steps, seed, batch_size, where, chosen_class, steered, begin, meet, precision == "float64", begun)
    if meet:
        draw.conditional.check()
    if trajectory and trained.state.kind == "series":
        raise ParameterError("Trajectories from noise to data are not drawn of series.", "Leave out --trajectory.")
    if trajectory:
        from sdezoo.generation.trajectory import check_trajectory

        check_trajectory(trajectory, out, overwrite)
    curves = None if times is None else _curves(draw, times, out, overwrite=overwrite)
    if share.first:
        share.wait()
    began = time.perf_counter()
    follow = progress if share.first else None
    if curves:
        written = curves.write(out, overwrite=overwrite, progress=follow) if share.first else None
    else:
        written = stream(draw, out, precision=precision, overwrite=overwrite, singly=singly, share=share, progress=follow)
    if written is None:
        return None
    shown = 0 if trajectory is None else curves.draw(trajectory, behind) if curves else _record(draw, trajectory)
    return Sampled(
        out=out,
        kind=trained.state.kind,
        levels=trained.state.levels,
        n=written.n,
        kept=written.kept,
        values=written.values,
        outside=written.outside,
        sampler=chosen.spec,
        steps=steps,
        seed=seed,
        seeds=str(draw.rows),
        label=class_names(trained.state)[chosen_class] if isinstance(chosen_class, int) else label,
        guides=steered.specs,
        start=start,
        evaluations=written.evaluations,
        trajectory=trajectory,
        shown=shown,
        effective=tuple(draw.conditional.effective) if meet else (),
        seconds=time.perf_counter() - began,
    )


def default_place(run: Path, kind: Kind, *, overwrite: bool = False) -> Path:
    """Name the file for samples where the user names none: `samples/samples.csv` of the run for a table, `.png` for images and points.

    Args:
        run: the run folder.
        kind: kind of the data.
        overwrite: whether an existing file may be replaced; else `samples-2.csv` follows, and so on.

    Raises:
        RunError: if the run folder contains links.
    """
    refuse_links(run)
    names = (run / "samples" / f"samples{'' if k == 1 else f'-{k}'}{_ENDINGS[kind]}" for k in count(1))
    return next(path for path in names if overwrite or not path.exists())


def _begun(
    run: Path, trained: Trained, steps: int | None, start: Path | None, values: Sequence[float], time: float | None
) -> Beginnings | None:
    """What series continue, or start at; None: nothing is given."""
    if steps is None:
        if values and start is not None:
            raise ParameterError("Series start from rows, or at a value.", "Leave out --from, or --start-value.")
        return Beginnings.starting(values, trained) if values else None
    if values or time is not None:
        raise ParameterError(
            "Series that continue windows start where those do.", "Leave out --start-value and --from-time, or --given-first."
        )
    if start is not None:
        return Beginnings.of(read_windows(start, trained), steps, trained)
    if trained.state.kind != "series":
        raise CompositionError(f"This model is of {trained.state.kind} data, not of series.", "Leave out --given-first.")
    held_out = training_data(run, trained).test
    if not len(held_out):
        raise ParameterError("The run has no held-out windows to continue.", "Give windows: --from windows.csv.")
    return Beginnings.of(held_out, steps, trained)


def _start(trained: Trained, path: Path | None, time: float | None, snapshots: Sequence[Tensor]) -> Start:
    """Where sampling starts: rows of a file, the end of a bridge, or the prior."""
    if path is not None:
        return start_at(path, trained, time)
    return start_at_end(snapshots, trained) if snapshots else PRIOR


def _curves(draw: Draw, times: str, out: Path, *, overwrite: bool) -> Curves:
    if not isinstance(draw.start, AtRows):
        raise ParameterError("--times is for bridges, which start from rows.", "Leave out --times.")
    from sdezoo.bridging.curves import Curves, parse_times  # it loads matplotlib

    check_output(out, "paths", overwrite)
    device = draw.device or torch.device("cpu")
    return Curves(draw.trained, draw.sampler, draw.start.x, parse_times(times), draw.rows, draw.steps, draw.seed, device)


def _record(draw: Draw, trajectory: Path) -> int:
    from sdezoo.generation.trajectory import record  # it loads matplotlib

    return record(draw, trajectory)


def _rows(n: int | None, seeds: str | None, default: int) -> SampleIndices:
    if seeds is None:
        return SampleIndices.first(default if n is None else n)
    if n is not None:
        raise ParameterError("Both -n and --seeds were given.", "Give one of them: --seeds lists the indices, -n counts from 0.")
    return SampleIndices.parse(seeds)
