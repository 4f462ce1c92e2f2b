"""`sdezoo sample`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sdezoo.errors import ParameterError
from sdezoo_cli.options import Checkpoint, Compile, Device, Json, Plugins, Precision, Quiet, load_plugins
from sdezoo_cli.progress import bar

if TYPE_CHECKING:
    from sdezoo.generation.samples import SampleIndices

_N = 64
_INTERRUPTED = 130


def sample(
    run: Annotated[Path, typer.Argument(help="Run folder that `sdezoo train` wrote.", show_default=False)],
    checkpoint: Checkpoint = "newest",
    sampler: Annotated[str | None, typer.Option(help="Sampler, NAME[:key=value,…]. Default: what fits best, for most dpmpp-2m.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the sampler.")] = 20,
    n: Annotated[int | None, typer.Option("-n", help=f"Number of samples. Default: {_N}.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="LIST", help="Which samples, in place of -n: 0-63 or 3,17,100-120.")] = None,
    batch_size: Annotated[int, typer.Option(help="Samples drawn at a time; changes memory, speed, and the network's rounding.")] = 64,
    seed: Annotated[int, typer.Option(help="Sample i depends on (seed, i) alone.")] = 0,
    label: Annotated[str | None, typer.Option(help="Class to draw, a number; each: all of them in turn.")] = None,
    guidance: Annotated[float, typer.Option(help="Scale of classifier-free guidance to the label; 1: none beyond it.")] = 1.0,
    device: Device = "auto",
    precision: Precision = "float32",
    compiled: Compile = False,
    out: Annotated[Path, typer.Option(help=".png, .npz or .npy; .csv or .parquet for tables and points.")] = Path("samples.png"),
    trajectory: Annotated[Path | None, typer.Option(help=".gif or .png: the way of the first samples, from noise to data.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files if they are there.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw samples from a trained model.  Example: sdezoo sample runs/demo -n 64 --out samples.png

    Many samples go to the disk as they are drawn; where that was interrupted, the same command goes on. Started by
    `accelerate launch -m sdezoo_cli sample …`, processes share the work.
    """
    with _interruptible():
        from dataclasses import replace

        from sdezoo.generation.sharing import Share

        share = Share.join()
        if not share.first:
            share.wait()  # what is refused, the first process says alone
        load_plugins(plugin)
        from sdezoo.generation.acceleration import prepare
        from sdezoo.generation.samples import Draw, choose_sampler
        from sdezoo.generation.streaming import stream
        from sdezoo.generation.trajectory import check_trajectory, record
        from sdezoo.store.launch import resolve_device
        from sdezoo.store.restoring import restore

        where = share.device(resolve_device(device))
        trained = restore(run, checkpoint)
        chosen = choose_sampler(trained, sampler)
        trained = replace(trained, model=prepare(trained.model, where, precision, compiled=compiled))
        draw = Draw(trained, chosen, _rows(n, seeds), steps, seed, batch_size, where, _label(label), guidance)
        if trajectory:
            check_trajectory(trajectory, out, overwrite)
        if share.first:
            share.wait()
        began = time.perf_counter()
        with bar("sampling", len(draw.rows), shown=share.first and not (quiet or as_json)) as update:
            made = stream(draw, out, precision=precision, overwrite=overwrite, share=share, report=update)
        if made is None:
            return
        shown = record(draw, trajectory) if trajectory else 0
        seconds = time.perf_counter() - began
    if as_json:
        summary = {"out": str(out), "n": made.n, "sampler": chosen.spec, "steps": steps, "evaluations": made.evaluations, "seed": seed}
        summary |= {"label": draw.label, "guidance": guidance, "seeds": str(draw.rows), "kept": made.kept}
        summary |= {"trajectory": str(trajectory) if trajectory else None}
        sys.stdout.write(json.dumps({**summary, "outside": made.outside, "seconds": round(seconds, 3)}) + "\n")
    elif not quiet:
        calls = f", {made.evaluations} network evaluations each" if made.evaluations else ""
        sys.stdout.write(
            f"{made.n} samples by {chosen.spec}{calls}, in {seconds:.1f} s: {out}\n"
            + (f"{made.kept} of them had been drawn before.\n" if made.kept else "")
            + f"{made.outside} of {made.values} values lie outside the range of the data"
            f"{' (saturated in the picture)' if made.outside and out.suffix == '.png' and trained.state.kind == 'image' else ''}.\n"
            + (f"The way of the first {shown}: {trajectory}\n" if trajectory else "")
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(f"Interrupted: {str(stop) or 'nothing was written.'}\n")
        raise typer.Exit(_INTERRUPTED) from None


def _rows(n: int | None, seeds: str | None) -> SampleIndices:
    from sdezoo.generation.samples import SampleIndices

    if seeds is None:
        return SampleIndices.first(_N if n is None else n)
    if n is not None:
        raise ParameterError("Both -n and --seeds were given.", "Give one of them: --seeds names the samples, -n is that many from 0 on.")
    return SampleIndices.parse(seeds)


def _label(text: str | None) -> int | Literal["each"] | None:
    if text is None or text == "each":
        return text
    if not text.isdecimal():
        raise ParameterError(f"label={text} is no class.", "Give the number of a class, or each.")
    return int(text)
