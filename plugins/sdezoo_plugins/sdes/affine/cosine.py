"""The cosine schedule, a variance-preserving diffusion: `dX = −½ β(t) X dt + √β(t) dW`.

Nichol & Dhariwal, arXiv 2102.09672, eq. 17: `ᾱ(t) = f(t)/f(0)`, `f(t) = cos²(½π (T t + s)/(1 + s))`; `α = √ᾱ`, `m = 0`, `v = 1 − ᾱ`, hence
`β = −(ln ᾱ)' = π T/(1 + s) · tan(½π (T t + s)/(1 + s))`.

At `T = 1` the signal is 0 at the end and `β` infinite. The paper clips `β` in discrete time; here the schedule ends at `T` a little
before 1. With `h = ½π T/(1 + s)` and `h_0 = ½π s/(1 + s)`, `v` is computed as `sin(h t) sin(h t + 2h_0)/cos² h_0`, which loses no digits
near `t = 0`.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE, Coefficients


@dataclass(frozen=True)
class Cosine(AffineSDE):
    """Variance-preserving diffusion with the cosine schedule: noise grows evenly, more slowly at both ends than with vp."""

    papers: ClassVar[tuple[str, ...]] = ("nichol2021improved",)

    s: Positive = 0.008
    """Offset `s`; it keeps `β(0)` above 0."""
    end: Annotated[float, Interval(gt=0, lt=1)] = 0.995
    """Fraction `T` of the schedule that is used."""

    def coefficients(self, t: Tensor) -> Coefficients:
        start, angle = self._start, self._speed * t
        alpha = torch.cos(angle + start) / math.cos(start)
        return Coefficients(alpha, torch.zeros_like(t), torch.sin(angle) * torch.sin(angle + 2 * start) / math.cos(start) ** 2)

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        beta = 2 * self._speed * torch.tan(self._speed * t + self._start)
        return -beta * x / 2, beta.sqrt()

    @property
    def _start(self) -> float:
        return math.pi / 2 * self.s / (1 + self.s)

    @property
    def _speed(self) -> float:
        return math.pi / 2 * self.end / (1 + self.s)
