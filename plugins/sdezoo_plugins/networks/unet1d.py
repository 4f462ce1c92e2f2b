"""A U-Net along the time of series and paths."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from sdezoo.learning.network import Network
from sdezoo.parameters import Count, Fraction
from sdezoo_plugins.networks.embedding import Embedding


def _convolution(channels: int, out: int, size: int = 3, stride: int = 1, zero: bool = False) -> nn.Conv1d:
    layer = nn.Conv1d(channels, out, size, stride=stride, padding=size // 2)
    if zero:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer


def _norm(channels: int, affine: bool = True) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels, affine=affine)


class TimeBlock(nn.Module):
    """A residual block along time; the embedding e sets its scale a and shift c.

        S h + K₂ SiLU((1 + a(e)) GroupNorm(K₁ SiLU(GroupNorm(h))) + c(e)),   (B, channels, T) -> (B, out, T)

    K₁, K₂ are convolutions over 3 steps. S is the identity, or a 1-step convolution if channels != out. K₂ starts at zero.

    Args:
        channels: number of input channels.
        out: number of output channels.
        embedding: number of features of the embedding.
        dropout: channel dropout probability before K₂.
    """

    def __init__(self, channels: int, out: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Sequential(_norm(channels), nn.SiLU(), _convolution(channels, out))
        self.norm = _norm(out, affine=False)
        self.modulation = nn.Linear(embedding, 2 * out)
        self.leave = nn.Sequential(nn.Dropout1d(dropout), _convolution(out, out, zero=True))
        self.skip = nn.Identity() if channels == out else _convolution(channels, out, size=1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        a, c = rearrange(self.modulation(e), "b (two c) -> two b c 1", two=2)
        return self.skip(h) + self.leave(nn.functional.silu((1 + a) * self.norm(self.enter(h)) + c))


class TimeAttention(nn.Module):
    """Residual self-attention between steps, (B, channels, T) -> (B, channels, T).

        h + P softmax(Q Kᵀ / √c) V,   [Q, K, V] = W GroupNorm(h)

    P starts at zero, so a fresh layer is the identity.

    Args:
        channels: number of channels. Each head has 32 if 32 divides them; otherwise there is one head.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // 32 if channels % 32 == 0 else 1
        self.norm = _norm(channels)
        self.enter = _convolution(channels, 3 * channels, size=1)
        self.leave = _convolution(channels, channels, size=1, zero=True)

    def forward(self, h: Tensor) -> Tensor:
        query, key, value = rearrange(self.enter(self.norm(h)), "b (three heads c) t -> three b heads t c", three=3, heads=self.heads)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return h + self.leave(rearrange(mixed, "b heads t c -> b (heads c) t"))


class UNet1DModule(nn.Module):
    """A U-Net along time: residual blocks at each resolution on the way down and up, attention at the lowest.

    Args:
        shape: shape `(T, d)` of a series.
        width: base number of channels.
        multipliers: channels at each resolution, as multiples of `width`.
        blocks: number of residual blocks at each resolution.
        dropout: channel dropout probability in the residual blocks.
        classes: number of classes, or None for a network without labels.
    """

    def __init__(
        self, shape: tuple[int, int], width: int, multipliers: tuple[int, ...], blocks: int, dropout: float, classes: int | None
    ) -> None:
        super().__init__()
        embedding, widths = 4 * width, [width * multiplier for multiplier in multipliers]
        self.embedding = Embedding(embedding, classes)
        self.enter = _convolution(shape[1], widths[0])
        self.down, self.shrink, self.grow, self.up = (nn.ModuleList() for _ in range(4))
        for i, out in enumerate(widths):
            self.down.append(nn.ModuleList(TimeBlock(out, out, embedding, dropout) for _ in range(blocks)))
            if i + 1 < len(widths):
                self.shrink.append(_convolution(out, widths[i + 1], stride=2))
                self.grow.append(_convolution(widths[i + 1], out))
                self.up.append(nn.ModuleList(TimeBlock(out if k else 2 * out, out, embedding, dropout) for k in range(blocks)))
        self.attention = TimeAttention(widths[-1])
        self.leave = nn.Sequential(_norm(widths[0]), nn.SiLU(), _convolution(widths[0], shape[1], zero=True))

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        """The network output.

        Args:
            x: network input, `(B, T, d)`; `T` may differ from that of training.
            level: noise conditioning, `(B,)`.
            condition: labels, `(B,)` int64, or None for "no label".

        Returns:
            `(B, T, d)`, zero for a fresh network.
        """
        e = self.embedding(level, condition)
        h = self.enter(x.transpose(1, 2))
        skips: list[Tensor] = []
        for i, stage in enumerate(self.down):
            if i:
                skips.append(h)
                h = self.shrink[i - 1](h)
            for block in stage:  # pyright: ignore[reportGeneralTypeIssues]
                h = block(h, e)
        h = self.attention(h)
        for grow, stage in zip(reversed(self.grow), reversed(self.up), strict=True):
            skip = skips.pop()
            h = torch.cat([grow(nn.functional.interpolate(h, size=skip.shape[2], mode="nearest")), skip], 1)
            for block in stage:  # pyright: ignore[reportGeneralTypeIssues]
                h = block(h, e)
        return self.leave(h).transpose(1, 2)


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
        steps, columns = shape
        return UNet1DModule((steps, columns), self.width, self.multipliers, self.blocks, self.dropout, classes)
