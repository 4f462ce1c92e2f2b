"""Ancestral sampling: sample `z_s ~ p(z_s | z_t, z_0 = D)` with the denoiser `D` in place of the data.

Ho et al., arXiv 2006.11239, algorithm 2, for any affine process. One network evaluation per step; the last step returns `D`. In
coordinates the noise is additive: weak and strong order 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class Ancestral(Sampler[AffineSDE]):
    """Ancestral (DDPM) sampling for every affine process: posterior steps at the denoised state."""

    strong_order: ClassVar[float | None] = 1.0

    def step(self, model: Model[AffineSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        mean, variance = model.sde.posterior(z, model.denoise(z, t), t, s)
        return (mean + variance.sqrt() * noise.normal(z) if s > 0 else mean), None
