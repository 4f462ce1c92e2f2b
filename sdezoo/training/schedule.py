"""Learning-rate schedules, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

ScheduleName = Literal["cosine", "constant"]


def rate(name: ScheduleName, step: int, steps: int, warm_up: int) -> float:
    """Learning rate as a fraction of its peak: linear warm-up, then constant or cosine decay to zero.

    Args:
        name: the schedule.
        step: current step, from 0.
        steps: total number of steps.
        warm_up: steps of warm-up; at most a tenth of `steps` are used.
    """
    warm = min(1.0, (step + 1) / max(min(warm_up, steps // 10), 1))
    return warm * (0.5 + 0.5 * math.cos(math.pi * step / steps)) if name == "cosine" else warm


def moving_average(half_life: float, batch: int) -> Callable[..., None]:
    """Update function of an exponential moving average of weights, for `AveragedModel`.

    The decay is `2^(−batch/half_life)`. After `n` updates it is at most `(1 + n)/(10 + n)`, so that the initial weights do not dominate
    the average of a short run.

    Args:
        half_life: half-life of the average, in images; 0: no average.
        batch: images per step.
    """
    decay = 0.5 ** (batch / half_life) if half_life else 0.0

    def update(averaged: list[Tensor], current: list[Tensor], seen: Tensor | int) -> None:
        now = min(decay, (1 + int(seen)) / (10 + int(seen)))
        get_ema_multi_avg_fn(now)(averaged, current, seen)

    return update
