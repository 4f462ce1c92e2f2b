"""A U-Net for images of any size and number of channels."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from sdezoo.learning.network import Network
from sdezoo.parameters import Count, Fraction
from sdezoo_plugins.networks.unet_blocks import UNetModule


@dataclass(frozen=True)
class UNet(Network):
    """U-Net with residual blocks and attention, for images.

        h₀ = down₀(K x),   hₖ₊₁ = downₖ₊₁(shrink hₖ),   uₖ = upₖ([grow uₖ₊₁, hₖ]),   F = K' SiLU(GroupNorm(u₀))

    maps x (B, C, H, W) and level (B,) to F (B, C, H, W). The lowest u is the lowest h. The Fourier embedding of the level (and the label)
    scales and shifts every residual block. K' starts at zero. Sides must be at least 4. After Ronneberger et al. 2015, Ho et al. 2020 and
    Dhariwal & Nichol 2021.
    """

    preference: ClassVar[int] = 20
    learning_rate: ClassVar[float] = 4e-3

    width: Count = 32
    """Base number of channels."""
    multipliers: tuple[Count, ...] | None = None
    """Channels at each resolution, as multiples of `width`: the full resolution first, each next one half of it. None: 1, 2, 4, 4, …
    down to the first resolution with attention, at least 1, 2."""
    blocks: Count = 1
    """Number of residual blocks per resolution, on the way down and again on the way up."""
    attention: Count = 8
    """Attention is used at resolutions whose longer side is at most this, in pixels."""
    dropout: Fraction = 0.1
    """Channel dropout probability in the residual blocks."""

    def refuses(self, shape: tuple[int, ...]) -> str | None:
        if len(shape) != 3:
            return f"needs images (channels, height, width), but the data have shape {shape}"
        if min(shape[1:]) < 4:
            return f"needs images with sides of at least 4, but the data have shape {shape}"
        return None

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        channels, *sides = shape
        longer, given = [max(sides)], self.multipliers
        while len(longer) < len(given) if given else len(longer) < 2 or longer[-1] > self.attention:
            longer.append(-(-longer[-1] // 2))
        multipliers = given or [min(2**level, 4) for level in range(len(longer))]
        attention = [side <= self.attention for side in longer]
        return UNetModule(2, channels, self.width, multipliers, self.blocks, attention, middle=False, dropout=self.dropout, classes=classes)
