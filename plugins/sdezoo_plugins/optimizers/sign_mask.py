"""Learning of signs: magnitudes stay as they were drawn, and only signs are learned (the idea of HideNseek, in federated learning)::

    w = m ∘ sign(q),      m = |w₀|,      q ← q − η d

`q` is a score of each weight, at the start `w₀` over its root mean square. `d` is Adam's direction along the gradient of the loss at `w`,
passed to `q` as if `sign` were the identity (the straight-through estimator, Bengio et al., arXiv 1308.3432). It is the complement of
exponentiated gradients, under which signs stay and magnitudes move.

Whoever knows the seed of `w₀` needs the signs alone: one bit a weight. Weights that are pruned, set to 0 before the first step, stay 0;
they need no bit if what pruned them saw no data. Biases and gains have one dimension; they move by Adam, and count in full. A layer that
starts at zero has no magnitudes; its first step gives all its weights the magnitude `gain/√inputs`. A moving average of signs is no sign,
so samples are drawn with the last weights.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor, nn

from sdezoo.learning.optimizer import Optimizer, is_weight
from sdezoo.parameters import Positive
from sdezoo_plugins.optimizers.steps import Steps, adam_moments

_EPS = 1e-8


@dataclass(frozen=True)
class SignMask(Optimizer):
    """Learns signs alone: magnitudes stay as initialized, and a client would send one bit a weight."""

    learning_rate: ClassVar[float | None] = 0.01
    keeps = "magnitudes"
    averaged: ClassVar[bool] = False

    beta1: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """Decay rate of the average of gradients."""
    beta2: Annotated[float, Interval(ge=0, lt=1)] = 0.99
    """Decay rate of the average of squared gradients."""
    gain: Positive = 0.3
    """Magnitude of the weights of a layer that starts at zero, times the root of its number of inputs."""

    def build(self, module: nn.Module, lr: float, *, steps: int = 1, seed: int = 0) -> torch.optim.Optimizer:
        return Signs(module, lr, betas=(self.beta1, self.beta2), gain=self.gain)

    def note(self, optimizer: torch.optim.Optimizer) -> str | None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        bits = sum(-(-int(p.count_nonzero()) // 8) for p in parameters if is_weight(p))
        rest = sum(p.numel() * p.element_size() for p in parameters if not is_weight(p))
        whole = sum(p.numel() * p.element_size() for p in parameters)
        saved = f"{whole / (bits + rest):.1f} times as much"
        return f"Signs take {bits} bytes and biases and gains {rest}; all weights would take {whole}, {saved}."


class Signs(Steps):
    """Steps of scores whose signs are those of the weights; see the module.

    Args:
        module: its parameters are trained.
        lr: learning rate `η`.
        betas: decay rates of the averages of gradients and of squared gradients.
        gain: magnitude of weights that start at zero, times the root of the inputs.
    """

    def __init__(self, module: nn.Module, lr: float, *, betas: tuple[float, float], gain: float) -> None:
        super().__init__(module.parameters(), {"lr": lr})
        self.betas, self.gain = betas, gain

    def move(self) -> None:
        for _, parameter, gradient, group in self.moving():
            self._move(parameter, gradient, group["lr"])

    def _move(self, w: Tensor, gradient: Tensor, lr: float) -> None:
        state = self.state[w]
        if is_weight(w) and "score" not in state:
            size = w.square().mean().sqrt()
            state["score"] = w / torch.where(size > 0, size, 1)
        mean, square = adam_moments(gradient, state, self.betas)
        change = lr * mean / (square.sqrt() + _EPS)
        if not is_weight(w):
            w.sub_(change)
            return
        score = state["score"].sub_(change)
        fresh = state["step"] == 1 and not w.any()
        size = torch.full_like(w, self.gain / (w.numel() / len(w)) ** 0.5) if fresh else w.abs()
        signed = torch.where(score.isnan(), score, size.copysign(score))
        w.copy_(torch.where(score == 0, size if fresh else w, signed))
