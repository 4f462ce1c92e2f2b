"""Any `torch.nn.Module` as a network.

The class is looked up among the modules that have been imported, by the user's own program or by `--plugin MODULE`; nothing is
imported because a run folder names it. It is called as `Class(shape)`, or `Class(shape, classes)` for a conditional model, and its
objects as `module(x, level)`, or `module(x, level, condition)`; see `sdezoo.learning.network.Network`.
"""

import sys
from dataclasses import dataclass

from torch import nn

from sdezoo.errors import PluginError
from sdezoo.learning.network import Network


@dataclass(frozen=True)
class Module(Network):
    """A module of yours: path=package.module.Class, of a module that --plugin or your program has imported."""

    path: str
    """The class, with its module."""

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        home, _, name = self.path.rpartition(".")
        if home not in sys.modules:
            raise PluginError(f"The module '{home}' of the network '{self.path}' is not imported.", f"Give --plugin {home or 'MODULE'}.")
        cls = getattr(sys.modules[home], name, None)
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            raise PluginError(f"'{self.path}' is not a class of networks.", "Give the path of a subclass of torch.nn.Module.")
        try:
            return cls(shape) if classes is None else cls(shape, classes)
        except TypeError as error:
            wanted = f"({shape})" if classes is None else f"({shape}, {classes})"
            raise PluginError(
                f"'{self.path}' cannot be made as {name}{wanted}: {error}.", "Let it take the shape of an event first."
            ) from None
