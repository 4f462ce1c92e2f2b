"""`sdezoo sample`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from sdezoo_cli.options import Device, Json, Plugins, Quiet, load_plugins
from sdezoo_cli.progress import bar


def sample(
    run: Annotated[Path, typer.Argument(help="Run folder that `sdezoo train` wrote.", show_default=False)],
    sampler: Annotated[str | None, typer.Option(help="Sampler, NAME[:key=value,…]. Default: dpmpp-2m where it fits.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the sampler.")] = 20,
    n: Annotated[int, typer.Option("-n", help="Number of samples.")] = 64,
    batch_size: Annotated[int, typer.Option(help="Samples drawn at a time; changes nothing but memory and speed.")] = 64,
    seed: Annotated[int, typer.Option(help="Sample i depends on (seed, i) alone.")] = 0,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(help=".png, .npz or .npy; .csv or .parquet for tables and points.")] = Path("samples.png"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw samples from a trained model.  Example: sdezoo sample runs/demo -n 64 --out samples.png"""
    load_plugins(plugin)
    from sdezoo.runs.checkpoint import restore
    from sdezoo.runs.config import resolve_device
    from sdezoo.runs.export import check_output, write
    from sdezoo.runs.generation import choose_sampler, generate

    where = resolve_device(device)
    trained = restore(run)
    state = trained.state
    check_output(out, state.kind, overwrite)
    chosen = choose_sampler(trained, sampler)
    began = time.perf_counter()
    with bar("sampling", n, shown=not (quiet or as_json)) as update:
        made = generate(trained, chosen, n, steps=steps, seed=seed, batch_size=batch_size, device=where, report=update)
    write(made.x, out, kind=state.kind, columns=state.columns, levels=state.levels)
    seconds = time.perf_counter() - began
    if as_json:
        summary = {"out": str(out), "n": n, "sampler": chosen.spec, "steps": steps, "evaluations": made.evaluations, "seed": seed}
        sys.stdout.write(json.dumps({**summary, "outside": made.outside, "seconds": round(seconds, 3)}) + "\n")
    elif not quiet:
        sys.stdout.write(
            f"{n} samples by {chosen.spec}, {made.evaluations} network evaluations each, in {seconds:.1f} s: {out}\n"
            f"{made.outside} of {made.x.numel()} values lie outside the range of the data"
            f"{' (saturated in the picture)' if made.outside and out.suffix == '.png' and state.kind == 'image' else ''}.\n"
        )
