"""Printing of installed plugins, without importing them."""

from __future__ import annotations

import gc
from collections.abc import Iterable

from sdezoo_cli.printing import say, say_json


def print_plugins(kinds: Iterable[str], *, as_json: bool) -> None:
    """Print the name of each plugin, with its summary or the reason why it is broken.

    Args:
        kinds: keys of `sdezoo.zoo.registry.REGISTRIES`.
        as_json: whether to print one JSON object instead of lines.
    """
    from sdezoo.zoo.registry import REGISTRIES

    gc.disable()  # syntax trees are many objects, none of them garbage: looking for it takes a tenth of the command
    try:
        summaries = {kind: {name: REGISTRIES[kind].summary(name) for name in REGISTRIES[kind].names()} for kind in kinds}
    finally:
        gc.enable()
    if as_json:
        rows = {
            kind: {name: {"summary": text, "broken": error} for name, (text, error) in names.items()} for kind, names in summaries.items()
        }
        say_json(rows)
        return
    for kind, names in summaries.items():
        say(f"{kind}\n")
        for name, (text, error) in names.items():
            say(f"  {name:<16} {f'BROKEN: {error}' if error else text}\n")
