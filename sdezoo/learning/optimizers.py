"""Exponentiated gradient descent: weights that keep their sign (Dale's law).

A weight is multiplied by a positive number (Kivinen & Warmuth 1997; for networks Cornford et al., bioRxiv
2024.10.25.620272; its bond with geometric Brownian motion in Shetty et al., arXiv 2510.02730)::

    w ← w ∘ exp(−η (sign(w) ∘ d + λ))

`d` is a direction of descent, `η` the learning rate, a *relative* one, and `λ` the weight decay: `|w|` falls at the rate
`ηλ`, as under the penalty `λ‖w‖₁`. With `λ = 0` this is mirror descent with `ψ(w) = Σ |w| log |w| − |w|`, of which `∇ψ = sign(w) log |w|`::

    ∇ψ(w') = ∇ψ(w) − η d,      w' = argmin_v  η ⟨d, v⟩ + D_ψ(v, w)

`egd` takes for `d` the moving average of gradients, `egd-adam` Adam's direction `m̂/(√v̂ + ε)` (Kingma & Ba, arXiv 1412.6980).

**What is a weight.** Parameters with two dimensions or more: they connect neurons. Biases, and the gains of
normalisations, have one; Dale's law does not speak of them, and they move by `b ← b − η d`.

**A weight at exactly zero** has no sign to keep, and no factor moves it. Its next step is the additive one, `−η d`,
which gives it a sign; that one it keeps. Layers that start at zero thus train, and a fresh network still returns zero.

**What is bounded.** A step changes `|w|` at most e-fold, and `|w|` stays within the normal numbers of its dtype: a
weight that dies out cannot come back with the other sign, and none overflows. NaN gradients give NaN weights.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer

from sdezoo.errors import ParameterError

OptimizerName = Literal["adamw", "egd", "egd-adam"]


class Exponentiated(Optimizer, ABC):
    """Exponentiated gradient descent. Abstract: `direction`. All that it keeps from step to step are tensors.

    Args:
        params: parameters or groups of them, as every torch optimizer takes them. lr: `η`. weight_decay: `λ`, for weights alone.

    Raises:
        ParameterError: for a rate that is not positive, and for a negative decay.
    """

    learning_rate: ClassVar[float]
    """The peak learning rate to start from: steps are relative to the weights, so that it suits any network."""

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float = 0.0, **own: Any) -> None:
        if not 0 < lr < math.inf:
            raise ParameterError(f"lr={lr} is not allowed.", "Give lr a number above 0.")
        if not 0 <= weight_decay < math.inf:
            raise ParameterError(f"weight_decay={weight_decay} is not allowed.", "Give weight_decay a number of at least 0.")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **own})

    @abstractmethod
    def direction(self, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        """`d` for the gradient of one parameter; `state` is empty in the first step."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; `closure` computes the loss anew where it is given, and its value is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    d = self.direction(parameter.grad, self.state[parameter], group)
                    additive = -group["lr"] * d
                    if is_weight(parameter):
                        parameter.copy_(_multiplied(parameter, additive, group["lr"] * group["weight_decay"]))
                    else:
                        parameter.add_(additive)
        return loss


class EGD(Exponentiated):
    """Along the moving average of gradients, `d ← β d + (1 − β) g`, from `d = g`.

    Args:
        momentum: `β`, in [0, 1).
    """

    learning_rate = 10.0

    def __init__(self, params: Iterable[Any], lr: float = learning_rate, *, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        _check_average(momentum=momentum)
        super().__init__(params, lr, weight_decay, momentum=momentum)

    def direction(self, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        if not state:
            state["mean"] = gradient.clone()
        return state["mean"].lerp_(gradient, 1 - group["momentum"])


class EGDAdam(Exponentiated):
    """Along Adam's direction, `d = m̂/(√v̂ + ε)`: of size about 1 whatever the size of the gradients.

    Args:
        betas: decay of the averages of gradients and of their squares, in [0, 1). eps: `ε`.
    """

    learning_rate = 0.1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = learning_rate,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        _check_average(beta1=betas[0], beta2=betas[1])
        super().__init__(params, lr, weight_decay, betas=betas, eps=eps)

    def direction(self, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
        first, second = group["betas"]
        steps = float(state["step"].add_(1))
        mean = state["mean"].lerp_(gradient, 1 - first) / (1 - first**steps)
        square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second) / (1 - second**steps)
        return mean / (square.sqrt() + group["eps"])


def is_weight(parameter: Tensor) -> bool:
    """Whether exponentiated descent keeps the signs of a parameter: it has two dimensions or more."""
    return parameter.ndim >= 2


def _multiplied(w: Tensor, additive: Tensor, decay: float) -> Tensor:
    kept = torch.finfo(w.dtype)
    exponent = (w.sign() * additive - decay).clamp(-1, 1)
    size = (w.abs() * exponent.exp()).clamp_min(kept.tiny)
    return torch.where(w == 0, additive, size.copysign(w)).clamp(-kept.max, kept.max)


def _check_average(**decays: float) -> None:
    for name, value in decays.items():
        if not 0 <= value < 1:
            raise ParameterError(f"{name}={value} is not allowed.", f"Give {name} a number of at least 0 and below 1.")


def _adamw(params: Iterable[Parameter], lr: float) -> Optimizer:
    listed = list(params)
    return AdamW(listed, lr, betas=(0.9, 0.99), weight_decay=0.01, fused=all(p.device.type != "mps" for p in listed))


OPTIMIZERS: dict[OptimizerName, Callable[[Iterable[Parameter], float], Optimizer]] = {"adamw": _adamw, "egd": EGD, "egd-adam": EGDAdam}
"""Optimizers by name, from parameters and a peak learning rate."""

LEARNING_RATES: dict[OptimizerName, float] = {"egd": EGD.learning_rate, "egd-adam": EGDAdam.learning_rate}
"""The peak learning rates of those that ask for none of a network's own; the others take `Network.learning_rate`."""


def flatten_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as named tensors, `PARAMETER.KEY`."""
    entries = optimizer.state_dict()["state"].items()
    return {f"{index}.{key}": torch.as_tensor(value) for index, values in entries for key, value in values.items()}


def restore_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer the state that `flatten_state` took."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        like = parameters[int(index)]
        # Fused kernels walk through memory: what is shaped like a parameter must lie as it does, channels last or not.
        state.setdefault(int(index), {})[key] = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
