"""Exponentiated gradient descent along Adam's direction (Kivinen & Warmuth 1997; Kingma & Ba, arXiv 1412.6980)::

    w ← w ∘ exp(−η (sign(w) ∘ m̂/(√v̂ + ε) + λ))

No weight changes its sign (Dale's law), see `sdezoo_plugins.optimizers.exponentiated`. Biases and gains take additive steps.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import nn

from sdezoo.learning.optimizer import Optimizer
from sdezoo.parameters import NonNegative, Positive
from sdezoo_plugins.optimizers.exponentiated import AlongAdam


@dataclass(frozen=True)
class EGDAdam(Optimizer):
    """Exponentiated gradient descent along Adam's direction: weights keep their signs and are multiplied."""

    learning_rate: ClassVar[float | None] = 0.1  # steps are relative to the weights, so one value suits any network
    keeps = "signs"

    beta1: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """Decay rate of the average `m` of gradients."""
    beta2: Annotated[float, Interval(ge=0, lt=1)] = 0.99
    """Decay rate of the average `v` of squared gradients."""
    eps: Positive = 1e-8
    """`ε`, added to the denominator."""
    weight_decay: NonNegative = 0.0
    """`λ`: magnitudes of weights decay at rate `ηλ`."""

    def build(self, module: nn.Module, lr: float, *, steps: int = 1, seed: int = 0) -> torch.optim.Optimizer:
        return AlongAdam(module.parameters(), lr, betas=(self.beta1, self.beta2), eps=self.eps, weight_decay=self.weight_decay)
