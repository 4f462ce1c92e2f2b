"""`sdezoo list`: what is installed, read without importing any of it."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from sdezoo_cli.options import Json, Plugins, load_plugins


def list_plugins(
    kind: Annotated[str | None, typer.Argument(help="sdes, losses, samplers, networks, datasets, formats or tasks; default: all.")] = None,
    fits: Annotated[
        bool, typer.Option("--fits", help="Show instead which losses and samplers fit which SDEs, as a Markdown table.")
    ] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """List the plugins that are installed, one line each."""
    load_plugins(plugin)
    if fits:
        from sdezoo.zoo.composition import broken, table
        from sdezoo.zoo.registry import REGISTRIES

        sys.stdout.write(table() + "\n")
        for registry in REGISTRIES.values():
            sys.stderr.writelines(f"Left out: {reason}\n" for reason in broken(registry).values())
        return
    from sdezoo.errors import PluginError
    from sdezoo.zoo.registry import REGISTRIES
    from sdezoo.zoo.spec import suggestion

    if kind is not None and kind not in REGISTRIES:
        raise PluginError(f"There is no kind of plugin '{kind}'.", suggestion(kind, REGISTRIES))
    summaries = {
        key: {name: registry.summary(name) for name in registry.names()} for key, registry in REGISTRIES.items() if kind in (None, key)
    }
    if as_json:
        rows = {
            key: {name: {"summary": text, "broken": error} for name, (text, error) in names.items()} for key, names in summaries.items()
        }
        sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n")
        return
    for key, names in summaries.items():
        sys.stdout.write(f"{key}\n")
        for name, (text, error) in names.items():
            sys.stdout.write(f"  {name:<16} {f'BROKEN: {error}' if error else text}\n")
