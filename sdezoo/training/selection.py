"""Cross-validation of the number of training steps on small tables.

A network trained too long on few rows memorizes them: its validation loss falls and then rises, and its samples are near-copies of
training rows. So the training rows are split into `K` folds. For each fold, a model is trained on the other folds at a constant learning
rate, and its validation loss on the fold is measured every 25 steps until it has passed its minimum. If the mean over folds is smallest
after `n` steps, training on all rows takes `2 n` steps with the learning rate falling to zero: a cosine schedule halves the mean
learning rate. If it is not a two-hundredth below that of the model before any step, training takes a single step: what a model of a table
knows from the start is then as good, and a network that learns of few rows makes every column wider. The folds write nothing to disk.
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
from sdezoo.training.workers import Workers, threads

ROWS = 600
"""Number of training rows below which the number of steps is cross-validated; with more rows, the default memorizes little."""
FEWEST = 20
"""Smallest number of training rows for cross-validation."""

_KEY = -5  # a random key that no step 0, 1, … uses
_EVERY, _MOST, _GAIN = 25, 1000, 0.005
_FOLDS, _MANY_FOLDS, _FEW_ROWS = 3, 5, 150


@dataclass(frozen=True)
class Selection:
    """Result of the cross-validation.

    Args:
        steps: number of steps to train on all rows.
        folds: number of folds.
        least: step at which the mean validation loss was smallest; 0: no step lowered it by a two-hundredth.
    """

    steps: int
    folds: int
    least: int

    @property
    def reason(self) -> str:
        """The result in words, for the summary of a training run."""
        if not self.least:
            return f"{self.steps} step, by {self.folds}-fold cross-validation: none lowers the validation loss by {100 * _GAIN:g} %"
        return (
            f"{self.steps} steps, by {self.folds}-fold cross-validation: at a constant learning rate the validation loss is smallest after "
            f"{self.least} steps, and rises when the model begins to memorize rows"
        )


def cross_validates(data: Data) -> bool:
    """Whether the number of steps defaults to cross-validation: for tables and points with 20 to 599 training rows."""
    return data.kind in ("table", "points") and data.stored is None and FEWEST <= data.rows < ROWS


def select_steps(plan: Plan, workers: Workers, progress: TrainingProgress | None = None) -> Selection:
    """Cross-validate the number of steps.

    Args:
        plan: the plan of the training run.
        workers: the workers that train; all find the same number.
        progress: called after every step, counting the steps of all folds.

    Raises:
        SdezooError: if a fold cannot be trained.
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
    place = int(mean.argmin())
    if not mean.isfinite().any():  # a loss that cannot be measured
        place = 1
    elif mean[0] - mean[place] < _GAIN * mean[0].abs():
        return Selection(1, count, 0)
    return Selection(2 * _EVERY * place, count, _EVERY * place)


def _folds(rows: int, count: int, seed: int) -> Tensor:
    """Assign each row to a fold, as evenly as possible: int64 `(rows,)`."""
    noise = Noise.seeded(seed, _KEY)
    order = noise.draw(lambda n, generator: torch.randperm(len(n), generator=generator), torch.empty(rows))
    fold = torch.empty(rows, dtype=torch.int64)
    fold[order] = torch.arange(rows) % count
    return fold


def _without(plan: Plan, held: Tensor) -> Plan:
    """The plan of a run that trains on the rows outside the mask `held` and validates on those inside."""
    data, kept = plan.data, ~held
    labels, held_labels = (None, None) if data.train_labels is None else (data.train_labels[kept], data.train_labels[held])
    part = replace(data, train=data.train[kept], test=data.train[held], train_labels=labels, test_labels=held_labels)
    config = plan.config.model_copy(update={"steps": _MOST, "schedule": "constant", "seed": mix(plan.config.seed, _KEY) % 2**31})
    return replace(plan, data=part, x0=plan.x0[kept.to(plan.x0.device)], config=config)


def _curve(plan: Plan, workers: Workers, follow: Callable[[int, float], None]) -> list[float]:
    """Validation losses, the first before any step, then every 25 steps; stops once the `n`-th is the best and `1.5 n + 4` are measured."""
    training = Training(plan, workers)
    live, optimizer = training.learner.live(workers.network), workers.optimizer(training.optimizer)
    losses = [_measured(training)]
    with threads(training.threads):
        while training.step < _MOST:
            training.advance(live, optimizer, MetricBuffer(training.learner.level_edges))
            if training.step % _EVERY:
                follow(training.step, losses[-1])
                continue
            losses.append(_measured(training))
            follow(training.step, losses[-1])
            if len(losses) - 1 >= 1.5 * max(1, losses.index(min(losses))) + 4:
                break
    return losses


def _measured(training: Training) -> float:
    loss = training.learner.validation_loss(training.average)
    return float("inf") if loss is None else loss
