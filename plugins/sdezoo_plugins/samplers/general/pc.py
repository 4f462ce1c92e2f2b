"""Predictor–corrector: an Euler–Maruyama step of the reverse SDE, then Langevin steps at the new time.

Song et al., arXiv 2011.13456, algorithms 2 to 5. The corrector is `z ← z + e s + √(2e) ε`. The paper takes `e = 2 (snr ‖ε‖/‖s‖)²` with
norms averaged over the batch. A score has the size of noise over `scale(t)`, so in expectation that is `e = 2 (snr · scale(t))²`, which
is used here. It depends neither on the batch nor on the state, so Langevin dynamics keep the right stationary distribution.
Entries that share a Brownian motion share the corrector's noise as well: with `u = g/‖g‖`, the norm taken over these entries, the corrector
is `z ← z + u (e uᵀs + √(2e) ε)`. It keeps the right distribution if `u` does not depend on the state.
`1 + inner` evaluations per step, one in the last.

Langevin's own bias is `e/2` in the variance, for any number of steps; it vanishes as `scale(t)` does. With `N` equal steps the
corrector dominates the predictor down to `t ~ N^{−½}`, and its bias there is what remains: weak order ½.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.parameters import Count, Positive
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import needs_number_noise
from sdezoo.process.sde import ForwardSDE
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class PC(Sampler[ForwardSDE]):
    """Predictor–corrector: alternating Euler–Maruyama and Langevin steps; works for every SDE but those whose noise is a matrix."""

    papers: ClassVar[tuple[str, ...]] = ("song2020score",)

    weak_order: ClassVar[float | None] = 0.5

    snr: Positive = 0.16
    """Signal-to-noise ratio that sets the size of a corrector step."""
    inner: Count = 1
    """Number of corrector steps per time step."""

    def refuses(self, sde: Process) -> str | None:
        return super().refuses(sde) or needs_number_noise(sde)

    def evaluations(self, steps: int) -> int:
        return (1 + self.inner) * steps - self.inner

    def step(self, model: Model[ForwardSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        sde, dt = model.sde, t - s
        proposal = z - sde.reverse_drift(z, t, model.score(z, t)) * dt
        if s == 0:
            return sde.project(proposal, z), None
        z = sde.project(proposal + sde.diffuse(z, t, noise.normal(z, sde.noise_shape(z.shape))) * dt.sqrt(), z)
        size = 2 * (self.snr * sde.scale(s)) ** 2
        moves = sde.diffusion(z, s) != 0  # entries without noise have no score
        shape = sde.noise_shape(z.shape)
        for _ in range(self.inner):
            if shape == z.shape:
                z = sde.project(z + moves * (size * model.score(z, s) + (2 * size).sqrt() * noise.normal(z)), z)
            else:
                unit = _direction(sde, z, s)
                along = (unit * model.score(z, s)).sum_to_size(shape)
                z = sde.project(z + unit * (size * along + (2 * size).sqrt() * noise.normal(z, shape)), z)
        return z, None


def _direction(sde: ForwardSDE, z: Tensor, t: Tensor) -> Tensor:
    """`g/‖g‖`, the norm over the entries that share a Brownian motion; 0 where there is no noise."""
    g = sde.diffusion(z, t) * torch.ones_like(z)
    return (g / (g**2).sum_to_size(sde.noise_shape(z.shape)).sqrt()).nan_to_num(0.0)
