"""The card of a model: a page of Markdown with what its folder records, by the conventions of the Hub. A bridge has a model each way."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdezoo.bridging.rounds import round_folders
from sdezoo.errors import RunError, printable
from sdezoo.exchange import records
from sdezoo.store import checkpoint
from sdezoo.training.config import TrainingConfig
from sdezoo.training.metrics import recorded

NAME = "README.md"
"""Name of the card in a folder."""

_HEAD = """\
---
library_name: sdezoo
tags:
- diffusion
- score-matching
- {kind}
---"""


def card(run: Path, name: str) -> str:
    """Write the card of a run folder.

    Args:
        run: the run folder.
        name: what to call the model, such as the id of its repository.

    Raises:
        RunError: if a model has no intact checkpoint.
    """
    config, models = TrainingConfig.read(run / "config.yaml"), _models(run)
    evaluation = records.json_object(run / "evaluation" / "evaluation.json")
    states = {direction: _state(folder) for direction, folder in models.items()}
    newest = list(states.values())[-1]
    head = _HEAD.format(kind=plain(newest["kind"]))
    parts = [head, f"# {plain(name)}", *_verdict(evaluation), *_use(name, bridge=list(models) != [""])]
    for direction, folder in models.items():
        parts += [*_model(states[direction], config, direction), *_losses(folder)]
    parts += [*_tables(evaluation), *_provenance(newest)]
    return "\n\n".join(parts) + "\n"


def _models(run: Path) -> dict[str, Path]:
    """The folder of each model: of a bridge the newest round of each direction, else the run itself."""
    rounds = [at for at in round_folders(run).values() if checkpoint.newest(at) is not None]
    return {at.name.partition("-")[2]: at for at in rounds} or {"": run}


def _state(folder: Path) -> dict[str, Any]:
    newest, _ = checkpoint.newest_whole(folder)
    if newest is None:
        raise RunError(f"'{folder}' has no intact checkpoint.", "Give a folder of `sdezoo train` or of `save_pretrained`.")
    return asdict(checkpoint.read_state(newest))


def plain(text: object, longest: int = 200) -> str:
    """Text that Markdown and HTML show as it is, on one line.

    Args:
        text: any value.
        longest: characters that are shown.
    """
    shown = re.sub(r"\s+", " ", printable(str(text)))[:longest]
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#|~!])", r"\\\1", shown)


def _verdict(evaluation: dict[str, Any]) -> list[str]:
    return [plain(evaluation["verdict"], 1000)] if isinstance(evaluation.get("verdict"), str) else []


def _use(name: str, *, bridge: bool) -> list[str]:
    source = re.sub(r"[^\w./-]", "", name)
    revision = ', revision="…")  # the commit that you have looked at' if "/" in source else ")"
    code = f'model = DiffusionModel.from_pretrained("{source}"{revision}'
    drawn = "model.transform(rows)  # to the target; inverse_transform takes rows of the target" if bridge else "model.sample(1000)"
    return ["## Use", f"```python\nfrom sdezoo import DiffusionModel\n\n{code}\n{drawn}\n```"]


def _model(state: dict[str, Any], config: dict[str, Any], direction: str) -> list[str]:
    lines = [f"## Model, {direction}" if direction else "## Model"]
    for spec, paragraphs in records.processes(state["sde"], state["task"]):
        words = "".join(f"`{text}`" if formula else plain(text, 2000) for formula, text in paragraphs[0]) if paragraphs else ""
        lines.append(f"`{spec.replace('`', '')}`: {words}")
    facts = {"data": config.get("data"), "columns": records.listed(state["columns"]), "network": state["net"], "output": state["output"]}
    facts |= {
        "loss function": config.get("loss"),
        "steps": state["step"],
        "loss on held-out rows": records.figure(state["validation_loss"]),
    }
    return [*lines, _table(("", ""), [(name, value) for name, value in facts.items() if value not in (None, "")])]


def _losses(run: Path) -> list[str]:
    rows = [row for row in recorded(run) if "loss" in row]
    return [f"Loss at the end of training: {records.figure(rows[-1]['loss'])}."] if rows else []


def _tables(evaluation: dict[str, Any]) -> list[str]:
    found = []
    for group, rows in records.measures(evaluation):
        cells = [(row.name, row.value, row.interval, row.floor, row.best) for row in rows]
        found += [f"### {plain(group)}", _table(("", "samples", "95 % interval", "real rows", "ideal"), cells)]
    return ["## Quality", *found] if found else ["Not evaluated."]


def _provenance(state: dict[str, Any]) -> list[str]:
    facts = {**state["versions"], **state["plugins"], "fingerprint of the data": state["data"]}
    return ["## Provenance", _table(("", ""), [(name, value) for name, value in facts.items() if value])]


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ["---"] * len(head), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
