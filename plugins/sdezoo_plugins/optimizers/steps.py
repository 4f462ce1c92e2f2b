"""What the optimizers of this folder share: the step of a torch optimizer, and the moments of Adam. No plugin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


class Steps(torch.optim.Optimizer, ABC):
    """A torch optimizer whose step is `move`, without derivatives. Abstract: `move`."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Perform one step.

        Args:
            closure: recomputes the loss and its gradients; None: use the present gradients.

        Returns:
            The loss of `closure`; None without it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.move()
        return loss

    @abstractmethod
    def move(self) -> None:
        """Move the parameters in place."""

    def moving(self) -> Iterator[tuple[int, Tensor, Tensor, dict[str, Any]]]:
        """Place in its group, parameter, gradient and group of every parameter that has a gradient."""
        for group in self.param_groups:
            for place, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    yield place, parameter, parameter.grad, group


def adam_moments(gradient: Tensor, state: dict[str, Any], betas: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Update Adam's averages of gradients and of squared gradients; return `m̂` and `v̂` (Kingma & Ba, arXiv 1412.6980, algorithm 1).

    Args:
        gradient: gradient of one parameter.
        state: state of that parameter, updated in place: `step`, `mean` and `square`.
        betas: decay rates of the averages.
    """
    if "step" not in state:
        state |= {"step": torch.zeros(()), "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
    first, second = betas
    steps = float(state["step"].add_(1))
    mean = state["mean"].lerp_(gradient, 1 - first) / (1 - first**steps)
    square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second) / (1 - second**steps)
    return mean, square
