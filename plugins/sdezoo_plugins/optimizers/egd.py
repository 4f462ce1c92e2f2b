"""Exponentiated gradient descent along the moving average of gradients (Kivinen & Warmuth 1997; Cornford et al. 2024)::

    d ← β d + (1 − β) g,      w ← w ∘ exp(−η (sign(w) ∘ d + λ))

No weight changes its sign (Dale's law), see `sdezoo_plugins.optimizers.exponentiated`. Biases and gains take additive steps.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import nn

from sdezoo.learning.optimizer import Optimizer
from sdezoo.parameters import NonNegative
from sdezoo_plugins.optimizers.exponentiated import AlongMean


@dataclass(frozen=True)
class EGD(Optimizer):
    """Exponentiated gradient descent: weights keep their signs and are multiplied."""

    learning_rate: ClassVar[float | None] = 10.0  # steps are relative to the weights, so one value suits any network
    keeps = "signs"

    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """`β`, the share of the average that a step keeps."""
    weight_decay: NonNegative = 0.0
    """`λ`: magnitudes of weights decay at rate `ηλ`."""

    def build(self, module: nn.Module, lr: float, *, steps: int = 1, seed: int = 0) -> torch.optim.Optimizer:
        return AlongMean(module.parameters(), lr, momentum=self.momentum, weight_decay=self.weight_decay)
