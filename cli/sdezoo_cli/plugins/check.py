"""`sdezoo check`: test plugins against the laws that their mathematics implies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdezoo.errors import PluginError, SdezooError
from sdezoo_cli.options import Json, Plugins, Quiet, load_named
from sdezoo_cli.printing import say, say_json
from sdezoo_cli.progress import bar

if TYPE_CHECKING:
    from sdezoo.conformance.law import Verdict


def check(
    specs: Annotated[list[str] | None, typer.Argument(metavar="[NAME[:key=value,…]]…", show_default=False)] = None,
    plugin: Plugins = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Check every plugin that laws are known for, without required hyper-parameters.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record the errors of a sampler as a baseline.", show_default=False)
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Fail if the errors of a sampler exceed this baseline.", show_default=False)
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also train each SDE briefly on a table, and check the spread of its columns (half a minute)."),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check plugins against the laws that their mathematics implies.  Example: sdezoo check gbm

    If a law is broken, print a counterexample and exit with code 1. Each law may take 20 seconds, all laws of a plugin 120; a law that
    hangs is reported as broken.
    """
    reports: list[dict[str, Any]] = []
    try:
        named = load_named(plugin, _kinds())
    except SdezooError as error:
        if not all(file.is_file() for file in plugin or []):
            raise
        reports.append(_unloadable(plugin or [], error))
        named = []
    if record or compare:
        _baseline(specs or [], record, compare)
        return
    if not reports:
        chosen = _chosen(specs or [], named, everything, plugin or [])
        shown = not (quiet or as_json)
        with bar("checking", None, shown=shown and len(chosen) > 1) as update:
            for k, (kind, spec) in enumerate(chosen):
                update(k, len(chosen), detail=spec)
                reports.append(_report(kind, spec, deep=deep, listed=shown and len(chosen) == 1))
    broken = [report for report in reports if not report["holds"]]
    if as_json:
        say_json(reports)
    else:
        for report in broken if quiet else reports:
            _write(report)
    if broken:
        raise typer.Exit(1)


def _kinds() -> list[str]:
    from sdezoo.conformance.report import SUITES

    return list(SUITES)


def _chosen(specs: list[str], named: list[tuple[str, str]], everything: bool, files: list[Path]) -> list[tuple[str, str]]:
    from sdezoo.conformance.report import kinds
    from sdezoo.zoo.registry import REGISTRIES

    if everything:
        return [(kind, name) for kind in _kinds() for name in REGISTRIES[kind].names() if _stands_alone(kind, name)]
    chosen = [(kind, spec) for spec in specs for kind in kinds(spec)] or named
    if not chosen and files:
        raise PluginError(
            f"'{files[0]}' has no plugin of a kind with laws, so there is nothing to check.",
            "Give a file with an SDE, a loss, a sampler, a guide, an optimizer or a network.",
        )
    if not chosen:
        raise PluginError("There is nothing to check.", "Name a plugin, or give --plugin FILE or --all.")
    return chosen


def _stands_alone(kind: str, name: str) -> bool:
    """Whether a plugin has no required hyper-parameters, or cannot be loaded, which its first law reports."""
    from sdezoo.parameters import required
    from sdezoo.zoo.registry import REGISTRIES

    try:
        return not required(REGISTRIES[kind].load(name))
    except PluginError:
        return True


def _report(kind: str, spec: str, *, deep: bool, listed: bool) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)  # the cases are tiny: more threads are slower
    began, rows = time.perf_counter(), []
    for verdict in _verdicts(kind, spec, deep):
        rows.append({key: getattr(verdict, key) for key in ("law", "statement", "outcome", "reason", "case", "seconds")})
        if listed and verdict.outcome != "untried":
            mark = {"holds": "ok", "broken": "BROKEN", "excused": "-"}[verdict.outcome]
            note = f"  {verdict.reason}" if verdict.outcome == "excused" else ""
            say(f"  {mark:<8}{verdict.law}{note}\n")
    holds = all(row["outcome"] in ("holds", "excused") for row in rows)
    return {"kind": kind, "spec": spec, "holds": holds, "seconds": time.perf_counter() - began, "laws": rows}


def _verdicts(kind: str, spec: str, deep: bool) -> Iterator[Verdict]:
    from sdezoo.conformance.report import verdicts

    broken = False
    for verdict in verdicts(kind, spec):
        broken = broken or verdict.outcome == "broken"
        yield verdict
    if deep and kind == "sdes" and not broken:
        from sdezoo.runs.deep_check import check_spreads

        yield check_spreads(spec)


def _unloadable(files: list[Path], error: SdezooError) -> dict[str, Any]:
    row = {
        "law": "contract",
        "statement": "The file runs and defines a plugin.",
        "outcome": "broken",
        "reason": f"{error.problem} {error.remedy}",
        "case": "",
        "seconds": 0.0,
    }
    return {"kind": "file", "spec": ", ".join(str(file) for file in files), "holds": False, "seconds": 0.0, "laws": [row]}


def _write(report: dict[str, Any]) -> None:
    from sdezoo.conformance.law import Unstated

    rows = report["laws"]
    count = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in ("holds", "broken", "excused", "untried")}
    parts = [f"{count['holds']} laws hold", f"{count['excused']} do not apply"]
    parts += [f"{count['broken']} BROKEN"] * bool(count["broken"]) + [f"{count['untried']} not tried"] * bool(count["untried"])
    say(f"{report['spec']} ({report['kind']}): {', '.join(parts)}; {report['seconds']:.1f} s\n")
    for row in rows:
        if isinstance(row["reason"], Unstated):
            say(f"  Not checked: {row['law']}. {row['reason']} State it, and this is tried: {row['statement']}\n")
        if row["outcome"] == "broken":
            say(f"  {row['law']}: {row['statement']}\n    {row['reason']}\n")
            say(f"    at {row['case']}\n" if row["case"] else "")


def _baseline(specs: list[str], record: Path | None, compare: Path | None) -> None:
    from sdezoo.verification import baseline
    from sdezoo.zoo.registry import SAMPLERS

    if len(specs) != 1:
        raise PluginError("A baseline needs exactly one sampler.", "Name one, for example: sdezoo check dpmpp-2m --record baseline.json.")
    sampler = SAMPLERS.build(specs[0])
    if record:
        baseline.write(record, baseline.record(sampler))
        say(f"{record}\n")
    if compare:
        worse = baseline.compare(sampler, baseline.read(compare))
        for one in worse:
            say(f"{one}\n")
        if worse:
            raise typer.Exit(1)
        say(f"No error of {sampler.spec} rose since {compare} was recorded.\n")
