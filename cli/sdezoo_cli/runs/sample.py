"""`sdezoo sample`: draw samples from a trained model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdezoo_cli.options import Checkpoint, Compile, Device, Json, Plugins, Precision, Quiet, Sampler
from sdezoo_cli.printing import say, say_json
from sdezoo_cli.progress import bar

if TYPE_CHECKING:
    from sdezoo.runs.sample import Sampled

_INTERRUPTED = 130
_FEW = 2


def sample(
    run: Annotated[Path, typer.Argument(help="Run folder that `sdezoo train` wrote.", show_default=False)],
    checkpoint: Checkpoint = "newest",
    sampler: Sampler = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the sampler. Default: 20; tables: 12 or 16; series and --given COLUMN=VALUE: 50.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of samples. Default: 64, or the rows of --from.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="LIST", help="Indices of the samples to draw, instead of -n: 0-63 or 3,17,100-120.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Samples per batch; affects only memory, speed and rounding. Default: 64, and more of small rows."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed; sample i depends on (seed, i) only.")] = 0,
    label: Annotated[str | None, typer.Option(help="Class to draw, by name or number; each: all classes in turn.")] = None,
    guide: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GUIDE", help="What steers the samples, NAME[:key=value,…], such as cfg:weight=2 (repeatable, from the inside)."
        ),
    ] = None,
    observed: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=".npz or .npy of what is known of the samples, for guides such as inpaint.", show_default=False),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="File of rows to start from: row i is noised and denoised to give sample i.", show_default=False),
    ] = None,
    start_time: Annotated[
        float | None, typer.Option("--from-time", help="Time between 0 and 1 up to which rows are noised. Default: the end.")
    ] = None,
    direction: Annotated[
        str | None, typer.Option(metavar="DIRECTION", help="forward or backward: the way that rows take over a bridge.", show_default=False)
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(metavar="TIMES", help="Record curves of a bridge at these times: FIRST:LAST:COUNT, or 0,0.5,1.", show_default=False),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Condition on a column of a table: x=1, x=1..2, x=..2 or x=1.. (repeatable)."),
    ] = None,
    given_first: Annotated[
        int | None, typer.Option(metavar="STEPS", help="Continue series from so many steps of the windows in --from, or held-out ones.")
    ] = None,
    start_value: Annotated[
        str | None, typer.Option(metavar="VALUES", help="Where series that start at 1 start instead; one value a column, or one for all.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "float32",
    compiled: Compile = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Output file: .png, .npz or .npy; .csv or .parquet for tables and points. DIR/: a file per image, by class. "
            "Default: a new file in the run's samples/, .csv for tables, .png for images and points.",
        ),
    ] = None,
    trajectory: Annotated[
        Path | None, typer.Option(help=".gif or .png for the trajectories of the first samples, from noise to data.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw samples from a trained model.  Example: sdezoo sample runs/demo -n 64

    Large numbers of samples are written to disk as they are drawn. If sampling is interrupted, run the same command again to resume. Use
    `accelerate launch --no_python sdezoo sample …` to share the work among processes.
    """
    with _interruptible():
        from sdezoo.runs.sample import sample as draw
        from sdezoo.store.launch import is_first

        with bar("sampling", None, shown=is_first() and not (quiet or as_json)) as update:
            made = draw(
                run,
                out,
                checkpoint=checkpoint,
                sampler=sampler,
                steps=steps,
                n=n,
                seeds=seeds,
                batch_size=batch_size,
                seed=seed,
                label=label,
                guides=guide or (),
                observed=observed,
                start=start,
                start_time=start_time,
                direction=direction,
                times=times,
                given=given or (),
                given_first=given_first,
                start_value=_numbers(start_value),
                device=device,
                precision=precision,
                compiled=compiled,
                trajectory=trajectory,
                overwrite=overwrite,
                plugins=plugin or (),
                progress=update,
            )
    if made is None:
        return
    if as_json:
        summary = {"out": str(made.out), "n": made.n, "sampler": made.sampler, "steps": made.steps, "evaluations": made.evaluations}
        summary |= {"seed": made.seed, "label": made.label, "guides": list(made.guides), "seeds": made.seeds, "kept": made.kept}
        summary |= {"from": str(made.start) if made.start else None}
        summary |= {"effective_particles": round(min(made.effective), 3) if made.effective else None}
        summary |= {"trajectory": str(made.trajectory) if made.trajectory else None, "outside": made.outside.count}
        summary |= {"outside_by": made.outside.farthest, "seconds": round(made.seconds, 3)}
        say_json(summary)
    elif not quiet:
        say(_text(made))


def _numbers(text: str | None) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a list of numbers, such as 100 or 100,2.5.", param_hint="--start-value") from None


def _text(made: Sampled) -> str:
    calls = f", {made.evaluations} network evaluations each" if made.evaluations else ""
    shown = "are rounded to the nearest level" if made.levels else "saturate in pictures"
    beyond = f"{made.outside.by}; they {shown}" if made.outside.count and made.kind == "image" else made.outside.by
    return (
        f"{made.n} samples by {made.sampler}{calls}, in {made.seconds:.1f} s: {made.out}\n"
        + (f"{made.kept} of them were drawn before.\n" if made.kept else "")
        + f"{made.outside.count} of {made.values} values lie outside the range of the data{beyond}.\n"
        + _particles(made.effective)
        + (f"Trajectories of the first {made.shown}: {made.trajectory}\n" if made.trajectory else "")
    )


def _particles(effective: tuple[float, ...]) -> str:
    if not effective:
        return ""
    poor = sum(number < _FEW for number in effective)
    found = f"Effective particles of a sample, at least: {min(effective):.1f}, on average {sum(effective) / len(effective):.1f}.\n"
    warning = f"Warning: {poor} samples had fewer than {_FEW}, and follow the conditions only approximately. Take more --steps.\n"
    return found + (warning if poor else "")


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        if os.environ.get("RANK", "0") == "0":
            say(f"Interrupted: {str(stop) or 'nothing was written.'}\n", error=True)
        raise typer.Exit(_INTERRUPTED) from None
