"""`sdezoo export`: a trained model for programs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdezoo_cli.options import Checkpoint, Json, Plugins, Quiet, load_plugins
from sdezoo_cli.printing import say, say_json


def export(
    run: Annotated[Path, typer.Argument(help="Run folder that `sdezoo train` wrote.", show_default=False)],
    onnx: Annotated[Path, typer.Option(metavar="DIR", help="New folder for graphs of ONNX and a script of numpy.", show_default=False)],
    checkpoint: Checkpoint = "newest",
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler. Default: 20, of series 50.", show_default=False)] = None,
    n: Annotated[int, typer.Option("-n", help="Number of samples whose noise is written.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of these samples.")] = 0,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a trained model as ONNX, with a script that samples without torch.  Example: sdezoo export runs/demo --onnx demo-onnx"""
    load_plugins(plugin)
    from sdezoo.exchange.graphs import export_onnx

    made = export_onnx(run, onnx, checkpoint=checkpoint, steps=steps, n=n, seed=seed)
    if as_json:
        say_json({"folder": str(made.folder), "error": made.error, "steps": made.steps, "n": made.rows})
    elif not quiet:
        say(
            f"The denoiser as ONNX, equal to torch's within {made.error:.0e}: {made.folder}\n"
            f"Samples without torch:  python {made.folder / 'sample.py'} > samples.csv\n"
        )
