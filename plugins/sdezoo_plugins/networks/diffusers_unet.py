"""The U-Net of diffusers, `UNet2DModel`, as a network (the extra `diffusers`).

It takes the noise level by a positional embedding of `250 level`, so that levels in about [−2, 1.5] spread over the range that it
was made for. Its last convolution starts at zero, as every network's here. A conditional model has one more class, the last: no label.
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
    """`UNet2DModel` called as networks are here.

    Args:
        net: the model. classes: number of classes without "no label", or None.
    """

    def __init__(self, net: Any, classes: int | None) -> None:
        super().__init__()
        self.net, self.classes = net, classes
        nn.init.zeros_(net.conv_out.weight)
        nn.init.zeros_(net.conv_out.bias)

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.classes is not None and condition is None:
            condition = torch.full(level.shape, self.classes, dtype=torch.int64, device=level.device)
        return self.net(x, _SPREAD * level, class_labels=condition).sample


@dataclass(frozen=True)
class DiffusersUNet(Network):
    """diffusers' UNet2DModel, for images whose sides halve evenly between resolutions; needs the extra `diffusers`."""

    width: Count = 32
    """Number of channels that the multipliers multiply; a multiple of 8."""
    multipliers: tuple[Count, ...] = (1, 2)
    """For each resolution, from the full one down by halves, its number of channels over `width`."""
    layers: Count = 1
    """Residual blocks at each resolution."""
    dropout: Fraction = 0.0
    """Share of a residual block's channels that are dropped in training."""

    def refuses(self, shape: tuple[int, ...]) -> str | None:
        if find_spec("diffusers") is None:
            return 'needs diffusers, which is not installed (pip install "sdezoo[diffusers]")'
        halvings = 2 ** (len(self.multipliers) - 1)
        if len(shape) != 3 or any(side % halvings for side in shape[1:]):
            return f"needs images with sides that are multiples of {halvings}, and the data have shape {shape}"
        return None

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        try:
            from diffusers import UNet2DModel  # pyright: ignore[reportMissingImports, reportPrivateImportUsage]
        except ModuleNotFoundError as error:
            if error.name != "diffusers":
                raise _broken(error) from error
            raise PluginError("diffusers is not installed.", 'Install it: pip install "sdezoo[diffusers]".') from None
        except Exception as error:  # a library that diffusers imports may raise anything, where it does not fit this torch
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
    """diffusers is installed, and importing it raised `error`."""
    reason = " ".join(str(error).split())
    return PluginError(
        f"diffusers is installed and cannot be imported ({type(error).__name__}: {reason.rstrip('.')}).",
        f"Uninstall the library that this error comes from, such as torchvision, or install its build for torch {torch.__version__}.",
    )
