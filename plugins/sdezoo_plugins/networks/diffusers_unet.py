"""The U-Net of diffusers, `UNet2DModel`, as a network (the extra `diffusers`).

The noise conditioning enters through a positional embedding of `250 level`: levels in about [−2, 1.5] then spread over the range that
the embedding was designed for. The last convolution starts at zero, as in every network here. A conditional model has one extra class,
the last, which means "no label".
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from sdezoo.errors import PluginError
from sdezoo.learning.network import Network
from sdezoo.parameters import Count, Fraction

_SPREAD = 250.0


class DiffusersModule(nn.Module):
    """`UNet2DModel` with the call signature of the networks here.

    Args:
        net: the `UNet2DModel`; its last convolution is set to zero.
        classes: number of classes, "no label" not counted, or None for a network without labels.
    """

    def __init__(self, net: Any, classes: int | None) -> None:
        super().__init__()
        self.net, self.classes = net, classes
        nn.init.zeros_(net.conv_out.weight)
        nn.init.zeros_(net.conv_out.bias)

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        """The network output.

        Args:
            x: network input, `(B, C, H, W)`.
            level: noise conditioning, `(B,)`.
            condition: labels, `(B,)` int64, or None for "no label".

        Returns:
            `(B, C, H, W)`, zero for a fresh network.
        """
        if self.classes is not None and condition is None:
            condition = torch.full(level.shape, self.classes, dtype=torch.int64, device=level.device)
        return self.net(x, _SPREAD * level, class_labels=condition).sample


@dataclass(frozen=True)
class DiffusersUNet(Network):
    """UNet2DModel of diffusers, for images whose sides halve evenly between resolutions; needs the extra `diffusers`."""

    width: Count = 32
    """Base number of channels; a multiple of 8."""
    multipliers: tuple[Count, ...] = (1, 2)
    """Channels at each resolution, as multiples of `width`: the full resolution first, each next one half of it."""
    layers: Count = 1
    """Number of residual blocks per resolution."""
    dropout: Fraction = 0.0
    """Dropout probability in the residual blocks."""

    def refuses(self, shape: tuple[int, ...]) -> str | None:
        if find_spec("diffusers") is None:
            return 'needs diffusers, which is not installed (pip install "sdezoo[diffusers]")'
        halvings = 2 ** (len(self.multipliers) - 1)
        if len(shape) != 3 or any(side % halvings for side in shape[1:]):
            return f"needs images with sides that are multiples of {halvings}, but the data have shape {shape}"
        return None

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        try:
            from diffusers import UNet2DModel  # pyright: ignore[reportMissingImports, reportPrivateImportUsage]
        except ModuleNotFoundError as error:
            if error.name != "diffusers":
                raise _broken(error) from error
            raise PluginError("diffusers is not installed.", 'Install it: pip install "sdezoo[diffusers]".') from None
        except Exception as error:  # a dependency of diffusers may raise anything if it does not match this torch
            raise _broken(error) from error
        channels, height, width = shape
        depth = len(self.multipliers)
        net = UNet2DModel(
            sample_size=(height, width),
            in_channels=channels,
            out_channels=channels,
            layers_per_block=self.layers,
            block_out_channels=tuple(self.width * multiplier for multiplier in self.multipliers),
            down_block_types=("DownBlock2D",) * (depth - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (depth - 1),
            norm_num_groups=8,
            dropout=self.dropout,
            num_class_embeds=None if classes is None else classes + 1,
        )
        return DiffusersModule(net, classes)


def _broken(error: Exception) -> PluginError:
    """The error for an installed diffusers whose import raised `error`."""
    reason = " ".join(str(error).split())
    return PluginError(
        f"diffusers is installed but cannot be imported ({type(error).__name__}: {reason.rstrip('.')}).",
        f"Uninstall the library that raises this error, such as torchvision, or install its build for torch {torch.__version__}.",
    )
