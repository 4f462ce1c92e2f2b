"""Networks: recipes for the `torch.nn.Module` that learns the score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from torch import nn

from sdezoo.parameters import Plugin


class Network(Plugin, ABC):
    """A recipe: its fields are the architecture, and it builds the module once the data's shape is known.

    The module is called as `module(x, level, condition)`: `x` `(B, *event)`, `noise_conditioning` `(B,)` tells the noise (see
    `Process.noise_conditioning`), `condition` holds integer labels `(B,)` or is None; it returns a tensor shaped like `x`, zero
    before training.
    """

    learning_rate: ClassVar[float] = 1e-3
    """The peak learning rate that suits it, unless the user gives one."""

    def refuses(self, shape: tuple[int, ...]) -> str | None:
        """Why this does not work with data of event shape `shape`, as a phrase (`needs …`); None where it does."""
        return None

    def sized(self, shape: tuple[int, ...], rows: int) -> Self:
        """The same network with every size that was left open filled in; default: itself.

        Args:
            shape: event shape of what the network sees.
            rows: number of training rows. A network that is large for its rows memorizes them.
        """
        return self

    @abstractmethod
    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        """A module for data of event shape `shape`; `classes`: how many labels it can be conditioned on."""
