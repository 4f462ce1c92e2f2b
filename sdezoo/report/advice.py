"""What to start with for data: process, sampler, steps, and why. Reads the data; trains and writes nothing."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sdezoo.data.dataset import Data
from sdezoo.errors import in_one_line, printable
from sdezoo.learning.model import Model
from sdezoo.sampling.sampler import Sampler
from sdezoo.training.config import TrainingConfig
from sdezoo.training.planning import Draft, draft, plan
from sdezoo.training.selection import FEWEST, ROWS, cross_validates
from sdezoo.training.workers import Workers
from sdezoo.zoo.columns import AUTO
from sdezoo.zoo.composition import usual_sampler

_MANY_STEPS, _TRAINING = 100, 2000
_SECOND = 2.0


@dataclass(frozen=True)
class Advice:
    """What to start with.

    Args:
        data: what the advice is for, in words.
        process: spec string of the process.
        sampler: spec string of the sampler.
        sampling_steps: its steps.
        training_steps: optimizer steps; None: by cross-validation.
        reasons: for each of `process`, `sampler`, `steps` and `training`, why, a sentence each.
        commands: what to type.
    """

    data: str
    process: str
    sampler: str
    sampling_steps: int
    training_steps: int | None
    reasons: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        """The advice as JSON values."""
        plain = {"data": self.data, "process": self.process, "sampler": self.sampler, "sampling_steps": self.sampling_steps}
        return {**plain, "training_steps": self.training_steps, "reasons": [list(pair) for pair in self.reasons], "commands": self.commands}

    @property
    def text(self) -> str:
        """The commands, then what they choose, and why."""
        lines = [*map(printable, self.commands), "", in_one_line(self.data)]
        lines += [f"  {name:<9} {in_one_line(sentence)}" for name, sentence in self.reasons]
        return "\n".join(lines) + "\n"


def advise(source: str, column: str | None = None) -> Advice:
    """Say what to start with for data.

    Args:
        source: spec string of a dataset, or path of a file or folder.
        column: what is known of columns, as for `sdezoo train --column`.

    Raises:
        SdezooError: if the data cannot be read, or no process fits them.
    """
    chosen = draft(TrainingConfig.build({"data": source, "column": column}))
    data = chosen.load()
    sampler = usual_sampler(chosen.sde, data.kind, decides=False)
    decides = sampler.deciding() != sampler and _decides(chosen)
    sampler = sampler.deciding() if decides else sampler
    steps = sampler.usual_steps if sampler.weak_order is None or sampler.weak_order >= _SECOND else _MANY_STEPS
    found = chosen.reasons or (f"{chosen.config.sde}: the default for data of kind {data.kind}",)
    reasons = [("process", sentence) for sentence in found]
    reasons += [
        ("sampler", f"{sampler.spec}: {_why(chosen.sde.own_sampler() is not None, data, decides)}"),
        ("steps", _pace(sampler, steps)),
    ]
    trained = None if cross_validates(data) else _TRAINING
    reasons.append(("training", _training(data, trained)))
    return Advice(
        _in_words(source, data),
        chosen.config.sde,
        sampler.spec,
        steps,
        trained,
        tuple(reasons),
        _commands(source, column, chosen.run, None if steps == sampler.usual_steps else steps),
    )


def _decides(chosen: Draft) -> bool:
    """Whether the model of a table knows columns of two values; see `Model.decides`."""
    config = chosen.config.model_copy(update={"steps": 1})  # so that no number of steps is searched for
    planned = plan(replace(chosen, config=config), Workers(torch.device("cpu"), None, compiled=False))
    model = planned.task.learner(planned, [torch.arange(planned.batch)]).module
    return isinstance(model, Model) and model.decides


def _why(own: bool, data: Data, decides: bool) -> str:
    if own:
        return "the sampler that the process brings"
    found = f"of those that fit, the one preferred for data of kind {data.kind}"
    return f"{found}, in its variant for categories, marks of missing values and zeros" if decides else found


def _pace(sampler: Sampler[Any], steps: int) -> str:
    order = sampler.weak_order
    calls = f"{sampler.evaluations(steps)} network evaluations a sample"
    if order is None:
        return f"{steps}, {calls}; its error has no order in the step size, so compare with twice as many"
    return f"{steps}, {calls}; its error falls with the step size to the power {order:g}"


def _training(data: Data, steps: int | None) -> str:
    if steps is None:
        return f"steps by cross-validation, as for {FEWEST} to {ROWS - 1} rows: a network that trains too long memorizes {data.rows} rows"
    return f"{steps} steps for {data.rows} rows; look at the loss, and train longer while it falls"


def _in_words(source: str, data: Data) -> str:
    held = f", {len(data.test)} held out" if len(data.test) else ""
    shape = f"{data.event[-1]} columns" if data.kind in ("table", "points") else f"shape {'×'.join(map(str, data.event))}"
    return f"{source}: {data.kind}, {data.rows} rows for training{held}, {shape}"


def _commands(source: str, column: str | None, run: Path, steps: int | None) -> tuple[str, ...]:
    train = ["sdezoo", "train", "--data", source, "--sde", AUTO] + (["--column", column] if column else [])
    folder = str(run)
    given = [] if steps is None else ["--steps", str(steps)]
    rest = [["sdezoo", "sample", folder, *given, "-n", "1000"], ["sdezoo", "evaluate", folder, *given]]
    return tuple(shlex.join(parts) for parts in ([*train, "--out", folder], *rest, ["sdezoo", "report", folder]))
