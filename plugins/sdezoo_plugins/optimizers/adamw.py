"""AdamW: Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2)::

    m ← β₁ m + (1 − β₁) g,      v ← β₂ v + (1 − β₂) g²,      w ← w − η (m̂/(√v̂ + ε) + λ w)

with `m̂ = m/(1 − β₁ᵏ)` and `v̂ = v/(1 − β₂ᵏ)` at step `k`. The decay is that of torch: `η λ`, with the learning rate.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from torch import nn

from sdezoo.learning.optimizer import Optimizer
from sdezoo.parameters import NonNegative


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay: the default."""

    beta1: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """Decay rate of the average `m` of gradients."""
    beta2: Annotated[float, Interval(ge=0, lt=1)] = 0.99
    """Decay rate of the average `v` of squared gradients."""
    weight_decay: NonNegative = 0.01
    """`λ`, the rate at which weights decay."""

    def build(self, module: nn.Module, lr: float, *, steps: int = 1, seed: int = 0) -> torch.optim.Optimizer:
        listed = list(module.parameters())
        fused = all(p.device.type != "mps" for p in listed)
        return torch.optim.AdamW(listed, lr, betas=(self.beta1, self.beta2), weight_decay=self.weight_decay, fused=fused)
