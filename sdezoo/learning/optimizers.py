"""Exponentiated gradient descent: weights that keep their sign (Dale's law).

Each step multiplies a weight by a positive number (Kivinen & Warmuth 1997; for networks Cornford et al., bioRxiv
2024.10.25.620272; the relation to geometric Brownian motion in Shetty et al., arXiv 2510.02730)::

    w ← w ∘ exp(−η (sign(w) ∘ d + λ))

Here `d` is the descent direction, `η` the learning rate, *relative* to the weights, and `λ` the weight decay: `|w|` decays at rate
`ηλ`, as under the penalty `λ‖w‖₁`. With `λ = 0` this is mirror descent with `ψ(w) = Σ |w| log |w| − |w|` and `∇ψ = sign(w) log |w|`::

    ∇ψ(w') = ∇ψ(w) − η d,      w' = argmin_v  η ⟨d, v⟩ + D_ψ(v, w)

For `egd`, `d` is the moving average of gradients; for `egd-adam`, Adam's direction `m̂/(√v̂ + ε)` (Kingma & Ba, arXiv 1412.6980).

**Weights** are parameters with at least two dimensions: they connect neurons. Biases and the gains of normalization layers
have one dimension. Dale's law does not apply to them, and they take additive steps, `b ← b − η d`.

**A zero weight** has no sign, and no factor changes it. Its next step is additive, `−η d`; the weight then keeps the sign of
that step. So layers that are initialized to zero can train, and an untrained network still returns zero.

**Bounds.** A step changes `|w|` by at most a factor e, and `|w|` stays within the normal numbers of its dtype: no weight
underflows to zero, where it would lose its sign, and none overflows. NaN gradients give NaN weights.
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
"""The keys of `OPTIMIZERS`."""


class Exponentiated(Optimizer, ABC):
    """Exponentiated gradient descent. Abstract: `direction`. Its state holds only tensors.

    Args:
        params: parameters or parameter groups, as for every torch optimizer.
        lr: learning rate `η`, positive.
        weight_decay: `λ`, at least 0, for weights only.
        own: further defaults of the parameter groups.

    Raises:
        ParameterError: if `lr` is not positive, or `weight_decay` is negative.
    """

    learning_rate: ClassVar[float]
    """The default peak learning rate. Steps are relative to the weights, so one value suits any network."""

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float = 0.0, **own: Any) -> None:
        if not 0 < lr < math.inf:
            raise ParameterError(f"lr={lr} is not allowed.", "Set lr to a number above 0.")
        if not 0 <= weight_decay < math.inf:
            raise ParameterError(f"weight_decay={weight_decay} is not allowed.", "Set weight_decay to a number at least 0.")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **own})

    @abstractmethod
    def direction(self, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        """The descent direction `d`, shaped like the gradient.

        Args:
            gradient: gradient of one parameter.
            state: state of that parameter, empty before the first step; updated in place.
            group: the parameter group.
        """

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
    """Exponentiated gradient descent along the moving average of gradients, `d ← β d + (1 − β) g`, starting from `d = g`.

    Args:
        params: parameters or parameter groups, as for every torch optimizer.
        lr: learning rate `η`, positive.
        momentum: `β`, in [0, 1).
        weight_decay: `λ`, at least 0, for weights only.

    Raises:
        ParameterError: if a number is out of its range.
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
    """Exponentiated gradient descent along Adam's direction, `d = m̂/(√v̂ + ε)`, whose size is about 1 for gradients of any size.

    Args:
        params: parameters or parameter groups, as for every torch optimizer.
        lr: learning rate `η`, positive.
        betas: decay rates of the averages of gradients and of squared gradients, in [0, 1).
        eps: `ε`, added to the denominator.
        weight_decay: `λ`, at least 0, for weights only.

    Raises:
        ParameterError: if a number is out of its range.
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
    """Whether exponentiated gradient descent keeps the signs of a parameter: it has at least two dimensions.

    Args:
        parameter: a parameter of any shape.
    """
    return parameter.ndim >= 2


def _multiplied(w: Tensor, additive: Tensor, decay: float) -> Tensor:
    kept = torch.finfo(w.dtype)
    exponent = (w.sign() * additive - decay).clamp(-1, 1)
    size = (w.abs() * exponent.exp()).clamp_min(kept.tiny)
    return torch.where(w == 0, additive, size.copysign(w)).clamp(-kept.max, kept.max)


def _check_average(**decays: float) -> None:
    for name, value in decays.items():
        if not 0 <= value < 1:
            raise ParameterError(f"{name}={value} is not allowed.", f"Set {name} to a number at least 0 and below 1.")


def _adamw(params: Iterable[Parameter], lr: float) -> Optimizer:
    listed = list(params)
    return AdamW(listed, lr, betas=(0.9, 0.99), weight_decay=0.01, fused=all(p.device.type != "mps" for p in listed))


OPTIMIZERS: dict[OptimizerName, Callable[[Iterable[Parameter], float], Optimizer]] = {"adamw": _adamw, "egd": EGD, "egd-adam": EGDAdam}
"""Optimizers by name, built from parameters and a peak learning rate."""

LEARNING_RATES: dict[OptimizerName, float] = {"egd": EGD.learning_rate, "egd-adam": EGDAdam.learning_rate}
"""Default peak learning rates of optimizers that define one. The others use `Network.learning_rate`."""


def flatten_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as named tensors.

    Args:
        optimizer: any torch optimizer whose state is tensors and numbers.

    Returns:
        Tensors under keys `PARAMETER.KEY`, where `PARAMETER` is the index of the parameter.
    """
    entries = optimizer.state_dict()["state"].items()
    return {f"{index}.{key}": torch.as_tensor(value) for index, values in entries for key, value in values.items()}


def restore_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore the state of an optimizer.

    Args:
        optimizer: an optimizer of the same class and parameters.
        tensors: the result of `flatten_state`.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        like = parameters[int(index)]
        # Fused kernels ignore strides: state shaped like a parameter must have its memory format, for example channels last.
        state.setdefault(int(index), {})[key] = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
