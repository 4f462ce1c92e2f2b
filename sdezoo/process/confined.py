"""Brownian motion confined to a set: `dX = g(t) dW + dL`, `L` the push at the boundary.

In units of the set's width `w` the noise is geometric, `v(t) = σ_min² (r^{2t} − 1)` with `r = σ_max/σ_min`, 0 at `t = 0`; `g = w √v'`. The
subclass defines the boundary rule: fold at the walls (Lou & Ermon, arXiv 2304.04740), or reject steps that leave the set (Fishman et al.,
arXiv 2307.05439).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sdezoo.parameters import Positive
from sdezoo.process.sde import ForwardSDE


@dataclass(frozen=True)
class ConfinedBrownian(ForwardSDE):
    """Brownian motion inside a set. Abstract: `width` and `prior`; also override `support` and `project`."""

    sigma_min: Positive = 0.01
    """Noise scale near `t = 0`, in units of the set's width."""
    sigma_max: Positive = 1.0
    """Terminal noise scale, in units of the set's width."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising(sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    @property
    @abstractmethod
    def width(self) -> float:
        """The width `w` of the set."""

    @property
    def reflecting_boundary(self) -> bool:
        return True

    def variance(self, t: Tensor) -> Tensor:
        """`v(t)`, in units of the width squared."""
        return self.sigma_min**2 * torch.expm1(2 * math.log(self.sigma_max / self.sigma_min) * t)

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        """`w √v'`."""
        r = self.sigma_max / self.sigma_min
        return (self.width * self.sigma_min * math.sqrt(2 * math.log(r)) * r**t).to(z)

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def scale(self, t: Tensor) -> Tensor:
        return self.width * self.variance(t).sqrt()
