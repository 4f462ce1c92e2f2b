"""`sdezoo paths`: simulate forward paths of an SDE."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sdezoo.errors import ParameterError
from sdezoo_cli.options import Json, Plugins, Quiet
from sdezoo_cli.printing import say, say_json
from sdezoo_cli.progress import bar


def paths(
    sde: Annotated[str, typer.Argument(help="SDE, NAME[:key=value,…], with all its hyper-parameters.", show_default=False)],
    x0: Annotated[str, typer.Option(metavar="LIST", help="Data at time 0: a number for each column.", show_default=False)],
    steps: Annotated[int, typer.Option(help="Recorded steps, of equal length.")] = 252,
    n: Annotated[int, typer.Option("-n", help="Number of paths.")] = 1000,
    horizon: Annotated[
        float | None, typer.Option(help="Last time, in units of the SDE's time. Default: that of the SDE, usually 1.")
    ] = None,
    substeps: Annotated[
        int | None,
        typer.Option(help="Steps between recorded times, if the SDE has no exact transition. Default: 10.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed; path i depends on (seed, i) only.")] = 0,
    out: Annotated[Path, typer.Option(help="Output file, .npz (with the times) or .npy.")] = Path("paths.npz"),
    plot: Annotated[Path | None, typer.Option(help=".png for a plot of the first paths.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Simulate forward paths.  Example: sdezoo paths gbm:sigma=0.2,mu=0.05 --x0 100 --steps 252 -n 10000 --out paths.npz

    No model is trained. Steps are exact if the SDE knows its transition: affine SDEs, cir, jacobi, wright-fisher, cld.
    """
    from sdezoo.runs.paths import check_plot
    from sdezoo.runs.paths import paths as simulate

    began = time.perf_counter()
    made = simulate(sde, _numbers(x0), steps=steps, n=n, horizon=horizon, seed=seed, substeps=substeps, plugins=plugin or ())
    if plot is not None:
        check_plot(plot, overwrite)
    with bar("simulating", None, shown=not (quiet or as_json)) as update:
        made.write(out, overwrite=overwrite, progress=update)
    if plot is not None:
        made.plot(plot, overwrite=overwrite)
    seconds = time.perf_counter() - began
    if as_json:
        summary = {"out": str(out), "n": n, "steps": steps, "horizon": float(made.times[-1]), "exact": made.exact, "scheme": made.scheme}
        say_json({**summary, "seed": seed, "plot": str(plot) if plot else None, "seconds": round(seconds, 3)})
    elif not quiet:
        span = f"over {steps} steps up to t = {float(made.times[-1]):g}"
        say(f"{n} paths of {made.sde.spec} {span}, by {made.scheme}, in {seconds:.1f} s: {out}\n")
        say(f"Plot of the first paths: {plot}\n" if plot else "")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ParameterError(f"x0={text} is not a list of numbers.", "Give a number, or one for each column, such as 100,0.04.") from None
