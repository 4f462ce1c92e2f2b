"""Hebbian projection: gradients keep off the directions that earlier data use (HLOP, Xiao et al., ICLR 2024).

The inputs `x` of a layer span mostly a few directions. While a network learns, a layer's subspace `H`, `k` orthonormal rows, is found by a
Hebbian and anti-Hebbian rule, Oja's rule of subspaces, from a batch of `B` inputs::

    y = x Hᵀ,      x̂ = y H,      ΔH = yᵀ(x − x̂)/B,      clamped at ±10, rate 0.01, momentum 0.9, 5 iterations a step

When the network is trained on with other data (`sdezoo train --from`), the subspaces of before are kept, and a step `ΔW` of a layer becomes
`ΔW (I − HᵀH)`: where inputs of before lie in `H`, the layer answers as before. A new subspace is found for the new data, in what is left.

What differs from the published rule: the *step* is projected, Adam's, and not the gradient, so that it keeps off `H` exactly; inputs get a
constant 1, so that biases are weights of it and are kept too; inputs are scaled to a mean square length of 1, which changes no subspace and
keeps the rule stable at every width. Parameters outside linear and convolutional layers do not move any more with other data.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor, nn

from sdezoo.errors import ParameterError, RunError
from sdezoo.learning.optimizer import Optimizer
from sdezoo.parameters import Count
from sdezoo.process.noise import Noise
from sdezoo_plugins.optimizers.steps import Steps, adam_moments

_KEY = 0x4EBB
_RATE, _MOMENTUM, _ITERATIONS, _CLAMP = 0.01, 0.9, 5, 10.0
_ROWS, _IMAGES = 256, 8
_EPS = 1e-8


@dataclass(frozen=True)
class HebbianProjection(Optimizer):
    """Adam that learns which directions the data use, and keeps off them when the model is trained on with other data."""

    watches: ClassVar[bool] = True

    directions: Count | None = None
    """Number of protected directions in every layer; None: half of those that are left."""
    beta1: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """Decay rate of the average of gradients."""
    beta2: Annotated[float, Interval(ge=0, lt=1)] = 0.99
    """Decay rate of the average of squared gradients."""

    def build(self, module: nn.Module, lr: float, *, steps: int = 1, seed: int = 0) -> torch.optim.Optimizer:
        return Projected(module, lr, directions=self.directions, betas=(self.beta1, self.beta2), seed=seed)

    def inherit(self, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
        assert isinstance(optimizer, Projected)
        optimizer.keep(tensors)


class _Watched:
    """A layer and its last inputs."""

    def __init__(self, name: str, layer: nn.Linear | nn.Conv2d) -> None:
        self.name, self.layer, self.inputs = name, layer, []
        layer.register_forward_pre_hook(self._see)

    def _see(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled():
            self.inputs.append(arguments[0].detach())

    @property
    def width(self) -> int:
        """Number of inputs, with the constant."""
        return self.layer.weight[0].numel() + (self.layer.bias is not None)

    def seen(self) -> Tensor:
        """The inputs since the last step, at most 256 rows of mean square length 1, `(B, width)`; forgets them."""
        rows = torch.cat([self._rows(x) for x in self.inputs])
        self.inputs = []
        rows = rows[:: -(-len(rows) // _ROWS)]
        if self.layer.bias is not None:
            rows = nn.functional.pad(rows, (0, 1), value=1.0)
        return rows / rows.square().sum(1).mean().sqrt()

    def _rows(self, x: Tensor) -> Tensor:
        layer = self.layer
        if isinstance(layer, nn.Linear):
            return x.flatten(0, -2).to(layer.weight)
        x = x[:: -(-len(x) // _IMAGES)].to(layer.weight)
        assert not isinstance(layer.padding, str)
        found = nn.functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        return found.transpose(1, 2).flatten(0, 1)


def _watchable(layer: nn.Module) -> bool:
    plain = isinstance(layer, nn.Conv2d) and layer.groups == 1 and not isinstance(layer.padding, str) and layer.padding_mode == "zeros"
    return isinstance(layer, nn.Linear) or plain


class Projected(Steps):
    """Adam whose steps are projected off subspaces; see the module.

    Args:
        module: its parameters are trained, and the inputs of its layers watched.
        lr: learning rate.
        directions: rows of each layer's subspace; None: half of what is left.
        betas: decay rates of the averages of gradients and of squared gradients.
        seed: seed of the first subspaces.

    Raises:
        ParameterError: if a layer has fewer inputs than `directions`.
    """

    def __init__(self, module: nn.Module, lr: float, *, directions: int | None, betas: tuple[float, float], seed: int) -> None:
        super().__init__(module.parameters(), {"lr": lr})
        self.directions, self.betas, self.seed = directions, betas, seed
        layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        self._layers = [_Watched(name, layer) for name, layer in layers if _watchable(layer)]
        if not self._layers:
            raise ParameterError("The network has no linear layer whose inputs could be watched.", "Choose another --optimizer.")
        for layer in self._layers:
            self._count(layer, 0)

    def keep(self, tensors: dict[str, Tensor]) -> None:
        """Keep the subspaces of an earlier run.

        Args:
            tensors: its state, see `sdezoo.learning.optimizer.flatten_state`.

        Raises:
            RunError: if it has none, or those of another network.
            ParameterError: if `directions` are more than a layer has left.
        """
        places = {id(p): place for place, p in enumerate(p for group in self.param_groups for p in group["params"])}
        for layer in self._layers:
            place = places[id(layer.layer.weight)]
            found = [tensors[key] for key in (f"{place}.former", f"{place}.directions") if key in tensors]
            if f"{place}.directions" not in tensors or found[-1].shape[1] != layer.width:
                raise RunError(
                    "The run that is continued did not learn which directions its data use.",
                    "Train it with --optimizer hebbian-projection, or continue with another optimizer.",
                )
            rows = torch.linalg.qr(torch.cat(found).double().T).Q.T
            self._count(layer, len(rows))
            self.state[layer.layer.weight]["former"] = rows.to(layer.layer.weight)

    def move(self) -> None:
        """Move the parameters in place.

        Raises:
            RunError: if the loss hides the inputs of layers.
        """
        rate = self.param_groups[0]["lr"]
        watched, continued = set(), False
        for place, layer in enumerate(self._layers):
            weight, bias = layer.layer.weight, layer.layer.bias
            watched |= {id(weight), id(bias)}
            if weight.grad is None:
                continue
            change = self._adam(weight, weight.grad).flatten(1)
            if bias is not None:
                assert bias.grad is not None
                change = torch.cat([change, self._adam(bias, bias.grad)[:, None]], 1)
            state = self.state[weight]
            former = state.get("former")
            if former is not None:
                continued = True
                change = change - change @ former.T @ former
            if not layer.inputs:
                raise RunError("This loss hides what layers are given.", "Choose another --loss, or another --optimizer.")
            self._learn(state, layer, layer.seen(), place)
            weight.sub_(change[:, : weight[0].numel()].reshape(weight.shape), alpha=rate)
            if bias is not None:
                bias.sub_(change[:, -1], alpha=rate)
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None and id(parameter) not in watched and not continued:
                parameter.sub_(self._adam(parameter, parameter.grad), alpha=rate)

    def _adam(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        mean, square = adam_moments(gradient, self.state[parameter], self.betas)
        return mean / (square.sqrt() + _EPS)

    def _count(self, layer: _Watched, former: int) -> int:
        left = layer.width - former
        if self.directions is not None and self.directions > left:
            raise ParameterError(
                f"hebbian-projection: {self.directions} directions are more than the {left} that the inputs of '{layer.name}' have left.",
                f"Set directions to at most {left}, or leave it out." if left else "Continue with another optimizer.",
            )
        return self.directions or max(1, left // 2)

    def _learn(self, state: dict[str, Any], layer: _Watched, x: Tensor, place: int) -> None:
        """Turn the layer's subspace towards its inputs."""
        former = state.get("former")
        if former is not None:
            x = x - x @ former.T @ former
        if "directions" not in state:
            count = self._count(layer, 0 if former is None else len(former))
            drawn = Noise.seeded(self.seed, _KEY, place).normal(torch.empty((), dtype=torch.float64), (layer.width, count))
            if former is not None:
                drawn = drawn - former.T.double().cpu() @ (former.double().cpu() @ drawn)
            state["directions"] = torch.linalg.qr(drawn).Q.T.contiguous().to(x)
            state["velocity"] = torch.zeros_like(state["directions"])
        h, velocity = state["directions"], state["velocity"]
        for _ in range(_ITERATIONS):
            y = x @ h.T
            change = (y.T @ (x - y @ h) / len(x)).clamp(-_CLAMP, _CLAMP)
            velocity.mul_(_MOMENTUM).add_(change)
            h.add_(velocity, alpha=_RATE)
