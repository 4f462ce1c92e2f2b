"""Networks: architectures of the `torch.nn.Module` that learns the score."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from sdezoo.parameters import Plugin


class Network(Plugin, ABC):
    """An architecture: the fields are its hyper-parameters, and `module` builds it for a given data shape. Abstract: `module`.

    The module is called as `module(x, level)` or `module(x, level, condition)`:

    - `x`: input, `(B, *event)`;
    - `level`: noise level, `(B,)`, see `Process.noise_conditioning`;
    - `condition`: class indices, integers `(B,)`, or None. The index `classes` means that there is no label, as None does.

    It returns a tensor shaped like `x`. Before training the output is zero.

    It may have a method `features` with the same arguments, which returns what the network sees in each input, `(B, k)`: differentiable in
    `x`, and a row for a row. See `features_of`.
    """

    learning_rate: ClassVar[float] = 1e-3
    """The default peak learning rate."""

    def refuses(self, shape: tuple[int, ...]) -> str | None:
        """Why the network does not fit the data, as a phrase (`needs …`). Default: None, it fits.

        Args:
            shape: event shape of the network's input.
        """
        return None

    def sized(self, shape: tuple[int, ...], rows: int) -> Self:
        """Return the network with every open size chosen for the data. Default: the network itself.

        Args:
            shape: event shape of the network's input.
            rows: number of training rows. A network that is too large for them memorizes the rows.
        """
        return self

    @abstractmethod
    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        """Build the module.

        Args:
            shape: event shape of the network's input.
            classes: number of classes to condition on; None: unconditional.
        """


def features_of(module: nn.Module) -> Callable[..., Tensor] | None:
    """Return the method `features` of a network, see `Network`; None: it has none.

    A submodule of that name, as in image classifiers, is another thing.

    Args:
        module: the network.
    """
    found = getattr(module, "features", None)
    return found if inspect.ismethod(found) else None


class Seeing(nn.Module):
    """Stands in place of a network, and keeps the features of its input.

    Args:
        features: see `features_of`.
    """

    seen: Tensor
    """Features of the last input, `(B, k)`."""

    def __init__(self, features: Callable[..., Tensor]) -> None:
        super().__init__()
        self._features = features

    def forward(self, inputs: Tensor, level: Tensor) -> Tensor:
        """Return zeros shaped like the input.

        Args:
            inputs: input, `(B, *event)`.
            level: noise level, `(B,)`.
        """
        self.seen = self._features(inputs, level)
        return torch.zeros_like(inputs)
