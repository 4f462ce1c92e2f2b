"""What changes with the steps: the learning rate, and the memory of the weights' moving average."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

ScheduleName = Literal["cosine", "constant"]


def rate(name: ScheduleName, step: int, steps: int, warm_up: int) -> float:
    """The share of the peak learning rate at `step` of `steps`: a linear warm-up, and a cosine to zero or nothing more.

    The warm-up takes a tenth of the steps at most.
    """
    warm = min(1.0, (step + 1) / max(min(warm_up, steps // 10), 1))
    return warm * (0.5 + 0.5 * math.cos(math.pi * step / steps)) if name == "cosine" else warm


def moving_average(half_life: float, batch: int) -> Callable[..., None]:
    """The update of an exponential average of weights, with a memory of `half_life` images, `batch` of them a step.

    The decay is `2^(−batch/half_life)`; 0 keeps the last weights alone. After `n` updates it is at most `(1 + n)/(10 + n)`, so that a
    short training is not an average with its initial weights.
    """
    decay = 0.5 ** (batch / half_life) if half_life else 0.0

    def update(averaged: list[Tensor], current: list[Tensor], seen: Tensor | int) -> None:
        now = min(decay, (1 + int(seen)) / (10 + int(seen)))
        get_ema_multi_avg_fn(now)(averaged, current, seen)

    return update
