"""`sdezoo evaluate`: measure a trained model on data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdezoo.errors import ParameterError
from sdezoo_cli.options import Checkpoint, Device, Json, Plugins, Quiet, Sampler, load_plugins
from sdezoo_cli.printing import say, say_json
from sdezoo_cli.progress import bar

if TYPE_CHECKING:
    from sdezoo.runs.likelihood import Figure, Likelihood


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder that `sdezoo train` wrote.", show_default=False)],
    likelihood: Annotated[
        bool, typer.Option("--likelihood", help="Compute the log-likelihood of held-out rows instead, with the probability-flow ODE.")
    ] = False,
    checkpoint: Checkpoint = "newest",
    n: Annotated[int, typer.Option("-n", help="Largest number of rows; more are subsampled at random.")] = 1000,
    sampler: Sampler = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Measure the samples in this .npz, .npy, .csv or .parquet file instead of drawing from the model."
        ),
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Features of images: classifier or inception. Default: classifier if the data have labels.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="With --likelihood: dataset, or a file or folder. Default: the run's own.")] = None,
    split: Annotated[
        str | None, typer.Option(help="With --likelihood: test, train or all. Default: test of the run's own data, all of other data.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps of the sampler (default: as `sdezoo sample`), or of the ODE solver with --likelihood (default: 50)."),
    ] = None,
    probes: Annotated[
        str | None,
        typer.Option(
            metavar="K|exact",
            help="With --likelihood: number of random probes for the divergence, or exact. Default: exact up to 32 dimensions, else 2.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows per batch; affects only memory and speed. Default: 64, and more of small samples.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of samples, subsampling and randomized measures.")] = 0,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for figures (JSON) and sheet (PNG). Default: RUN/evaluation, which holds the newest. With --likelihood: file "
            "for a table of all rows."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a trained model against held-out data.  Example: sdezoo evaluate runs/demo"""
    load_plugins(plugin)
    from sdezoo.store.launch import resolve_device

    common: dict[str, Any] = {"checkpoint": checkpoint, "n": n, "seed": seed}
    common |= {name: value for name, value in {"steps": steps, "batch_size": batch_size}.items() if value is not None}
    own = {"data": data, "split": split, "probes": probes}
    theirs = {"sampler": sampler, "samples": samples, "features": features}
    _refuse(own if not likelihood else theirs, likelihood=likelihood)
    common["device"] = resolve_device(device)
    told = "json" if as_json else "" if quiet else "text"
    if likelihood:
        _likelihood(run, out, overwrite, told, {**common, "data": data, "split": split, **_divergence(probes)})
    else:
        _quality(run, out or run / "evaluation", overwrite or out is None, told, {**common, **theirs})


def _refuse(options: dict[str, Any], *, likelihood: bool) -> None:
    """Reject options that do not belong to this kind of measurement."""
    for name, value in options.items():
        if value is not None:
            remedy = f"Omit --{name} or --likelihood." if likelihood else f"Omit --{name}, or give --likelihood."
            raise ParameterError(f"--{name} {'does not apply to' if likelihood else 'applies only to'} --likelihood.", remedy)


def _quality(run: Path, out: Path, overwrite: bool, told: str, options: dict[str, Any]) -> None:
    from sdezoo.runs.evaluate import FILES
    from sdezoo.runs.evaluate import evaluate as measure

    with bar("evaluating", None, shown=told == "text") as update:
        found = measure(run, **options, out=out, overwrite=overwrite, progress=update)
    files = [out / name for name in FILES]
    if told == "json":
        paths = dict(zip(("table", "sheet"), map(str, files), strict=True))
        say_json({**found.record, **paths}, allow_nan=False)
    elif told:
        say(found.text + f"Files: {files[0]}, {files[1]}\n")


def _likelihood(run: Path, out: Path | None, overwrite: bool, told: str, options: dict[str, Any]) -> None:
    from sdezoo.runs.likelihood import likelihood as measure

    began = time.perf_counter()
    with bar("likelihood", None, shown=told == "text") as update:
        found = measure(run, **options, out=out, overwrite=overwrite, progress=update)
    seconds = round(time.perf_counter() - began, 3)
    if told == "json":
        summary = {"run": str(run), **found.record(), "out": str(out) if out else None, "seconds": seconds}
        say_json(summary, allow_nan=False)
    elif told:
        say(_text(found) + (f"Each row: {out}\n" if out else ""))


def _divergence(probes: str | None) -> dict[str, Any]:
    """The divergence options that `--probes` sets; empty if the default applies."""
    if probes is None or probes == "exact":
        return {"divergence": "exact"} if probes else {}
    try:
        return {"divergence": "hutchinson", "probes": int(probes)}
    except ValueError:
        raise ParameterError(f"probes={probes} is not a number of probes.", "Give an integer, or exact.") from None


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
            f"Dequantized with uniform noise of one level's width ({found.width:.4g}), seed {found.seed}; "
            "the figures are upper bounds for the discrete data."
        )
    return "\n".join([*lines, f"Probability flow in {found.steps} steps, {_how(found)}.", ""])


def _figure(figure: Figure) -> str:
    return f"{figure.mean:.3f}" + ("" if figure.standard_error is None else f" ± {figure.standard_error:.3f}")


def _how(found: Likelihood) -> str:
    if found.probes is None:
        return "exact divergence"
    if found.probe_spread is None:
        return "divergence from 1 random probe per row, whose contribution to the error is unknown"
    return f"divergence from {found.probes} random probes per row, which contribute {found.probe_spread:.3f} nats to the error"
