"""Optimizers: how gradients move the weights of a network.

A plugin of this kind holds hyper-parameters and builds a torch optimizer for the weights of one run. Its state is made of tensors alone,
so that a checkpoint holds it and a resumed run ends in the same bits. Random numbers are keyed by (seed, step), not drawn from a generator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from sdezoo.parameters import Plugin


class Optimizer(Plugin, ABC):
    """Base class of optimizers; subclasses implement `build`."""

    learning_rate: ClassVar[float | None] = None
    """The default peak learning rate; None: that of the network."""
    keeps: ClassVar[Literal["signs", "magnitudes"] | None] = None
    """What no step changes of a weight that is not 0, see `is_weight`: its sign, or its magnitude. None: nothing."""
    averaged: ClassVar[bool] = True
    """Whether a moving average of the weights is as good as the weights. False: samples are drawn with the last weights."""
    watches: ClassVar[bool] = False
    """Whether it sees what layers are given. Such a run takes one process and a network that is not compiled."""

    @abstractmethod
    def build(self, module: nn.Module, lr: float, *, steps: int = 1, seed: int = 0) -> torch.optim.Optimizer:
        """Build the optimizer of one run.

        Args:
            module: the module whose parameters are trained, on its device.
            lr: peak learning rate, positive. The learning rate of every step is put into the parameter groups before it.
            steps: number of steps of the run.
            seed: seed of the run, for optimizers that draw random numbers.

        Returns:
            An optimizer whose state holds tensors and numbers alone.

        Raises:
            SdezooError: if the hyper-parameters do not fit the module.
        """

    def inherit(self, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
        """Take over what is to be kept of an earlier run, when its model is trained on with other data. Default: nothing.

        Args:
            optimizer: the optimizer of the new run, from `build`.
            tensors: the last state of the earlier run, as `flatten_state` returns it.

        Raises:
            RunError: if the earlier run left nothing to keep.
        """
        return

    def note(self, optimizer: torch.optim.Optimizer) -> str | None:
        """Return a sentence on the trained weights for the user, if any. Default: None.

        Args:
            optimizer: the optimizer after the last step.
        """
        return None


def is_weight(parameter: Tensor) -> bool:
    """Whether a parameter connects neurons: it has at least two dimensions. Biases and gains have one.

    Args:
        parameter: a parameter of any shape.
    """
    return parameter.ndim >= 2


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
