"""How long to train on a small table: by cross-validation of the validation loss.

A network that is trained for long on few rows memorizes them: its validation loss falls and rises again, and its samples are near-copies
of training rows. So the training rows are cut into `K` folds. For each, a model is trained on the others at a constant learning rate, and
its validation loss on the fold is measured every 25 steps, until it is past its least value. With `n` the steps at which the mean over
folds is least, `2 n` steps are trained on all rows, with the learning rate falling to zero: under the cosine schedule half of the
steps' learning rate is left. No fold leaves anything on the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdezoo.data.dataset import Data
from sdezoo.process.noise import Noise, mix
from sdezoo.training.loop import Training, TrainingProgress
from sdezoo.training.metrics import MetricBuffer
from sdezoo.training.task import Plan
from sdezoo.training.workers import Workers

ROWS = 600
"""Training rows below which the number of steps is cross-validated; with more, the default number of steps memorizes little."""
FEWEST = 20
"""Training rows from which on there is something to cross-validate."""

_KEY = -5  # beside the steps 0, 1, …
_EVERY, _MOST = 25, 1000
_FOLDS, _MANY_FOLDS, _FEW_ROWS = 3, 5, 150


@dataclass(frozen=True)
class Selection:
    """A number of steps and where it comes from.

    Args:
        steps: to train on all rows.
        folds: of the cross-validation.
        least: the steps at which the mean validation loss was least.
    """

    steps: int
    folds: int
    least: int

    @property
    def reason(self) -> str:
        """In words, for the summary of a training run."""
        return (
            f"{self.steps} steps, by {self.folds}-fold cross-validation: the validation loss is least after {self.least} steps at a "
            "constant learning rate, and rises where a model begins to memorize rows"
        )


def cross_validates(data: Data) -> bool:
    """Whether the number of steps is found by cross-validation, unless it is given: for tables and points of 20 to 599 training rows."""
    return data.kind in ("table", "points") and data.stored is None and FEWEST <= data.rows < ROWS


def select_steps(plan: Plan, workers: Workers, progress: TrainingProgress | None = None) -> Selection:
    """Cross-validate the number of steps.

    Args:
        plan: of the training run.
        workers: who trains; all find the same number.
        progress: called after every step, with the steps of all folds.

    Raises:
        RunError: where the loss stops being finite.
    """
    count = _MANY_FOLDS if plan.data.rows < _FEW_ROWS else _FOLDS
    fold_of = _folds(plan.data.rows, count, plan.config.seed)
    curves = []
    for k in range(count):

        def follow(done: int, loss: float, k: int = k) -> None:
            if progress:
                progress(k * _MOST + done, count * _MOST, loss)

        curves.append(_curve(_without(plan, fold_of == k), workers, follow))
    length = min(map(len, curves))
    mean = torch.tensor([curve[:length] for curve in curves], dtype=torch.float64).mean(0)
    least = _EVERY * (int(mean.argmin()) + 1)
    return Selection(2 * least, count, least)


def _folds(rows: int, count: int, seed: int) -> Tensor:
    """The fold of each row, as even as can be, `(rows,)`."""
    noise = Noise.seeded(seed, _KEY)
    order = noise.draw(lambda n, generator: torch.randperm(len(n), generator=generator), torch.empty(rows))
    fold = torch.empty(rows, dtype=torch.int64)
    fold[order] = torch.arange(rows) % count
    return fold


def _without(plan: Plan, held: Tensor) -> Plan:
    """The plan of a training run on the rows that are not `held`, which validate it."""
    data, kept = plan.data, ~held
    labels, held_labels = (None, None) if data.train_labels is None else (data.train_labels[kept], data.train_labels[held])
    part = replace(data, train=data.train[kept], test=data.train[held], train_labels=labels, test_labels=held_labels)
    config = plan.config.model_copy(update={"steps": _MOST, "schedule": "constant", "seed": mix(plan.config.seed, _KEY) % 2**31})
    return replace(plan, data=part, x0=plan.x0[kept.to(plan.x0.device)], config=config)


def _curve(plan: Plan, workers: Workers, follow: Callable[[int, float], None]) -> list[float]:
    """The validation losses every 25 steps, until half as many steps again, and four measurements, have brought nothing better."""
    training, losses = Training(plan, workers), []
    live, optimizer = training.learner.live(workers.network), workers.optimizer(training.optimizer)
    while training.step < _MOST:
        training.advance(live, optimizer, MetricBuffer(training.learner.level_edges))
        if training.step % _EVERY:
            follow(training.step, losses[-1] if losses else float("nan"))
            continue
        loss = training.learner.validation_loss(training.average)
        losses.append(float("inf") if loss is None else loss)
        follow(training.step, losses[-1])
        best = losses.index(min(losses)) + 1
        if len(losses) >= 1.5 * best + 4:
            break
    return losses
