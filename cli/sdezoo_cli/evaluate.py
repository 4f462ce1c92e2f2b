"""`sdezoo evaluate`: a trained model measured on data."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdezoo.errors import ParameterError
from sdezoo_cli.options import Device, Json, Plugins, Quiet, load_plugins
from sdezoo_cli.progress import bar

if TYPE_CHECKING:
    from sdezoo.runs.likelihood import Figure, Likelihood


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder that `sdezoo train` wrote.", show_default=False)],
    likelihood: Annotated[
        bool, typer.Option("--likelihood", help="Negative log-likelihood by the probability flow, in nats and bits a dimension.")
    ] = False,
    n: Annotated[int, typer.Option("-n", help="Rows at most; of more, a random choice.")] = 1000,
    data: Annotated[str | None, typer.Option(help="Dataset, or a file or folder of yours. Default: the run's own.")] = None,
    split: Annotated[str | None, typer.Option(help="test, train or all. Default: test of the run's own data, all of other data.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the flow, four network evaluations each.")] = 50,
    probes: Annotated[
        str | None,
        typer.Option(metavar="K|exact", help="Random probes of the divergence, or exact. Default: exact up to 32 dimensions, else 2."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Rows at a time; changes nothing but memory and speed.")] = 64,
    seed: Annotated[int, typer.Option(help="Fixes the choice of rows, dequantization and probes.")] = 0,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help=".csv, .parquet, .npz or .npy: the value of each row.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a trained model on held-out data.  Example: sdezoo evaluate runs/demo --likelihood"""
    if not likelihood:
        raise ParameterError("Nothing was chosen to be measured.", "Give --likelihood.")
    load_plugins(plugin)
    import torch

    from sdezoo.runs.config import resolve_device
    from sdezoo.runs.export import check_output, write
    from sdezoo.runs.likelihood import likelihood as measure

    divergence = _divergence(probes)
    where = resolve_device(device)
    if out:
        check_output(out, "table", overwrite)
    began = time.perf_counter()
    with bar("likelihood", None, shown=not (quiet or as_json)) as update:
        found = measure(
            run,
            data=data,
            split=split,
            n=n,
            steps=steps,
            seed=seed,
            batch_size=batch_size,
            device=where,
            report=update,
            **divergence,
        )
    if out:
        write(torch.stack([column.double() for column in found.table.values()], 1), out, kind="table", columns=tuple(found.table))
    seconds = round(time.perf_counter() - began, 3)
    if as_json:
        summary = {"run": str(run), **found.record(), "out": str(out) if out else None, "seconds": seconds}
        sys.stdout.write(json.dumps(summary, ensure_ascii=False, allow_nan=False) + "\n")
    elif not quiet:
        sys.stdout.write(_text(found) + (f"Each row: {out}\n" if out else ""))


def _divergence(probes: str | None) -> dict[str, Any]:
    """What `--probes` asks of the divergence; nothing where the size of the data is to decide."""
    if probes is None or probes == "exact":
        return {"divergence": "exact"} if probes else {}
    try:
        return {"divergence": "hutchinson", "probes": int(probes)}
    except ValueError:
        raise ParameterError(f"probes={probes} is not a number of probes.", "Give a whole number, or exact.") from None


def _text(found: Likelihood) -> str:
    names = {"model": "model", "reference": found.law, "difference": "model − reference"}
    width = max(len(names[name]) for name in found.figures)
    lines = [
        f"Negative log-likelihood of {len(found.rows)} rows, {found.data}, {found.dims} dimensions (less is better):",
        f"  {'':<{width}} {'nats':>19} {'nats/dim':>19} {'bits/dim':>19}",
    ]
    for name, figure in found.figures.items():
        values = " ".join(f"{_figure(figure.over(unit)):>19}" for unit in found.units.values())
        lines.append(f"  {names[name]:<{width}} {values}")
    if found.reference is None:
        lines.append(f"Reference: {found.law}.")
    if found.width:
        lines.append(
            f"Dequantized: each level spread over one unit (width {found.width:.4g}) around it, seed {found.seed}; "
            "the figures bound those of the levels from above."
        )
    return "\n".join([*lines, f"Flow of {found.steps} steps, {_how(found)}.", ""])


def _figure(figure: Figure) -> str:
    return f"{figure.mean:.3f}" + ("" if figure.standard_error is None else f" ± {figure.standard_error:.3f}")


def _how(found: Likelihood) -> str:
    if found.probes is None:
        return "exact divergence"
    if found.probe_spread is None:
        return "divergence from 1 random probe a row, whose part in the error is not known"
    return f"divergence from {found.probes} random probes a row, whose part in the error is {found.probe_spread:.3f} nats"
