"""`sdezoo bench`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from sdezoo_cli.options import Json, Plugins, Quiet, load_plugins
from sdezoo_cli.progress import bar


def bench(
    sde: Annotated[str, typer.Option(help="Noise process, NAME[:key=value,…].")] = "gbm",
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure the samplers' loops as ratios against their own network calls (U-Net, 64 × 1 × 28 × 28)."""
    load_plugins(plugin)
    from dataclasses import asdict

    from sdezoo.runs.benchmark import loop_overhead

    with bar("measuring", None, shown=not (quiet or as_json)) as update:
        ratios = loop_overhead(sde, report=update)
    if as_json:
        sys.stdout.write(json.dumps([asdict(ratio) for ratio in ratios]) + "\n")
        return
    sys.stdout.write(f"{'sampler':<20} {'loop / its calls':>18} {'calls':>6} {'ms a call':>10}\n")
    for r in ratios:
        sys.stdout.write(f"{r.sampler:<20} {r.ratio:>18.3f} {r.evaluations:>6} {r.milliseconds_per_call:>10.1f}\n")
