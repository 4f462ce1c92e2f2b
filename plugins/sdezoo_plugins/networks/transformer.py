"""A transformer along the time of series and paths."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from sdezoo.learning.network import Network
from sdezoo.parameters import Count, Fraction
from sdezoo_plugins.networks.embedding import Embedding


class TransformerBlock(nn.Module):
    """Attention between steps and a perceptron at each step; the embedding e scales, shifts and gates both.

        h ← h + g₁ P softmax(Q Kᵀ / √c) V,   [Q, K, V] = W ((1 + a₁) LayerNorm(h) + c₁)
        h ← h + g₂ W₂ GELU(W₁ ((1 + a₂) LayerNorm(h) + c₂)),      (B, T, width) -> (B, T, width)

    The gates g start at zero, so a fresh block is the identity (Peebles & Xie, arXiv 2212.09748).

    Args:
        width: number of features.
        heads: number of heads; divides `width`.
        embedding: number of features of the embedding.
        dropout: dropout probability within the perceptron.
    """

    def __init__(self, width: int, heads: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.modulation = nn.Linear(embedding, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.enter, self.leave = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        a, c, g, a2, c2, g2 = rearrange(self.modulation(e), "b (six w) -> six b 1 w", six=6)
        query, key, value = rearrange(
            self.enter((1 + a) * self.norms[0](h) + c), "b t (three heads c) -> three b heads t c", three=3, heads=self.heads
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        h = h + g * self.leave(rearrange(mixed, "b heads t c -> b t (heads c)"))
        return h + g2 * self.perceptron((1 + a2) * self.norms[1](h) + c2)


class TransformerModule(nn.Module):
    """A transformer along time: a linear map, learned positions, `depth` blocks, LayerNorm, a linear map.

    Args:
        shape: shape `(T, d)` of a series.
        width: number of features.
        depth: number of blocks.
        heads: number of heads of attention.
        dropout: dropout probability.
        classes: number of classes, or None for a network without labels.
    """

    def __init__(self, shape: tuple[int, int], width: int, depth: int, heads: int, dropout: float, classes: int | None) -> None:
        super().__init__()
        self.embedding = Embedding(width, classes)
        self.enter = nn.Linear(shape[1], width)
        self.positions = nn.Parameter(0.02 * torch.randn(shape[0], width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, shape[1])
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        """The network output.

        Args:
            x: network input, `(B, T, d)`; `T` at most that of training.
            level: noise conditioning, `(B,)`.
            condition: labels, `(B,)` int64, or None for "no label".

        Returns:
            `(B, T, d)`, zero for a fresh network.
        """
        e = self.embedding(level, condition)
        h = self.enter(x) + self.positions[: x.shape[1]]
        for block in self.blocks:
            h = block(h, e)
        return self.leave(self.norm(h))


@dataclass(frozen=True)
class Transformer(Network):
    """Transformer along time, for series and paths.

        h₀ = W x + positions,   hₖ₊₁ = blockₖ(hₖ, e),   F = V LayerNorm(h_depth)

    maps x (B, T, d) and level (B,) to F (B, T, d). The Fourier embedding e of the level (and the label) scales, shifts and gates every
    block. V starts at zero. After Vaswani et al. 2017 and Peebles & Xie, arXiv 2212.09748.
    """

    preference: ClassVar[int] = 10

    width: Count = 64
    """Number of features, a multiple of `heads`."""
    depth: Count = 3
    """Number of blocks."""
    heads: Count = 4
    """Number of heads of attention."""
    dropout: Fraction = 0.1
    """Dropout probability in the perceptrons."""

    def refuses(self, shape: tuple[int, ...]) -> str | None:
        if self.width % self.heads:
            return f"needs a width that is a multiple of heads, but {self.width} is not one of {self.heads}"
        if len(shape) != 2:
            return f"needs series (steps, columns), but the data have shape {shape}"
        return None

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        steps, columns = shape
        return TransformerModule((steps, columns), self.width, self.depth, self.heads, self.dropout, classes)
