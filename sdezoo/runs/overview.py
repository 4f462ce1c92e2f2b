"""Overview of a run, as `sdezoo show RUN` prints it. Reads the run folder only: loads no weights, imports no plugin."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdezoo.errors import RunError
from sdezoo.store import checkpoint
from sdezoo.store.checkpoint import DamagedError
from sdezoo.store.files import opened, read_small
from sdezoo.training.config import TrainingConfig, config_file

_LARGEST = 2**20  # most bytes read of a JSON file, or of the end of the metrics


def overview(run: Path) -> dict[str, Any]:
    """Summarize a run folder.

    Args:
        run: the run folder.

    Returns:
        A dictionary with the keys below. Anything that does not exist yet is None or empty.

        - `run`: the path of the folder.
        - `config`: the settings.
        - `environment`: the contents of `env.json`.
        - `checkpoints`: an entry for each checkpoint, with `step`, `bytes`, `validation_loss`, and `damaged` (None, or what is wrong).
        - `best`: the step with the lowest validation loss.
        - `state`: the `state.json` of the newest intact checkpoint.
        - `metrics`: the last line of `metrics.jsonl`.

    Raises:
        RunError: if the folder is not a run.
    """
    config = TrainingConfig.read(config_file(run))
    newest, _ = checkpoint.newest_whole(run)
    return {
        "run": str(run),
        "config": config,
        "environment": _json(run / "env.json"),
        "checkpoints": [_entry(step, folder) for step, folder in checkpoint.steps(run).items()],
        "best": checkpoint.best(run),
        "state": asdict(checkpoint.read_state(newest)) if newest else None,
        "metrics": _last(run / "metrics.jsonl"),
    }


def _entry(step: int, folder: Path) -> dict[str, Any]:
    validation_loss, damaged = None, None
    try:
        validation_loss = checkpoint.read_state(folder).validation_loss
        checkpoint.check(folder)
    except DamagedError as error:
        damaged = error.what
    except RunError as error:
        damaged = error.problem
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return {"step": step, "bytes": size, "validation_loss": validation_loss, "damaged": damaged}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_small(path, _LARGEST).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _last(path: Path) -> dict[str, Any] | None:
    try:
        with opened(path) as file:
            file.seek(max(0, path.stat().st_size - _LARGEST))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and "columns" not in found:  # that line is on the columns of a table, not on a step
            return found
    return None
