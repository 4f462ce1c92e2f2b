"""What processes of exploding variance share: their coefficients, and coordinates in which each value has a mark."""

import math

import torch
from torch import Size, Tensor
from torch.distributions import Transform, constraints

from sdezoo.process.affine import Coefficients

TERMINAL = 4.0
"""Terminal noise in units of the data's leading principal standard deviation."""


def exploding(t: Tensor, low: float, growth: float) -> Coefficients:
    """`α = 1`, `m = 0`, `v = σ_low² (r^{2t} − 1)`.

    Args:
        t: time, float64, of any shape.
        low: `σ_low`, the noise scale near `t = 0`.
        growth: `r`, above 1.
    """
    return Coefficients(torch.ones_like(t), torch.zeros_like(t), low**2 * torch.expm1(2 * math.log(growth) * t))


class WithMarks(Transform):
    """A map from values and marks, concatenated along the first dimension of an event, to data. Abstract: `_call`, `_inverse`."""

    shared: int = 0
    """By how many the marks are fewer than the values."""

    domain = constraints.independent(constraints.real, 1)
    bijective = False

    def forward_shape(self, shape: Size) -> Size:
        return Size((shape[0], (shape[1] + self.shared) // 2, *shape[2:]))

    def inverse_shape(self, shape: Size) -> Size:
        return Size((shape[0], 2 * shape[1] - self.shared, *shape[2:]))
