"""The Brownian bridge between two distributions: `dz = σ dW`, pinned at both ends by data.

Shi, De Bortoli, Campbell & Doucet, arXiv 2303.16852 (diffusion Schrödinger bridge matching), with the drift learned through the state
expected at the end of a span, see `sdezoo.process.bridge`. Several snapshots share one network; a span of length `Δt` has noise `σ √Δt`.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from sdezoo_plugins.sdes.shared.pinned import Pinned


@dataclass(frozen=True)
class BrownianBridge(Pinned):
    """Brownian bridge from one data set to another (--target), or through snapshots with times (--snapshots)."""

    papers: ClassVar[tuple[str, ...]] = ("shi2023dsbm",)

    @property
    def support(self) -> Constraint:
        return constraints.real
