"""Predictor–corrector: an Euler–Maruyama step of the reverse SDE, then Langevin steps at the new time.

Song et al., arXiv 2011.13456, algorithms 2 to 5. The corrector is `z ← z + e s + √(2e) ε`. The paper takes
`e = 2 (snr ‖ε‖/‖s‖)²` with norms averaged over the batch; since a score is noise over `scale(t)` in size, that is
`e = 2 (snr · scale(t))²` in expectation, which is used here: it depends neither on the batch nor on the state, so
that Langevin's law stays the right one. `1 + inner` evaluations a step, one in the last.

Langevin's own bias is `e/2` in the variance, whatever the number of steps; it fades as `scale(t)` does. In `N` equal steps
the corrector wins over the predictor down to `t ~ N^{−½}`, and its bias there is what remains: weak order ½.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.parameters import Count, Positive
from sdezoo.process.noise import Noise
from sdezoo.process.sde import ForwardSDE
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class PC(Sampler[ForwardSDE]):
    """Predictor–corrector: Euler–Maruyama and Langevin steps in turn; works for every SDE."""

    weak_order: ClassVar[float | None] = 0.5

    snr: Positive = 0.16
    """Size of a corrector step, as signal-to-noise ratio."""
    inner: Count = 1
    """Corrector steps a time."""

    def evaluations(self, steps: int) -> int:
        return (1 + self.inner) * steps - self.inner

    def step(self, model: Model[ForwardSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        sde, dt = model.sde, t - s
        proposal = z - sde.reverse_drift(z, t, model.score(z, t)) * dt
        if s == 0:
            return sde.project(proposal, z), None
        z = sde.project(proposal + sde.diffusion(z, t) * noise.normal(z, sde.noise_shape(z.shape)) * dt.sqrt(), z)
        size = 2 * (self.snr * sde.scale(s)) ** 2
        moves = sde.diffusion(z, s) != 0  # entries without noise have no score of their own
        for _ in range(self.inner):
            z = sde.project(z + moves * (size * model.score(z, s) + (2 * size).sqrt() * noise.normal(z)), z)
        return z, None
