"""The U-Net of images and of series, along any number of axes: sides of an image, or time. No plugin: what `unet` and `unet1d` share."""

import math
from collections.abc import Iterator, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from sdezoo_plugins.networks.embedding import Embedding

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
_DROPOUTS = {1: nn.Dropout1d, 2: nn.Dropout2d}


def convolution(axes: int, channels: int, out: int, size: int = 3, stride: int = 1, zero: bool = False) -> nn.Conv1d | nn.Conv2d:
    """A padded convolution, `(B, channels, *sides)` → `(B, out, *⌈sides/stride⌉)`.

    Args:
        axes: number of sides, 1 or 2.
        channels: number of input channels.
        out: number of output channels.
        size: side of the kernel, odd.
        stride: stride.
        zero: whether weight and bias start at zero.
    """
    layer = _CONVOLUTIONS[axes](channels, out, size, stride=stride, padding=size // 2)
    if axes == 2:
        layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)  # a quarter faster on CPU
    if zero:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer


def group_norm(channels: int, affine: bool = True) -> nn.GroupNorm:
    """Group normalization over 8 groups, or fewer if 8 does not divide `channels`; any shape (B, channels, ...).

    Args:
        channels: number of channels.
        affine: whether the layer has a learned scale and shift.
    """
    return nn.GroupNorm(math.gcd(8, channels), channels, affine=affine)


class ConvolutionBlock(nn.Module):
    """A residual block; the embedding e sets its scale a and shift c.

        S h + K₂ SiLU((1 + a(e)) GroupNorm(K₁ SiLU(GroupNorm(h))) + c(e)),   (B, channels, *sides) -> (B, out, *sides)

    K₁, K₂ are convolutions of size 3. S is the identity, or a convolution of size 1 if channels != out. K₂ starts at zero.

    Args:
        axes: number of sides, 1 or 2.
        channels: number of input channels.
        out: number of output channels.
        embedding: number of features of the embedding.
        dropout: channel dropout probability before K₂.
    """

    def __init__(self, axes: int, channels: int, out: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Sequential(group_norm(channels), nn.SiLU(), convolution(axes, channels, out))
        self.norm = group_norm(out, affine=False)
        self.modulation = nn.Linear(embedding, 2 * out)
        self.leave = nn.Sequential(_DROPOUTS[axes](dropout), convolution(axes, out, out, zero=True))
        self.skip = nn.Identity() if channels == out else convolution(axes, channels, out, size=1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        a, c = rearrange(self.modulation(e), "b (two c) -> two b c" + " 1" * (h.ndim - 2), two=2)
        return self.skip(h) + self.leave(nn.functional.silu((1 + a) * self.norm(self.enter(h)) + c))


class Attention(nn.Module):
    """Residual self-attention between places, (B, channels, *sides) -> (B, channels, *sides).

        h + P softmax(Q Kᵀ / √c) V,   [Q, K, V] = W GroupNorm(h),   with c channels per head

    P starts at zero, so a fresh layer is the identity.

    Args:
        axes: number of sides, 1 or 2.
        channels: number of channels. Each head has 32 if 32 divides them; otherwise there is one head.
    """

    def __init__(self, axes: int, channels: int) -> None:
        super().__init__()
        self.heads = channels // 32 if channels % 32 == 0 else 1
        self.norm = group_norm(channels)
        self.enter = convolution(axes, channels, 3 * channels, size=1)
        self.leave = convolution(axes, channels, channels, size=1, zero=True)

    def forward(self, h: Tensor) -> Tensor:
        # Convolutions of size 1, as products: compiled in bfloat16 by torch 2.13, as convolutions they had gradients of zero.
        places = rearrange(self.norm(h), "b c ... -> b (...) c")
        places = nn.functional.linear(places, self.enter.weight.flatten(1), self.enter.bias)
        query, key, value = rearrange(places, "b n (three heads c) -> three b heads n c", three=3, heads=self.heads)
        mixed = rearrange(nn.functional.scaled_dot_product_attention(query, key, value), "b heads n c -> b n (heads c)")
        added = nn.functional.linear(mixed, self.leave.weight.flatten(1), self.leave.bias)
        return h + added.transpose(1, 2).reshape(h.shape)


class Stage(nn.Module):
    """The residual blocks at one resolution, each optionally followed by attention.

    Args:
        axes: number of sides, 1 or 2.
        channels: number of input channels.
        out: number of output channels.
        embedding: number of features of the embedding.
        blocks: number of residual blocks.
        attention: whether each block is followed by attention.
        dropout: channel dropout probability in the residual blocks.
    """

    def __init__(self, axes: int, channels: int, out: int, embedding: int, blocks: int, attention: bool, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvolutionBlock(axes, channels if i == 0 else out, out, embedding, dropout) for i in range(blocks))
        self.attentions = nn.ModuleList(Attention(axes, out) if attention else nn.Identity() for _ in range(blocks))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """All blocks in turn.

        Args:
            h: features, `(B, channels, *sides)`.
            e: embedding, `(B, embedding)`.

        Returns:
            `(B, out, *sides)`.
        """
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            h = attention(block(h, e))
        return h


class UNetModule(nn.Module):
    """A U-Net: one stage per resolution on the way down, and one on the way up that also takes the skip connection.

    Sides halve, rounding up, between stages. On the way up, nearest-neighbour resizing restores each size exactly.

    Args:
        axes: number of sides, 1 or 2.
        channels: number of channels of input and output.
        width: base number of channels.
        multipliers: channels at each resolution, as multiples of `width`.
        blocks: number of residual blocks per stage.
        attention: for each resolution, whether its blocks are followed by attention.
        middle: whether attention follows the lowest stage.
        dropout: channel dropout probability in the residual blocks.
        classes: number of classes, or None for a network without labels.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[bool],
        *,
        middle: bool,
        dropout: float,
        classes: int | None,
    ) -> None:
        super().__init__()
        embedding, widths = 4 * width, [width * multiplier for multiplier in multipliers]
        self.embedding = Embedding(embedding, classes)
        self.enter = convolution(axes, channels, widths[0])
        self.down, self.shrink, self.grow, self.up = (nn.ModuleList() for _ in range(4))
        for i, (out, attends) in enumerate(zip(widths, attention, strict=True)):
            self.down.append(Stage(axes, out, out, embedding, blocks, attends, dropout))
            if i + 1 < len(widths):
                self.shrink.append(convolution(axes, out, widths[i + 1], stride=2))
                self.grow.append(convolution(axes, widths[i + 1], out))
                self.up.append(Stage(axes, 2 * out, out, embedding, blocks, attends, dropout))
        self.middle = Attention(axes, widths[-1]) if middle else nn.Identity()
        self.leave = nn.Sequential(group_norm(widths[0]), nn.SiLU(), convolution(axes, widths[0], channels, zero=True))

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        """The network output.

        Args:
            x: network input, `(B, C, *sides)`.
            level: noise conditioning, `(B,)`.
            condition: labels, `(B,)` int64, or None for "no label".

        Returns:
            `(B, C, *sides)`, zero for a fresh network.
        """
        *_, h = self._stages(x, level, condition)
        return self.leave(h)

    def features(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        """Mean and mean square over all places of each channel after each stage, on the way down and up.

        Args:
            x: network input, `(B, C, *sides)`.
            level: noise conditioning, `(B,)`.
            condition: labels, `(B,)` int64, or None for "no label".

        Returns:
            `(B, k)`, with `k` twice the number of channels of all stages.
        """
        stages = [h.flatten(2) for h in self._stages(x, level, condition)]
        return torch.cat([pooled for h in stages for pooled in (h.mean(2), h.square().mean(2))], 1)

    def _stages(self, x: Tensor, level: Tensor, condition: Tensor | None) -> Iterator[Tensor]:
        """The output of each stage; the lowest one includes the attention in the middle."""
        e = self.embedding(level, condition)
        h = self.down[0](self.enter(x), e)
        skips: list[Tensor] = []
        for shrink, stage in zip(self.shrink, self.down[1:], strict=True):
            yield h
            skips.append(h)
            h = stage(shrink(h), e)
        h = self.middle(h)
        yield h
        for grow, stage in zip(reversed(self.grow), reversed(self.up), strict=True):
            skip = skips.pop()
            h = grow(nn.functional.interpolate(h, size=skip.shape[2:], mode="nearest"))
            h = stage(torch.cat([h, skip], dim=1), e)
            yield h
