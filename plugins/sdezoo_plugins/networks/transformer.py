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

        s ← Q Kᵀ / √c + ρ s,                 [Q, K, V] = W ((1 + a₁) LayerNorm(h) + c₁)
        h ← h + g₁ P softmax(s) V
        h ← h + g₂ W₂ GELU(W₁ ((1 + a₂) LayerNorm(h) + c₂)),      (B, T, width) -> (B, T, width)

    `s` are the scores of the pathways between steps; those of the block before reinforce them. The gates g start at zero, so a fresh block
    is the identity on h (Peebles & Xie, arXiv 2212.09748).

    Args:
        width: number of features.
        heads: number of heads; divides `width`.
        embedding: number of features of the embedding.
        dropout: dropout probability within the perceptron.
        resonance: share ρ of the scores of the block before; 0: plain attention.
    """

    def __init__(self, width: int, heads: int, embedding: int, dropout: float, resonance: float = 0.0) -> None:
        super().__init__()
        self.heads, self.resonance = heads, resonance
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.modulation = nn.Linear(embedding, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.enter, self.leave = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width))

    def forward(self, h: Tensor, e: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The features, and the scores of the pathways `(B, heads, T, T)`; None without resonance.

        Args:
            h: features, `(B, T, width)`.
            e: embedding, `(B, embedding)`.
            before: the scores of the block before; None: this is the first.
        """
        a, c, g, a2, c2, g2 = rearrange(self.modulation(e), "b (six w) -> six b 1 w", six=6)
        query, key, value = rearrange(
            self.enter((1 + a) * self.norms[0](h) + c), "b t (three heads c) -> three b heads t c", three=3, heads=self.heads
        )
        scores = None
        if self.resonance:
            scores = query @ key.mT / key.shape[-1] ** 0.5
            scores = scores if before is None else scores + self.resonance * before
            mixed = scores.softmax(-1) @ value
        else:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        h = h + g * self.leave(rearrange(mixed, "b heads t c -> b t (heads c)"))
        return h + g2 * self.perceptron((1 + a2) * self.norms[1](h) + c2), scores


class TransformerModule(nn.Module):
    """A transformer along time: a linear map, learned positions, `depth` blocks, LayerNorm, a linear map.

    Args:
        shape: shape `(T, d)` of a series.
        width: number of features.
        depth: number of blocks.
        heads: number of heads of attention.
        dropout: dropout probability.
        classes: number of classes, or None for a network without labels.
        resonance: see `TransformerBlock`.
    """

    def __init__(
        self, shape: tuple[int, int], width: int, depth: int, heads: int, dropout: float, classes: int | None, resonance: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding = Embedding(width, classes)
        self.enter = nn.Linear(shape[1], width)
        self.positions = nn.Parameter(0.02 * torch.randn(shape[0], width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, width, dropout, resonance) for _ in range(depth))
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
        scores = None
        for block in self.blocks:
            h, scores = block(h, e, scores)
        return self.leave(self.norm(h))


@dataclass(frozen=True)
class Transformer(Network):
    """Transformer along time, for series and paths.

        h₀ = W x + positions,   hₖ₊₁ = blockₖ(hₖ, e),   F = V LayerNorm(h_depth)

    maps x (B, T, d) and level (B,) to F (B, T, d). The Fourier embedding e of the level (and the label) scales, shifts and gates every
    block. V starts at zero. After Vaswani et al. 2017 and Peebles & Xie, arXiv 2212.09748.

    With `resonance` ρ, a block adds ρ times the attention scores s of the block before to its own, head by head. A pathway between steps
    that was relevant is reinforced by the factor exp(ρ s) as the pass goes on, without a parameter. That is our reading of *synaptic
    resonance*, pathways of memory that contextual relevance reinforces during the pass, from the abstract of its paper alone. At ρ = 1 it
    is RealFormer's residual attention (He et al., arXiv 2012.11747).
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
    resonance: Fraction = 0.0
    """Share ρ of the attention scores of the block before; 0: plain attention."""

    def refuses(self, shape: tuple[int, ...]) -> str | None:
        if self.width % self.heads:
            return f"needs a width that is a multiple of heads, but {self.width} is not one of {self.heads}"
        if len(shape) != 2:
            return f"needs series (steps, columns), but the data have shape {shape}"
        return None

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        steps, columns = shape
        return TransformerModule((steps, columns), self.width, self.depth, self.heads, self.dropout, classes, self.resonance)
