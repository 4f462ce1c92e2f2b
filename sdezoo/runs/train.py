"""Training: a score model from a config, in a run folder.

The plan (`plan`) is checked before any data is read, and nothing is written before the data is. The loop is in `sdezoo.training.loop`.

A run may be killed at any moment. What it leaves is a run folder, whose `config.yaml` and checkpoints are each whole; resuming continues
from the newest, or from the beginning where none was reached.
"""

from __future__ import annotations

import json
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from sdezoo.bridging.rounds import train_rounds
from sdezoo.data.dataset import Data
from sdezoo.errors import RunError, SdezooError
from sdezoo.learning.bfloat16 import emulated
from sdezoo.learning.compiling import compiling
from sdezoo.runs.preview import draw_loss, draw_preview
from sdezoo.store.files import atomic_write, remove, writing
from sdezoo.store.launch import is_first, usual_torch
from sdezoo.store.locking import reserve, run_lock
from sdezoo.store.provenance import environment
from sdezoo.training.config import TrainingConfig
from sdezoo.training.loop import Notify, Result, Training, TrainingProgress
from sdezoo.training.metrics import MetricLogger
from sdezoo.training.planning import draft, plan
from sdezoo.training.resumption import refuse_other_settings
from sdezoo.training.task import Plan
from sdezoo.training.workers import Workers, deterministic

_REMEDY = "Make room, make it writable, or give another --out."


@usual_torch()
def train(
    config: TrainingConfig,
    *,
    data: Data | None = None,
    resume: bool = False,
    overwrite: bool = False,
    interruptible: bool = False,
    preview: bool = False,
    progress: TrainingProgress | None = None,
    notify: Notify = warnings.warn,
) -> Result:
    """Train a model and leave it in a run folder.

    Args:
        config: the settings.
        data: used in place of those that `config` names.
        resume: continue from the newest checkpoint that is intact.
        overwrite: replace a run that exists.
        interruptible: SIGINT, SIGTERM and SIGHUP end the step and save, see `sdezoo.training.interruption`; in a main thread only.
        preview: draw a few samples of the trained model into the run folder, see `sdezoo.runs.preview`, and compare the columns of a
            table with real rows, see `sdezoo.runs.column_check`. If that fails, the run is saved all the same, and the result's note says
            why.
        progress: called after every step.
        notify: called with each sentence that the user should know before training continues.

    Raises:
        SdezooError: for anything that cannot work, before anything is written; where the loss stops being finite; and where the folder
            cannot be written to any more.
        Interrupted: for a signal, where `interruptible`.
    """
    checked = draft(config, data)
    if resume:
        refuse_other_settings(checked.run, checked.config)
        if checked.task.in_rounds and TrainingConfig.read(checked.run / "config.yaml").get("rounds") is None:
            whole = checked.run.parent.parent
            raise RunError(f"'{checked.run}' is one round of a bridge.", f"Resume the run that it belongs to: --out {whole}.")
    elif is_first():
        reserve(checked.run, overwrite=overwrite)
    with deterministic(config.deterministic), compiling(config.compile):
        workers = Workers(checked.device, config.precision, compiled=config.compile)
        slow = emulated(checked.device) if config.precision == "bf16" and is_first() else None
        if slow:
            notify(slow)
        chosen = plan(checked, workers, resume=resume, progress=progress)
        for note in chosen.data.notes if is_first() else ():
            notify(note)
        if chosen.task.in_rounds:
            return _in_rounds(chosen, resume=resume, overwrite=overwrite, progress=progress, interruptible=interruptible, notify=notify)
        training = Training(chosen, workers)
        with run_lock(chosen.run) if is_first() else nullcontext():
            if resume:
                training.resume(notify if is_first() else lambda _: None)
            elif is_first():
                _clear(chosen.run, overwrite)
            if is_first():
                _begin(chosen, training)
            workers.wait()
            result = training.run(progress, interruptible=interruptible)
    return _with_last_look(_with_preview(result, chosen.device), chosen) if preview and is_first() else result


def _in_rounds(
    plan: Plan, *, resume: bool, overwrite: bool, progress: TrainingProgress | None, interruptible: bool, notify: Notify
) -> Result:
    """Train the rounds of a bridge, each a run in the run folder."""
    config = plan.config
    before = TrainingConfig.of_run(plan.run) if resume else config
    if before.steps not in (None, config.steps):
        raise RunError(f"The rounds of '{plan.run}' have {before.steps} steps each.", "Leave out --steps to resume; --rounds may grow.")
    with run_lock(plan.run) if is_first() else nullcontext():
        if is_first():
            if not resume:
                _clear(plan.run, overwrite)
            config.write(plan.run / "config.yaml")
        return train_rounds(
            plan,
            lambda: Workers(plan.device, config.precision, compiled=config.compile),
            _begin,
            progress=progress,
            interruptible=interruptible,
            notify=notify,
        )


def _with_preview(result: Result, device: torch.device) -> Result:
    try:
        draw_loss(result.run)
        return replace(result, preview=draw_preview(result.run, device))
    except Exception as error:  # a third party's network or sampler may raise anything, and the run is saved
        return _noted(result, f"The run is saved, but no preview could be drawn: {_reason(error)}.")


def _with_last_look(result: Result, plan: Plan) -> Result:
    """The result with a note on columns that samples miss, and on copies; both are also recorded in the metrics."""
    if plan.data.kind != "table" or result.preview is None:
        return result
    try:
        from sdezoo.runs.column_check import last_look  # it loads what takes longer than a short training

        found = last_look(result.run, plan.data, plan.device, plan.config.seed)
    except Exception as error:  # as above
        return _noted(result, f"The run is saved, but its samples could not be compared with the data: {_reason(error)}.")
    if found.record:
        MetricLogger(result.run, result.steps, tensorboard=False).write({"step": result.steps, **found.record})
    return _noted(result, found.note)


def _reason(error: Exception) -> str:
    return (str(error) if isinstance(error, SdezooError) else f"{type(error).__name__}: {error}").rstrip(".")


def _noted(result: Result, sentence: str | None) -> Result:
    return replace(result, note=" ".join(filter(None, (result.note, sentence))) or None)


def _clear(run: Path, overwrite: bool) -> None:
    """Make room for a new run; its `config.yaml` stays until it is replaced, so that a folder is always known for a run."""
    reserve(run, overwrite=overwrite)
    with writing(run, _REMEDY):
        for part in ("checkpoints", "samples", "tensorboard", "rounds"):
            remove(run / part)
        for name in ("metrics.jsonl", "env.json", "loss.png", "report.html", "evaluation/evaluation.json", "evaluation/evaluation.png"):
            (run / name).unlink(missing_ok=True)


def _begin(plan: Plan, training: Training) -> None:
    """What is in a run folder before the first step. On resuming, settings that may change are those of now."""
    plan.config.write(plan.run / "config.yaml")
    with writing(plan.run, _REMEDY):
        for part in ("checkpoints", "samples"):
            (plan.run / part).mkdir(exist_ok=True)
    if not (plan.run / "env.json").exists():
        with atomic_write(plan.run / "env.json", _REMEDY) as file:
            record = {
                **environment(plan.device),
                "settings given": ", ".join(plan.asked),
                "data": training.fingerprint,
                "plugins": training.plugins,
            }
            file.write(json.dumps(record, indent=1).encode())
