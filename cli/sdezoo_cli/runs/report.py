"""`sdezoo report`: one page on a run, or on two beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdezoo_cli.options import Json, Plugins, Quiet, load_plugins
from sdezoo_cli.printing import say, say_json


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN [RUN2]", help="Run folder; a second one is shown beside it.")],
    out: Annotated[
        Path | None, typer.Option(help="The page, .html. Default: report.html in the run folder, the newest.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page if it exists.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write one HTML page on a run: model, loss, samples, quality, privacy, provenance.  Example: sdezoo report runs/demo

    The page needs no network and runs no script, so that it can be mailed. It shows what `sdezoo evaluate` last measured.
    """
    load_plugins(plugin)
    from sdezoo.report.page import report as write

    page = write(runs, out, overwrite=overwrite)
    if as_json:
        say_json({"report": str(page), "runs": [str(run) for run in runs]})
    elif not quiet:
        say(f"Report: {page}\n")
