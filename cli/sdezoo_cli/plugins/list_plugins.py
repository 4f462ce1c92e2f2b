"""`sdezoo list`: list installed plugins without importing them."""

from __future__ import annotations

from shutil import get_terminal_size
from typing import Annotated

import typer

from sdezoo_cli.options import Json, Plugins, load_plugins
from sdezoo_cli.plugins.listing import print_plugins
from sdezoo_cli.printing import say, to_terminal


def list_plugins(
    kind: Annotated[
        str | None, typer.Argument(help="sdes, losses, samplers, networks, datasets, formats, tasks, guides or optimizers; default: all.")
    ] = None,
    fits: Annotated[
        bool,
        typer.Option(
            "--fits", help="Show which losses and samplers work with which SDEs instead; as a Markdown table where output is no terminal."
        ),
    ] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """List installed plugins, one per line.  Example: sdezoo list samplers"""
    load_plugins(plugin)
    if fits:
        from sdezoo.zoo.composition import broken, in_lines, table
        from sdezoo.zoo.registry import REGISTRIES

        say((in_lines(get_terminal_size().columns) if to_terminal() else table()) + "\n")
        for registry in REGISTRIES.values():
            say("".join(f"Omitted: {reason}\n" for reason in broken(registry).values()), error=True)
        return
    from sdezoo.errors import PluginError
    from sdezoo.zoo.registry import REGISTRIES
    from sdezoo.zoo.spec import suggestion

    if kind is not None and kind not in REGISTRIES:
        raise PluginError(f"There is no kind of plugin '{kind}'.", suggestion(kind, REGISTRIES))
    print_plugins(REGISTRIES if kind is None else [kind], as_json=as_json)
