"""`sdezoo bench`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from sdezoo_cli.options import Json, Plugins, Quiet, load_plugins
from sdezoo_cli.progress import bar

SMALLEST = """
import typer
app = typer.Typer()
@app.command()
def one(count: int = 1): ...
@app.command()
def two(word: str = "x"): ...
app()
"""
"""A Typer app with two commands: what start-up is measured against."""

_ROUNDS = 9


def bench(
    sde: Annotated[str, typer.Option(help="Noise process, NAME[:key=value,…].")] = "gbm",
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure speed as ratios: the samplers' loops over their own network calls (U-Net, 64 × 1 × 28 × 28), and start-up."""
    load_plugins(plugin)
    from dataclasses import asdict

    from sdezoo.runs.benchmark import loop_overhead

    with bar("measuring", None, shown=not (quiet or as_json)) as update:
        ratios = loop_overhead(sde, report=update)
    started = startup()
    if as_json:
        sys.stdout.write(json.dumps({"loops": [asdict(ratio) for ratio in ratios], "startup": started}) + "\n")
        return
    sys.stdout.write(f"{'sampler':<20} {'loop / its calls':>18} {'calls':>6} {'ms a call':>10}\n")
    for r in ratios:
        sys.stdout.write(f"{r.sampler:<20} {r.ratio:>18.3f} {r.evaluations:>6} {r.milliseconds_per_call:>10.1f}\n")
    for command, ratio in started.items():
        sys.stdout.write(f"{command:<20} {ratio:>18.2f} of the --help of a two-command Typer app\n")


def startup() -> dict[str, float]:
    """Time of `sdezoo --help` and `sdezoo list` over that of the `--help` of the smallest app; medians of rounds that alternate."""
    with tempfile.TemporaryDirectory() as folder:
        smallest = Path(folder) / "smallest.py"
        smallest.write_text(SMALLEST, encoding="utf-8")
        commands = [[str(smallest), "--help"], ["-m", "sdezoo_cli", "--help"], ["-m", "sdezoo_cli", "list"]]
        rounds = [[_seconds(command) for command in commands] for _ in range(_ROUNDS)]
    base, help_, listed = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {"sdezoo --help": help_ / base, "sdezoo list": listed / base}


def _seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter() - began
