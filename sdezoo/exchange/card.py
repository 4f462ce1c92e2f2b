"""The card of a model: a page of Markdown with what its folder records, by the conventions of the Hub."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdezoo.errors import RunError, printable
from sdezoo.exchange import records
from sdezoo.store import checkpoint
from sdezoo.training.config import TrainingConfig
from sdezoo.training.metrics import recorded

NAME = "README.md"
"""Name of the card in a folder."""

_HEAD = """---
library_name: sdezoo
tags:
- diffusion
- score-matching
- {kind}
---
"""


def card(run: Path, name: str) -> str:
    """Write the card of a run folder.

    Args:
        run: the run folder.
        name: what to call the model, such as the id of its repository.

    Raises:
        RunError: if the folder has no intact checkpoint.
    """
    newest, _ = checkpoint.newest_whole(run)
    if newest is None:
        raise RunError(f"'{run}' has no intact checkpoint.", "Give a folder of `sdezoo train` or of `save_pretrained`.")
    state = asdict(checkpoint.read_state(newest))
    config = TrainingConfig.read(run / "config.yaml")
    evaluation = records.json_object(run / "evaluation" / "evaluation.json")
    parts = [_HEAD.format(kind=plain(state["kind"])), f"# {plain(name)}", *_verdict(evaluation), *_use(name), *_model(state, config)]
    parts += [*_losses(run), *_tables(evaluation), *_provenance(state)]
    return "\n\n".join(parts) + "\n"


def plain(text: object, longest: int = 200) -> str:
    """Text that Markdown and HTML show as it is, on one line.

    Args:
        text: any value.
        longest: characters that are shown.
    """
    shown = " ".join(printable(str(text)).split())[:longest]
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#|~!])", r"\\\1", shown)


def _verdict(evaluation: dict[str, Any]) -> list[str]:
    return [plain(evaluation["verdict"], 1000)] if isinstance(evaluation.get("verdict"), str) else []


def _use(name: str) -> list[str]:
    code = 'model = DiffusionModel.from_pretrained("{}", revision="…")  # the commit that you have looked at'.format(
        re.sub(r"[^\w./-]", "", name)
    )
    return ["## Use", f"```python\nfrom sdezoo import DiffusionModel\n\n{code}\nmodel.sample(1000)\n```"]


def _model(state: dict[str, Any], config: dict[str, Any]) -> list[str]:
    lines = ["## Model"]
    for spec, paragraphs in records.processes(state["sde"]):
        words = (
            " ".join(f"`{text.replace('`', '')}`" if formula else plain(text, 2000) for formula, text in paragraphs[0])
            if paragraphs
            else ""
        )
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
