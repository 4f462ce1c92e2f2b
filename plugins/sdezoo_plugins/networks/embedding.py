"""The embedding of noise conditioning and label that the built-in networks share."""

import math

import torch
from einops import rearrange
from torch import Tensor, nn


class Embedding(nn.Module):
    """Embedding of the noise conditioning and, if the network has classes, of the label.

        e = SiLU(W₂ SiLU(W₁ [cos ωt, sin ωt] + b₁ + T[y]) + b₂),   (B,), (B,) -> (B, width)

    The 16 frequencies ω are fixed and geometrically spaced from 1/4 to 16: levels t = ¼ ln(σ/α) lie in about [-2, 1.5]. The table T has
    classes + 1 rows. The last row, y = classes, means "no label", as does a missing y.

    A level that one number is expanded to, as in sampling, is embedded once if there are no labels.

    Args:
        width: number of features of the embedding.
        classes: number of classes, or None for a network without labels.
    """

    def __init__(self, width: int, classes: int | None = None) -> None:
        super().__init__()
        self.classes = classes
        frequencies = torch.logspace(math.log2(0.25), math.log2(16.0), 16, base=2.0)
        self.frequencies = nn.Buffer(frequencies, persistent=False)
        self.first = nn.Linear(2 * len(frequencies), width)
        self.second = nn.Linear(width, width)
        self.table = None if classes is None else nn.Embedding(classes + 1, width)

    def forward(self, level: Tensor, condition: Tensor | None = None) -> Tensor:
        """The embedding e.

        Args:
            level: noise conditioning t, `(B,)`.
            condition: labels y, `(B,)` int64, or None for "no label".

        Returns:
            `(B, width)`, or `(1, width)` if it is the same for all rows.

        Raises:
            ValueError: if labels are given to a network without classes.
        """
        if condition is None and level.stride(0) == 0:
            level = level[:1]
        angles = rearrange(level, "b -> b 1") * self.frequencies
        hidden = self.first(torch.cat([angles.cos(), angles.sin()], dim=1))
        if self.table is not None and self.classes is not None:
            if condition is None:
                condition = torch.full(level.shape, self.classes, dtype=torch.int64, device=level.device)
            hidden = hidden + self.table(condition)
        elif condition is not None:
            raise ValueError("The network has no classes, but labels were given.")
        silu = nn.functional.silu
        return silu(self.second(silu(hidden)))
