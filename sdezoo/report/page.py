"""The page of a run: one HTML file with everything in it, that asks no network for anything and runs no script."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from sdezoo.bridging.rounds import round_folders
from sdezoo.errors import ParameterError, RunError, printable
from sdezoo.exchange import records
from sdezoo.report.carrying import carrying
from sdezoo.report.motion import motion
from sdezoo.report.pictures import drawing
from sdezoo.runs.overview import overview
from sdezoo.runs.preview import loss_figure
from sdezoo.store.files import atomic_write, clear, refuse_links
from sdezoo.training.metrics import recorded

NAME = "report.html"
"""Name of the page of one run, in its folder."""

_TEMPLATE = "page.html"
_MOST = 2
_HEX = 12
_PRIVACY = "privacy"


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Args:
        source: data URI.
        words: what it shows, for those who do not see it.
    """

    source: str
    words: str


def report(runs: Sequence[Path], out: Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the page of a run, or of two beside each other.

    Args:
        runs: one run folder or two.
        out: the file; None: `report.html` in the first run's folder, or `report-NAME.html` there beside a second run NAME.
        overwrite: whether the file may be replaced, if `out` is given; a page under its own name is replaced by the newest.

    Returns:
        The file.

    Raises:
        ParameterError: if there is no run, or more than two.
        RunError: if a folder is no run or contains links, or the file exists or cannot be written. Nothing is then written.
    """
    if not 1 <= len(runs) <= _MOST:
        raise ParameterError(f"A page shows one run or two, not {len(runs)}.", "Give one run folder, or two to compare.")
    seen = [overview(run) for run in runs]
    for run in runs:
        refuse_links(run)
    file = out or _default(runs)
    _check(file, overwrite or out is None)
    pages = [_run(run, each) for run, each in zip(runs, seen, strict=True)]
    text = _template().render(runs=pages, beside=_beside(seen) if len(runs) == _MOST else None)
    with atomic_write(file, "Give --out another place.") as stream:
        stream.write(text.encode("utf-8"))
    return file


def _default(runs: Sequence[Path]) -> Path:
    return runs[0] / (NAME if len(runs) == 1 else f"report-{runs[1].resolve().name}.html")


def _check(file: Path, overwrite: bool) -> None:
    if file.suffix.lower() not in (".html", ".htm"):
        raise RunError(f"A report is a page, and '{file}' does not end in .html.", "Give --out a name that ends in .html.")
    clear(file)
    if file.is_dir():
        raise RunError(f"'{file}' is a folder.", "Give --out the name of a file in it.")
    if os.path.lexists(file) and not overwrite:
        raise RunError(f"'{file}' exists.", "Give --overwrite to replace it, or --out another name.")


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(_TEMPLATE)


def _run(run: Path, seen: dict[str, Any]) -> dict[str, Any]:
    """What the template shows of a run, all of it text that is escaped there."""
    state, config, rows = seen["state"] or {}, seen["config"], _recorded(run)
    evaluation = records.json_object(run / "evaluation" / "evaluation.json")
    tables = records.measures(evaluation)
    curves = loss_figure(rows)
    paths, words = motion(run) if state else carrying(run) if round_folders(run) else (None, "There is no intact checkpoint.")
    given, chosen = records.changed(config, seen["environment"])
    sheet, shown = records.evaluation_picture(run), records.sample_picture(run)
    losses = [row for row in rows if "loss" in row]
    return {
        "name": printable(str(run)),
        "processes": records.processes(state["sde"] if state else config.get("sde"), state.get("task")),
        "facts": _facts(seen, losses[-1] if losses else {}),
        "paths": _picture(paths, words) if paths else None,
        "paths_words": printable(words),
        "changed": given,
        "chosen": chosen,
        "curves": _picture(drawing(curves), "Loss in training against steps") if curves else None,
        "table": records.sample_table(run),
        "sheet": Picture(_uri(shown[1], "image/png"), printable(f"Samples, {shown[0]}")) if shown else None,
        "evaluated": bool(evaluation),
        "verdict": evaluation["verdict"] if isinstance(evaluation.get("verdict"), str) else None,
        "stale": _stale(evaluation, state),
        "quality": [(group, lines) for group, lines in tables if group != _PRIVACY],
        "privacy": [line for group, lines in tables if group == _PRIVACY for line in lines],
        "columns": records.column_tests(evaluation),
        "tails": records.tails(evaluation),
        "notes": records.notes(evaluation),
        "comparison": Picture(_uri(sheet, "image/png"), "Samples beside data") if sheet else None,
        "copies": [", ".join(map(str, row["copies"])) for row in rows if isinstance(row.get("copies"), list)],
        "provenance": _provenance(seen),
        "commands": records.commands(run, config, evaluation),
    }


def _recorded(run: Path) -> list[dict[str, Any]]:
    """What training has recorded; of a bridge, in all rounds, with steps counted through."""
    rows: list[dict[str, Any]] = []
    for folder in round_folders(run).values() or [run]:
        before = rows[-1]["step"] if rows else 0
        rows += [{**row, "step": before + row["step"]} for row in recorded(folder)]
    return rows


def _facts(seen: dict[str, Any], last: dict[str, Any]) -> list[tuple[str, str]]:
    state = seen["state"] or {}
    found = {
        "data": seen["config"].get("data"),
        "target": seen["config"].get("target"),
        "kind": state.get("kind"),
        "shape of a row": records.listed(state.get("event") or ()),
        "network": state.get("net"),
        "output": state.get("output"),
        "loss function": seen["config"].get("loss"),
        "steps": state.get("step"),
        "training loss": records.figure(last.get("loss")),
        "loss on held-out rows": records.figure(state.get("validation_loss")),
        "best step": seen["best"],
        "training time": f"{state['seconds']:.0f} s" if isinstance(state.get("seconds"), int | float) else None,
    }
    return [(name, printable(str(value))) for name, value in found.items() if value not in (None, "")]


def _provenance(seen: dict[str, Any]) -> list[tuple[str, str]]:
    environment = dict(seen["environment"])
    plugins = environment.pop("plugins", {})
    found = {**environment, **(plugins if isinstance(plugins, dict) else {})}
    lines = [(printable(str(name)), printable(str(value))[:400]) for name, value in found.items() if value is not None]
    for entry in seen["checkpoints"]:
        state = "damaged: " + entry["damaged"] if entry["damaged"] else "intact"
        lines.append((f"checkpoint {entry['step']}", printable(f"{entry['bytes'] / 2**20:.1f} MiB, {state}")))
    return lines


def _stale(evaluation: dict[str, Any], state: dict[str, Any]) -> str | None:
    """Say so if an evaluation is of another checkpoint than the newest."""
    measured = evaluation.get("step")
    if not evaluation or not state or measured is None or measured == state["step"]:
        return None
    return printable(f"This evaluation is of step {measured}; the newest checkpoint has step {state['step']}. Evaluate again.")


def _beside(seen: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What differs between two runs, and whether their data are the same."""
    first, second = (each["config"] for each in seen)
    names = [name for name in {**first, **second} if name != "out" and first.get(name) != second.get(name)]
    differ = [(printable(name), *(_value(each, name) for each in (first, second))) for name in names]
    prints = [(each["state"] or {}).get("data") or each["environment"].get("data") for each in seen]
    known = [str(each)[:_HEX] for each in prints if each]
    if len(known) < _MOST:
        words = "Whether they have the same data is not recorded."
    elif known[0] == known[1]:
        words = f"Both are trained on the same data, encoded alike (fingerprint {known[0]})."
    else:
        words = "They are trained on different data, or on data encoded differently, so that losses and figures do not compare directly "
        words += f"(fingerprints {known[0]} and {known[1]})."
    return {"differ": differ, "data": printable(words)}


def _value(config: dict[str, Any], name: str) -> str:
    return printable("default" if config.get(name) is None else str(config[name]))[:400]


def _picture(content: bytes, words: str) -> Picture:
    return Picture(_uri(content, "image/svg+xml"), printable(words))


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
