"""Exponentiated gradient descent: weights that keep their sign (Dale's law).

Each step multiplies a weight by a positive number (Kivinen & Warmuth 1997; for networks Cornford et al., bioRxiv
2024.10.25.620272; the relation to geometric Brownian motion in Shetty et al., arXiv 2510.02730)::

    w ← w ∘ exp(−η (sign(w) ∘ d + λ))

Here `d` is the descent direction, `η` the learning rate, *relative* to the weights, and `λ` the weight decay: `|w|` decays at rate
`ηλ`, as under the penalty `λ‖w‖₁`. With `λ = 0` this is mirror descent with `ψ(w) = Σ |w| log |w| − |w|` and `∇ψ = sign(w) log |w|`::

    ∇ψ(w') = ∇ψ(w) − η d,      w' = argmin_v  η ⟨d, v⟩ + D_ψ(v, w)

For `egd`, `d` is the moving average of gradients; for `egd-adam`, Adam's direction `m̂/(√v̂ + ε)` (Kingma & Ba, arXiv 1412.6980).
This module is what the two share.

**Weights** are parameters with at least two dimensions: they connect neurons. Biases and the gains of normalization layers
have one dimension. Dale's law does not apply to them, and they take additive steps, `b ← b − η d`.

**A zero weight** has no sign, and no factor changes it. Its next step is additive, `−η d`; the weight then keeps the sign of
that step. So layers that are initialized to zero can train, and an untrained network still returns zero.

**Bounds.** A step changes `|w|` by at most a factor e, and `|w|` stays within the normal numbers of its dtype: no weight
underflows to zero, where it would lose its sign, and none overflows. NaN gradients give NaN weights.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sdezoo.errors import ParameterError
from sdezoo.learning.optimizer import is_weight
from sdezoo_plugins.optimizers.steps import Steps, adam_moments


class Exponentiated(Steps):
    """Exponentiated gradient descent. Abstract: `direction`. Its state holds only tensors.

    Args:
        params: parameters or parameter groups, as for every torch optimizer.
        lr: learning rate `η`, positive.
        weight_decay: `λ`, at least 0, for weights only.
        own: further defaults of the parameter groups.

    Raises:
        ParameterError: if `lr` is not positive, or `weight_decay` is negative.
    """

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

    def move(self) -> None:
        for _, parameter, gradient, group in self.moving():
            d = self.direction(gradient, self.state[parameter], group)
            additive = -group["lr"] * d
            if is_weight(parameter):
                parameter.copy_(_multiplied(parameter, additive, group["lr"] * group["weight_decay"]))
            else:
                parameter.add_(additive)


class AlongMean(Exponentiated):
    """Exponentiated gradient descent along the moving average of gradients, `d ← β d + (1 − β) g`, starting from `d = g`.

    Args:
        params: parameters or parameter groups, as for every torch optimizer.
        lr: learning rate `η`, positive.
        momentum: `β`, in [0, 1).
        weight_decay: `λ`, at least 0, for weights only.

    Raises:
        ParameterError: if a number is out of its range.
    """

    def __init__(self, params: Iterable[Any], lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        _check_average(momentum=momentum)
        super().__init__(params, lr, weight_decay, momentum=momentum)

    def direction(self, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        if not state:
            state["mean"] = gradient.clone()
        return state["mean"].lerp_(gradient, 1 - group["momentum"])


class AlongAdam(Exponentiated):
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

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        _check_average(beta1=betas[0], beta2=betas[1])
        super().__init__(params, lr, weight_decay, betas=betas, eps=eps)

    def direction(self, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        mean, square = adam_moments(gradient, state, group["betas"])
        return mean / (square.sqrt() + group["eps"])


def _multiplied(w: Tensor, additive: Tensor, decay: float) -> Tensor:
    kept = torch.finfo(w.dtype)
    exponent = (w.sign() * additive - decay).clamp(-1, 1)
    size = (w.abs() * exponent.exp()).clamp_min(kept.tiny)
    return torch.where(w == 0, additive, size.copysign(w)).clamp(-kept.max, kept.max)


def _check_average(**decays: float) -> None:
    for name, value in decays.items():
        if not 0 <= value < 1:
            raise ParameterError(f"{name}={value} is not allowed.", f"Set {name} to a number at least 0 and below 1.")
