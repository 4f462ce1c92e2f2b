"""Prepare a trained model for fast sampling: move it to a device, set the precision, compile the network.

With `bf16`, calls of the network run under autocast, and their outputs are cast back to float32; states and all computations of a sampler
stay float32. With `float64` it is the other way round: states and sampler compute in float64, and the network in float32. Processes whose
states are large sums that nearly cancel need it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sdezoo.errors import ParameterError, RunError
from sdezoo.learning.bfloat16 import emulated
from sdezoo.learning.compiling import compiling, refusal
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.network import features_of

Precision = Literal["float32", "bf16", "float64"]


def prepare(model: ScoreModel[Any], device: torch.device, precision: str = "float32", *, compiled: bool = False) -> ScoreModel[Any]:
    """Prepare a model for sampling on a device.

    Args:
        model: the model; it is moved to `device` in place.
        device: device to sample on.
        precision: `float32`, `bf16` (the network in bfloat16, under autocast) or `float64` (the states in float64).
        compiled: whether to compile the network with `torch.compile`. It is compiled once for each batch size, so that samples do not
            depend on earlier batch sizes.

    Returns:
        A model that shares its weights with `model`.

    Raises:
        ParameterError: if the precision is unknown.
        RunError: if the device does not support the precision, or, at the first call, if the network cannot be compiled.
    """
    if precision not in get_args(Precision):
        raise ParameterError(f"precision={precision} is unknown.", f"Give one of {', '.join(get_args(Precision))}.")
    if precision == "bf16" and not _has_bfloat16(device):
        raise RunError(f"The device '{device}' does not support bfloat16.", "Leave out --precision, or choose another --device.")
    if precision == "float64" and device.type == "mps":
        raise RunError(f"The device '{device}' does not support float64.", "Leave out --precision, or choose another --device.")
    if precision == "bf16" and (slow := emulated(device)):
        warnings.warn(slow, stacklevel=2)
    model = model.to(device)
    for weight in model.net.parameters():
        if weight.ndim == 4:  # channels-last weights make convolutions use that layout, and it propagates to later layers
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    if precision == "float32" and not compiled:
        return model
    net = _Prepared(model.net, device.type, mixed=precision == "bf16", narrow=precision == "float64", compiled=compiled)
    return model.with_network(net).train(model.training)


class _Prepared(nn.Module):
    """A network that runs under autocast if `mixed`, takes float64 if `narrow`, and is compiled if `compiled`."""

    def __init__(self, net: nn.Module, device: str, *, mixed: bool, narrow: bool, compiled: bool) -> None:
        super().__init__()
        self.net, self.device, self.mixed, self.narrow = net, device, mixed, narrow
        self.call = _compiled(net) if compiled else net

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._run(self.call, *inputs)

    @property
    def features(self) -> Callable[..., Tensor] | None:
        return self._features if features_of(self.net) else None

    def _features(self, *inputs: Tensor) -> Tensor:
        return self._run(features_of(self.net), *inputs)  # pyright: ignore[reportArgumentType]

    def _run(self, call: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        with _autocast(self.device) if self.mixed else nullcontext():
            return call(*(each.float() if self.narrow and each.is_floating_point() else each for each in inputs))


def _compiled(net: nn.Module) -> Callable[..., Tensor]:
    try:
        fast = torch.compile(net, dynamic=False)
    except RuntimeError as error:
        raise refusal(error) from error

    def call(*inputs: Tensor) -> Tensor:
        with compiling(True):
            return fast(*inputs)

    return call


def _autocast(device: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, torch.bfloat16)


def _has_bfloat16(device: torch.device) -> bool:
    a = torch.ones(2, 2, device=device)
    try:
        with _autocast(device.type):
            return (a @ a).dtype == torch.bfloat16
    except RuntimeError:
        return False
