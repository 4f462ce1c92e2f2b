"""Euler–Maruyama on the reverse SDE: `z ← z − δ [f − ∇·(g gᵀ) − g gᵀ s] + √δ g ε`, then the boundary rule; no noise in the last step.

Weak order 1, strong order ½ (1 for additive noise). One network evaluation per step.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.noise import Noise
from sdezoo.process.sde import ForwardSDE
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class EulerMaruyama(Sampler[ForwardSDE]):
    """Euler–Maruyama on the reverse SDE: works for every SDE."""

    preference: ClassVar[int] = 10
    preferred_for: ClassVar[tuple[str, ...]] = ("image", "table", "points", "series")
    strong_order: ClassVar[float | None] = 0.5

    def step(self, model: Model[ForwardSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        sde, dt = model.sde, t - s
        proposal = z - sde.reverse_drift(z, t, model.score(z, t)) * dt
        if s > 0:
            proposal = proposal + sde.diffuse(z, t, noise.normal(z, sde.noise_shape(z.shape))) * dt.sqrt()
        return sde.project(proposal, z), None
