"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE|MODULE", help="Load the plugins of a file, or a module; may be repeated.", show_default=False),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        help="Sampler, NAME[:key=value,…]. Default: dpmpp-2m-sde for images, dpmpp-2m for tables and points, or the first that fits.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for a machine to read.")]
Checkpoint = Annotated[str, typer.Option("--checkpoint", help="Of the run: newest, best (by its loss on held-out rows), or a step.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str, typer.Option("--precision", help="Of the network: float32 or bf16. States stay float32.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network: a minute at first, then faster.")]


def load_plugins(files: list[Path] | None) -> None:
    """Register the plugins of the files that `--plugin` names."""
    if files:
        from sdezoo.zoo.registry import load

        for file in files:
            load(file)
