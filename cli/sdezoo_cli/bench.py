"""`sdezoo bench`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdezoo.errors import ParameterError, RunError
from sdezoo_cli.options import Json, Plugins, Quiet, load_plugins
from sdezoo_cli.printing import say, say_json
from sdezoo_cli.progress import bar

if TYPE_CHECKING:
    from sdezoo.bench.table import Table

PARTS = {
    "loop": "a sampler's loop over its own calls of a U-Net",
    "training": "training's loop over a bare one",
    "peers": "what a step adds to a tiny network's calls, here and in torchsde, diffusers and azula",
    "noise": "keyed noise over torch.randn",
    "memory": "peak memory against steps and n",
    "nfe": "evaluations to twice the sampling floor",
    "startup": "the command line's start",
}

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
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART]...", help="; ".join(f"{name}: {what}" for name, what in PARTS.items()) + ". Default: all."),
    ] = None,
    sde: Annotated[str, typer.Option(help="Noise process of loop and peers, NAME[:key=value,…].")] = "gbm",
    seed: Annotated[int, typer.Option(help="Seed of all samples.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures there too, as JSON.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure speed, memory and evaluations as ratios, in a few minutes.  Example: sdezoo bench peers noise"""
    chosen = _chosen(parts)
    if out:
        _check(out, overwrite)
    load_plugins(plugin)
    from sdezoo.bench import suite
    from sdezoo.bench.table import machine
    from sdezoo.store.files import atomic_write
    from sdezoo.zoo.registry import SDES

    began = time.perf_counter()
    process = SDES.build(sde).spec
    found: dict[str, Any] = {}
    for part in chosen:
        with bar(part, None, shown=not (quiet or as_json)) as update:
            table = startup(update) if part == "startup" else suite.PARTS[part](sde, seed, update)
        found[part] = table.record()
        if not (quiet or as_json):
            say(table.text() + "\n")
    seconds = round(time.perf_counter() - began, 1)
    figures = {"machine": machine(), "sde": process, "seed": seed, "seconds": seconds, "parts": found}
    if out:
        with atomic_write(out, "Give --out another place.") as file:
            file.write((json.dumps(figures, ensure_ascii=False, allow_nan=False) + "\n").encode())
    if as_json:
        say_json(figures, allow_nan=False)


def startup(report: Any) -> Table:
    """Time of `sdezoo --help` and `sdezoo list` over that of the `--help` of the smallest app; medians of rounds that alternate."""
    from sdezoo.bench.table import Table
    from sdezoo.bench.timing import Spread

    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        smallest = Path(folder) / "smallest.py"
        smallest.write_text(SMALLEST, encoding="utf-8")
        commands = [[str(smallest), "--help"], ["-m", "sdezoo_cli", "--help"], ["-m", "sdezoo_cli", "list"]]
        for k in range(_ROUNDS):
            rounds.append([_seconds(command) for command in commands])
            report(k + 1, _ROUNDS)
    rows = []
    for k, command in enumerate(("sdezoo --help", "sdezoo list"), start=1):
        ratio = Spread.of([taken[k] / taken[0] for taken in rounds])
        rows.append({"command": command, "ratio": ratio.median, "quartile_low": ratio.low, "quartile_high": ratio.high})
    formats = {"command": "", "ratio": ".2f", "quartile_low": ".2f", "quartile_high": ".2f"}
    return Table("Start over that of the --help of a two-command Typer app", formats, rows)


def _chosen(parts: list[str] | None) -> list[str]:
    unknown = next((part for part in parts or () if part not in PARTS), None)
    if unknown is not None:
        raise ParameterError(f"There is no part '{unknown}' of the benchmark.", f"Choose among {', '.join(PARTS)}.")
    return [part for part in PARTS if not parts or part in parts]


def _check(out: Path, overwrite: bool) -> None:
    folder = out.absolute().parent
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise RunError(f"'{out}' cannot be written.", "Give --out the name of a file in a folder that can be written to.")
    if out.exists() and not overwrite:
        raise RunError(f"'{out}' exists.", "Give --overwrite to replace it, or another name.")


def _seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-P", *arguments], capture_output=True, check=True)
    return time.perf_counter() - began
