"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sdezoo.zoo.registry import Entry

Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE|MODULE", help="Load plugins from a file or a module; may be repeated.", show_default=False),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="TEXT",
        help="COLUMN=PROCESS, or =category, =negative, =floor, =ceiling or =drop, separated by commas; may be repeated.",
        show_default=False,
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        help="Sampler, NAME[:key=value,…]. Default: dpmpp-2m-sde for images, unipc:order=3,prediction=noise,spacing=optimized for tables, "
        "dpmpp-2m for points, else the first that fits.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Checkpoint = Annotated[str, typer.Option("--checkpoint", help="Checkpoint of the run: newest, best (lowest validation loss), or a step.")]
Device = Annotated[str, typer.Option("--device", help="Device: auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str, typer.Option("--precision", help="float32, bf16 (the network in bfloat16) or float64 (the states in float64).")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network; takes about a minute, then runs faster.")]


def said_of_columns(given: list[str] | None) -> str | None:
    """All that `--column` says, as one setting; None: nothing."""
    return ",".join(given) if given else None


def load_plugins(files: list[Path] | None) -> None:
    """Register the plugins in the files and modules given by `--plugin`."""
    if files:
        from sdezoo.zoo.registry import load

        for file in files:
            load(file)


def load_named(files: list[Path] | None, kinds: Iterable[str]) -> list[tuple[str, str]]:
    """Register the plugins given by `--plugin`.

    Args:
        files: files and modules.
        kinds: the kinds to look for.

    Returns:
        Kind and name of each that is new, also if another plugin claims its name.
    """
    from sdezoo.zoo.registry import REGISTRIES

    def known() -> list[tuple[str, Entry]]:
        return [(kind, entry) for kind in kinds for name in REGISTRIES[kind].names() for entry in REGISTRIES[kind].entries(name)]

    before = known() if files else []
    load_plugins(files)
    return [(kind, entry.name) for kind, entry in known() if (kind, entry) not in before] if files else []
