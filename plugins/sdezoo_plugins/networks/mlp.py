"""A residual multilayer perceptron for data that are vectors."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor, nn

from sdezoo.learning.network import Network
from sdezoo.parameters import Count
from sdezoo_plugins.networks.embedding import Embedding


class DenseBlock(nn.Module):
    """A residual block on vectors, whose scale a and shift c come from the embedding e.

        h + W₂ SiLU((1 + a(e)) LayerNorm(W₁ SiLU(LayerNorm(h))) + c(e)),   (B, width) -> (B, width)

    W₂ starts at zero, so a fresh block is the identity.

    Args:
        width: number of features of the input and the output.
        embedding: number of features of the embedding.
    """

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(embedding, 2 * width)
        self.leave = nn.Linear(width, width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        a, c = self.modulation(e).chunk(2, dim=1)
        return h + self.leave(nn.functional.silu((1 + a) * self.norm(self.enter(h)) + c))


class MLPModule(nn.Module):
    """A residual MLP: linear, `depth` blocks, LayerNorm, SiLU, linear.

    Called with x (B, d), level (B,) and optionally condition (B,), int64; returns (B, d), zero for a fresh network.

    Args:
        dimension: d, the length of the vectors.
        width: number of hidden features.
        depth: number of residual blocks.
        classes: number of classes, or None for a network without labels.
    """

    def __init__(self, dimension: int, width: int, depth: int, classes: int | None = None) -> None:
        super().__init__()
        self.embedding = Embedding(width, classes)
        self.enter = nn.Linear(dimension, width)
        self.blocks = nn.ModuleList(DenseBlock(width, width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dimension)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        e = self.embedding(level, condition)
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, e)
        return self.leave(nn.functional.silu(self.norm(h)))


WIDTH = 256
_WIDTHS = ((64, 300), (128, 3000))  # enough features below so many rows
_WIDEST = 1024


@dataclass(frozen=True)
class MLP(Network):
    """Residual multilayer perceptron, for vectors.

        h₀ = W x,   hₖ₊₁ = hₖ + block(hₖ, e),   F = V SiLU(LayerNorm(h_depth))

    maps x (B, d) and level (B,) to F (B, d); e is the Fourier embedding of the level (and the label), which scales and
    shifts every block. V starts at zero. After He et al. 2016 (residual learning) and Perez et al. 2018 (modulation).
    """

    preference: ClassVar[int] = 10

    width: Count | None = None
    """Number of hidden features; None: 64 below 300 training rows, 128 below 3000, else 256, and at least twice the columns, up to 1024."""
    depth: Count = 3
    """Number of residual blocks, of two linear layers each."""

    def refuses(self, shape: tuple[int, ...]) -> str | None:
        if len(shape) != 1:
            return f"needs vectors (features,), and the data have shape {shape}"
        return None

    def sized(self, shape: tuple[int, ...], rows: int) -> Self:
        if self.width is not None:
            return self
        enough = next((width for width, below in _WIDTHS if rows < below), WIDTH)
        # A vector has to pass through the hidden features: fewer of them than entries lose some of it.
        return replace(self, width=max(enough, min(2 * shape[0], _WIDEST)))

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        return MLPModule(shape[0], self.width or WIDTH, self.depth, classes)
