"""`sdezoo advise`: what to start with for data."""

from __future__ import annotations

from typing import Annotated

import typer

from sdezoo_cli.options import Columns, Json, Plugins, load_plugins, said_of_columns
from sdezoo_cli.printing import say, say_json


def advise(
    file: Annotated[str, typer.Argument(metavar="FILE", help="File or folder of data, or a dataset.")],
    column: Columns = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Say which process, sampler and steps to start with, and why.  Example: sdezoo advise prices.csv"""
    load_plugins(plugin)
    from sdezoo.report.advice import advise as choose

    found = choose(file, said_of_columns(column))
    if as_json:
        say_json(found.record)
    else:
        say(found.text)
