"""Networks: architectures of the `torch.nn.Module` that learns the score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from torch import nn

from sdezoo.parameters import Plugin


class Network(Plugin, ABC):
    """An architecture: the fields are its hyper-parameters, and `module` builds it for a given data shape. Abstract: `module`.

    The module is called as `module(x, level)` or `module(x, level, condition)`:

    - `x`: input, `(B, *event)`;
    - `level`: noise level, `(B,)`, see `Process.noise_conditioning`;
    - `condition`: class indices, integers `(B,)`, or None. The index `classes` means that there is no label, as None does.

    It returns a tensor shaped like `x`. Before training the output is zero.
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
