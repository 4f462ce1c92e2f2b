"""A U-Net along the time of series and paths."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from sdezoo.learning.network import Network
from sdezoo.parameters import Count, Fraction
from sdezoo_plugins.networks.unet_blocks import UNetModule


class UNet1DModule(UNetModule):
    """The U-Net along time, for rows `(T, d)`: columns are its channels."""

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        """The network output.

        Args:
            x: network input, `(B, T, d)`; `T` may differ from that of training.
            level: noise conditioning, `(B,)`.
            condition: labels, `(B,)` int64, or None for "no label".

        Returns:
            `(B, T, d)`, zero for a fresh network.
        """
        return super().forward(x.transpose(1, 2), level, condition).transpose(1, 2)

    def features(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().features(x.transpose(1, 2), level, condition)


@dataclass(frozen=True)
class UNet1D(Network):
    """U-Net along time, with residual blocks, and attention at the lowest resolution, for series and paths.

        h₀ = down₀(K x),   hₖ₊₁ = downₖ₊₁(shrink hₖ),   uₖ = upₖ([grow uₖ₊₁, hₖ]),   F = K' SiLU(GroupNorm(u₀))

    maps x (B, T, d) and level (B,) to F (B, T, d). The lowest u is attention over the lowest h. The Fourier embedding of the level (and the
    label) scales and shifts every residual block. K' starts at zero. Series need at least 4 steps. After Ronneberger et al. 2015 and Ho et
    al. 2020, with convolutions along time.
    """

    preference: ClassVar[int] = 20
    learning_rate: ClassVar[float] = 2e-3

    width: Count = 32
    """Base number of channels."""
    multipliers: tuple[Count, ...] = (1, 2, 2)
    """Channels at each resolution, as multiples of `width`: all steps first, each next one half of them."""
    blocks: Count = 1
    """Number of residual blocks per resolution, on the way down and again on the way up."""
    dropout: Fraction = 0.1
    """Channel dropout probability in the residual blocks."""

    def refuses(self, shape: tuple[int, ...]) -> str | None:
        if len(shape) != 2:
            return f"needs series (steps, columns), but the data have shape {shape}"
        if shape[0] < 4:
            return f"needs series of at least 4 steps, but the data have shape {shape}"
        return None

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        without = [False] * len(self.multipliers)
        return UNet1DModule(
            1, shape[1], self.width, self.multipliers, self.blocks, without, middle=True, dropout=self.dropout, classes=classes
        )
