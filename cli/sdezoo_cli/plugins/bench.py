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
    "loop": "time of a sampler's loop, relative to its calls of a U-Net",
    "training": "time of the training loop, relative to a bare PyTorch loop",
    "peers": "overhead of a sampling step on a tiny network, beside torchsde, diffusers and azula",
    "noise": "time of keyed noise, relative to torch.randn",
    "memory": "peak memory by number of steps and samples",
    "nfe": "network evaluations needed to reach twice the sampling error floor",
    "startup": "start-up time of the command line",
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
"""A Typer app with two commands: the baseline for start-up time."""

_ROUNDS = 9


def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART]...", help="; ".join(f"{name}: {what}" for name, what in PARTS.items()) + ". Default: all."),
    ] = None,
    sde: Annotated[str, typer.Option(help="Noise process for loop and peers, NAME[:key=value,…].")] = "gbm",
    seed: Annotated[int, typer.Option(help="Seed of all samples.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the figures to this file, as JSON.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure speed, memory and network evaluations as ratios; takes a few minutes.  Example: sdezoo bench peers noise"""
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
    """Time `sdezoo --help` and `sdezoo list` relative to `--help` of the smallest app.

    Args:
        report: called after each round with the number of rounds done and their total.

    Returns:
        Medians and quartiles of the ratios; the commands alternate within each round.
    """
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
    return Table("Start-up time, relative to --help of a two-command Typer app", formats, rows)


def _chosen(parts: list[str] | None) -> list[str]:
    unknown = next((part for part in parts or () if part not in PARTS), None)
    if unknown is not None:
        raise ParameterError(f"The benchmark has no part '{unknown}'.", f"Choose one or more of {', '.join(PARTS)}.")
    return [part for part in PARTS if not parts or part in parts]


def _check(out: Path, overwrite: bool) -> None:
    folder = out.absolute().parent
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise RunError(f"'{out}' cannot be written.", "Give --out a file in a folder that you can write to.")
    if out.exists() and not overwrite:
        raise RunError(f"'{out}' exists.", "Give --overwrite to replace it, or choose another --out.")


def _seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-P", *arguments], capture_output=True, check=True)
    return time.perf_counter() - began
