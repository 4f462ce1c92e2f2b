"""A residual multilayer perceptron for vectors."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor, nn

from sdezoo.learning.network import Network
from sdezoo.parameters import Count
from sdezoo_plugins.networks.dense import Dense
from sdezoo_plugins.networks.embedding import Embedding


class DenseBlock(nn.Module):
    """A residual block on vectors; the embedding e sets its scale a and shift c.

        h + W₂ SiLU((1 + a(e)) LayerNorm(W₁ SiLU(LayerNorm(h))) + c(e)),   (B, width) -> (B, width)

    W₂ starts at zero, so a fresh block is the identity.

    Args:
        width: number of features of the input and the output.
        embedding: number of features of the embedding.
        scale: factor of what the block adds.
    """

    def __init__(self, width: int, embedding: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.enter = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), Dense(width, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = Dense(embedding, 2 * width)
        self.leave = Dense(width, width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        a, c = self.modulation(e).chunk(2, dim=1)
        added = self.leave(nn.functional.silu(self._modulated(self.enter(h), a, c)))
        return h + (added if self.scale == 1 else self.scale * added)

    def _modulated(self, h: Tensor, a: Tensor, c: Tensor) -> Tensor:
        if a.shape[0] == 1:  # one level for all rows, as in sampling: a layer norm has such factors of its own
            return nn.functional.layer_norm(h, h.shape[1:], 1 + a[0], c[0], self.norm.eps)
        return (1 + a) * self.norm(h) + c


class MLPModule(nn.Module):
    """A residual MLP: linear, `depth` blocks, LayerNorm, SiLU, linear.

    Args:
        dimension: length d of the vectors.
        width: number of hidden features.
        depth: number of residual blocks.
        classes: number of classes, or None for a network without labels.
        scale: factor of what each block adds.
    """

    def __init__(self, dimension: int, width: int, depth: int, classes: int | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.embedding = Embedding(width, classes)
        self.enter = Dense(dimension, width)
        self.blocks = nn.ModuleList(DenseBlock(width, width, scale) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = Dense(width, dimension)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        """The network output.

        Args:
            x: network input, `(B, d)`.
            level: noise conditioning, `(B,)`.
            condition: labels, `(B,)` int64, or None for "no label".

        Returns:
            `(B, d)`, zero for a fresh network.
        """
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

    maps x (B, d) and level (B,) to F (B, d). The Fourier embedding e of the level (and the label) scales and shifts every block. V starts
    at zero. After He et al. 2016 (residual learning) and Perez et al. 2018 (modulation).

    With `depth_aware`, what each of L blocks adds is scaled by 1/√L, and so is the learning rate of their second weights W₂: what all
    blocks learn in a step then adds up to the same at every depth. The first weights W₁ keep their learning rate. Depth-μP (Yang et al.,
    arXiv 2310.02244) scales both rates, and features inside a block then change the less, the deeper the network (Yao, Wu & Gao, arXiv
    2512.21075, whose correction this is, as it follows for Adam). W₂ starts at zero, and Adam's steps do not depend on the size of
    gradients, so that the two factors of W₂ are one: 1/L.
    """

    preference: ClassVar[int] = 10

    width: Count | None = None
    """Number of hidden features; None: 64 below 300 training rows, 128 below 3000, else 256, and at least twice the columns, up to 1024."""
    depth: Count = 3
    """Number of residual blocks, each with two linear layers."""
    depth_aware: bool = False
    """Whether blocks and their learning rates are scaled with depth; for optimizers whose steps do not depend on the size of gradients."""

    def refuses(self, shape: tuple[int, ...]) -> str | None:
        if len(shape) != 1:
            return f"needs vectors (features,), but the data have shape {shape}"
        return None

    def sized(self, shape: tuple[int, ...], rows: int) -> Self:
        if self.width is not None:
            return self
        enough = next((width for width, below in _WIDTHS if rows < below), WIDTH)
        # A vector has to pass through the hidden features: fewer of them than entries lose some of it.
        return replace(self, width=max(enough, min(2 * shape[0], _WIDEST)))

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        return MLPModule(shape[0], self.width or WIDTH, self.depth, classes, 1 / self.depth if self.depth_aware else 1.0)
