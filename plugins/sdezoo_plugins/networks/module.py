"""Any `torch.nn.Module` as a network.

The class is looked up in modules that are already imported, by the user's own program or by `--plugin MODULE`. A module named in a run
folder is never imported.

The class is called as `Class(shape)`, or as `Class(shape, classes)` for a conditional model. The network is called as
`module(x, level)`, or as `module(x, level, condition)`; see `sdezoo.learning.network.Network`.
"""

import sys
from dataclasses import dataclass

from torch import nn

from sdezoo.errors import PluginError
from sdezoo.learning.network import Network


@dataclass(frozen=True)
class Module(Network):
    """Your own torch.nn.Module: path=package.module.Class, from a module imported by --plugin or by your program."""

    path: str
    """Dotted path of the class, `package.module.Class`."""

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        home, _, name = self.path.rpartition(".")
        if home not in sys.modules:
            raise PluginError(f"The module '{home}' of the network '{self.path}' is not imported.", f"Give --plugin {home or 'MODULE'}.")
        cls = getattr(sys.modules[home], name, None)
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            raise PluginError(f"'{self.path}' is not a subclass of torch.nn.Module.", "Give the path of a network class.")
        try:
            return cls(shape) if classes is None else cls(shape, classes)
        except TypeError as error:
            wanted = f"({shape})" if classes is None else f"({shape}, {classes})"
            raise PluginError(
                f"'{self.path}' cannot be built as {name}{wanted}: {error}.", "Make the event shape its first argument."
            ) from None
