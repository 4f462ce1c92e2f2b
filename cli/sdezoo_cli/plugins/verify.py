"""`sdezoo verify`: measure a process against torchsde, closed forms, and its data; or the samplers against those of another library."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdezoo.errors import PluginError, RunError
from sdezoo_cli.options import Json, Plugins, Quiet, load_named
from sdezoo_cli.printing import say, say_json
from sdezoo_cli.progress import bar

if TYPE_CHECKING:
    from sdezoo.verification.verify import Verification


def verify(
    spec: Annotated[str | None, typer.Argument(metavar="NAME[:key=value,…]", show_default=False)] = None,
    plugin: Plugins = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Verify every SDE without required hyper-parameters, and print one Markdown table.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="LIBRARY",
            help="Compare the samplers with those of diffusers or azula instead, on NAME (default: vp): same score, grid, start and noise.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps of --against. Default: 20.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for verify-NAME.json and verify-NAME.png. Default: verify.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of paths and samples.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure an SDE against an independent solver.  Example: sdezoo verify gbm

    Measures convergence orders, limits, likelihood, prior, and error by number of network evaluations. Exits with code 1 if an order or an
    equality is wrong.
    """
    fresh = [name for _, name in load_named(plugin, ["sdes"])]
    if against is not None:
        if everything or out:
            raise PluginError("--against compares on one SDE, and writes no files.", "Leave out --all and --out.")
        _compare(against, [spec] if spec else fresh or ["vp"], steps, seed, quiet=quiet, as_json=as_json)
        return
    if steps is not None:
        raise PluginError("--steps is the number of steps of --against.", "Leave it out, or add --against diffusers.")
    import torch

    from sdezoo.store.files import atomic_write
    from sdezoo.verification.picture import draw
    from sdezoo.verification.tables import markdown, text
    from sdezoo.verification.verify import verify as measure
    from sdezoo.zoo.registry import SDES

    specs = _everything() if everything else [spec] if spec else fresh
    if not specs:
        raise PluginError("There is nothing to verify.", "Name an SDE, or give --plugin FILE or --all.")
    chosen = [SDES.build(one) for one in specs]
    files = [_claim(out or Path("verify"), sde.spec) for sde in chosen]
    # The tensors are small: more threads are slower.
    torch.set_num_threads(1)
    found, written = [], []
    for sde, (record, picture) in zip(chosen, files, strict=True):
        with bar(sde.spec, None, shown=not (quiet or as_json)) as update:
            verification = measure(sde, seed=seed, progress=update)
        with atomic_write(record, "Give --out another place.") as file:
            file.write((json.dumps(verification.record(), ensure_ascii=False, indent=1) + "\n").encode())
        written.append(record)
        if draw(verification, picture):
            written.append(picture)
        found.append(verification)
    _write(found, written, markdown(found) if everything else "\n\n".join(map(text, found)), quiet=quiet, as_json=as_json)
    if any(one.off for one in found):
        raise typer.Exit(1)


def _compare(library: str, specs: list[str], steps: int | None, seed: int, *, quiet: bool, as_json: bool) -> None:
    import torch

    from sdezoo.verification.against import STEPS, compare
    from sdezoo.verification.tables import beside
    from sdezoo.zoo.registry import SDES

    torch.set_num_threads(1)
    found = [compare(library, SDES.build(spec), steps=STEPS if steps is None else steps, seed=seed) for spec in specs]
    if as_json:
        records = [one.record() for one in found]
        say_json(records if len(records) > 1 else records[0])
    elif not quiet:
        say("\n".join(map(beside, found)))
    else:
        say("".join(f"{one.spec}: {f.part}: {f.what}: the difference is {f.value:.3g}\n" for one in found for f in one.off))
    if any(one.off for one in found):
        raise typer.Exit(1)


def _everything() -> list[str]:
    from sdezoo.zoo.composition import defaults
    from sdezoo.zoo.registry import SDES

    return [name for name, _ in defaults(SDES)]


def _claim(folder: Path, spec: str) -> tuple[Path, Path]:
    """The result files of `spec`; existing files must be results of an earlier verification."""
    stem = "verify-" + re.sub(r"[^\w.-]+", "-", spec).strip("-")
    record, picture = folder / f"{stem}.json", folder / f"{stem}.png"
    if folder.exists() and not folder.is_dir():
        raise RunError(f"'{folder}' is a file, not a folder.", "Give another --out.")
    if (record.exists() or picture.exists()) and not _is_ours(record):
        raise RunError(f"'{record if record.exists() else picture}' exists and is not a verification.", "Give another --out.")
    return record, picture


def _is_ours(record: Path) -> bool:
    try:
        return "findings" in json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _write(found: list[Verification], written: list[Path], tables: str, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        records = [one.record() for one in found]
        say_json(records if len(records) > 1 else records[0])
    elif not quiet:
        say(tables.rstrip() + "\n\n" + "".join(f"{path}\n" for path in written))
    elif any(one.off for one in found):
        say("".join(f"{one.spec}: {f.part}: {f.what} is {f.value:.3g}\n" for one in found for f in one.off))
