"""`sdezoo impute`: fill the missing cells of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdezoo_cli.options import Checkpoint, Device, Json, Plugins, Quiet, Sampler
from sdezoo_cli.printing import say, say_json
from sdezoo_cli.progress import bar

_FEW = 2


def impute(
    run: Annotated[Path, typer.Argument(help="Run folder that `sdezoo train` wrote.", show_default=False)],
    table: Annotated[Path, typer.Argument(help="Table with the columns of the run; missing cells are empty.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Output file, of the same format.", show_default=False)],
    draws: Annotated[int, typer.Option(help="Number of draws; if several, the first column `draw` numbers them.")] = 1,
    checkpoint: Checkpoint = "newest",
    sampler: Sampler = None,
    steps: Annotated[int, typer.Option(help="Steps of the particle filter.")] = 50,
    batch_size: Annotated[int, typer.Option(help="Rows per batch; affects only memory and speed.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed; draw k of row i depends on (seed, k, i) and the cells of the row only.")] = 0,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fill the missing cells of a table.  Example: sdezoo impute runs/demo holes.csv --out filled.csv

    Each missing cell is drawn from the model, given the other cells of its row. All other cells are written as they are.
    """
    from sdezoo.runs.impute import impute as fill

    with bar("imputing", None, shown=not (quiet or as_json)) as update:
        made = fill(
            run,
            table,
            out,
            draws=draws,
            checkpoint=checkpoint,
            sampler=sampler,
            steps=steps,
            batch_size=batch_size,
            seed=seed,
            device=device,
            overwrite=overwrite,
            plugins=plugin or (),
            progress=update,
        )
    fewest = min(made.effective, default=None)
    if as_json:
        summary = {"out": str(made.out), "rows": made.rows, "incomplete": made.incomplete, "missing": made.missing, "draws": made.draws}
        say_json({**summary, "effective_particles": fewest, "seconds": round(made.seconds, 3)})
    elif not quiet:
        times = f", {made.draws} draws" if made.draws > 1 else ""
        cells, rows = (f"{count} {what}{'s' * (count != 1)}" for count, what in ((made.missing, "missing cell"), (made.rows, "row")))
        say(f"{cells} in {made.incomplete} of {rows} filled{times}, in {made.seconds:.1f} s: {made.out}\n")
        poor = sum(number < _FEW for number in made.effective)
        if poor:
            rare = f"In {poor} of {len(made.effective)} draws fewer than {_FEW} particles were effective at some step"
            say(f"{rare}: these rows are unlike the model's, and their draws are approximate.\n")
