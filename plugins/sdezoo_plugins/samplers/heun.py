"""Heun's method on the probability flow `dz/dt = f − ½ ∇·(g gᵀ) − ½ g gᵀ s`: deterministic, order 2.

Karras et al., arXiv 2206.00364, algorithm 1. Two network evaluations a step but for the last, which ends at `t = 0`,
where no score may be asked for: `2N − 1` in all.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.noise import Noise
from sdezoo.process.sde import ForwardSDE
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class Heun(Sampler[ForwardSDE]):
    """Heun on the probability flow: deterministic, order 2, two evaluations a step; works for every SDE."""

    def step(self, model: Model[ForwardSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: Any) -> tuple[Tensor, Any]:
        sde, dt = model.sde, t - s

        def flow(u: Tensor, time: Tensor) -> Tensor:
            return sde.reverse_drift(u, time, model.score(u, time), half=0.5)

        slope = flow(z, t)
        end = sde.confine(z - dt * slope, z)
        if s > 0:
            end = sde.confine(z - dt * (slope + flow(end, s)) / 2, z)
        return end, None
