"""Training: a score model from a config, in a run folder.

The plan (`plan`) is checked before any data is read, and nothing is written before the data is. The loop is in `sdezoo.training.loop`.

A run may be killed at any moment. What it leaves is a run folder, whose `config.yaml` and checkpoints are each whole; to resume goes on
from the newest, or from the beginning where none was reached.
"""

from __future__ import annotations

import json
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from sdezoo.data.dataset import Data
from sdezoo.store.files import atomic_write, remove, writing
from sdezoo.store.launch import is_first
from sdezoo.store.locking import reserve, run_lock
from sdezoo.store.provenance import environment
from sdezoo.training.config import TrainingConfig
from sdezoo.training.loop import Notify, Report, Result, Training
from sdezoo.training.planning import Plan, choose_batch, choose_network, plan
from sdezoo.training.preprocessing import place
from sdezoo.training.resumption import refuse_other_settings
from sdezoo.training.workers import Workers, deterministic

_REMEDY = "Make room, make it writable, or give another --out."


def train(
    config: TrainingConfig,
    *,
    data: Data | None = None,
    resume: bool = False,
    overwrite: bool = False,
    interruptible: bool = False,
    report: Report | None = None,
    tell: Notify = warnings.warn,
) -> Result:
    """Train a score model and leave it in a run folder.

    Args:
        config: the settings. data: in place of those that it names. resume: go on from the newest checkpoint that is whole. overwrite: a
        run that is there is replaced. interruptible: SIGINT and SIGTERM end the step and save, see `sdezoo.training.interruption`; in a
        main thread. report, tell: see `Report` and `Notify`.

    Raises:
        SdezooError: for anything that cannot work, before anything is written; where the loss stops being finite; and where the folder
            cannot be written to any more.
        Interrupted: for a signal, where `interruptible`.
    """
    made = plan(config, data)
    if resume:
        refuse_other_settings(made.run, made.config)
    elif is_first():
        reserve(made.run, overwrite=overwrite)
    with deterministic(config.deterministic):
        workers = Workers(made.device, made.config.precision, compiled=made.config.compile)
        made = replace(made, device=workers.device)
        data = made.load()
        way = place(data, made.sde.support, made.config.shift)
        x0 = way(data.train).to(made.device)
        network = choose_network(made, data.event)
        batch = (made.config.batch_size if resume else None) or choose_batch(made, data.rows)
        made = replace(made, sde=made.sde.adapted(x0), config=made.config.model_copy(update={"net": network.spec, "batch_size": batch}))
        training = Training(made, network, data, way, x0, workers)
        with run_lock(made.run) if is_first() else nullcontext():
            if resume:
                training.resume(tell if is_first() else lambda _: None)
            elif is_first():
                _clear(made.run, overwrite)
            if is_first():
                _begin(made, training)
            workers.wait()
            return training.run(report, interruptible=interruptible)


def _clear(run: Path, overwrite: bool) -> None:
    """Make room for a new run; its `config.yaml` stays until it is replaced, so that a folder is always known for a run."""
    reserve(run, overwrite=overwrite)
    with writing(run, _REMEDY):
        for part in ("checkpoints", "samples", "tensorboard"):
            remove(run / part)
        for name in ("metrics.jsonl", "env.json"):
            (run / name).unlink(missing_ok=True)


def _begin(made: Plan, training: Training) -> None:
    """What is in a run folder before the first step. On resuming, settings that may change are those of now."""
    made.config.write(made.run / "config.yaml")
    with writing(made.run, _REMEDY):
        for part in ("checkpoints", "samples"):
            (made.run / part).mkdir(exist_ok=True)
    if not (made.run / "env.json").exists():
        with atomic_write(made.run / "env.json", _REMEDY) as file:
            record = {**environment(made.device), "data": training.fingerprint, "plugins": training.plugins}
            file.write(json.dumps(record, indent=1).encode())
