"""Ancestral sampling: sample `z_s ~ p(z_s | z_t, z_0 = D)` with the denoiser `D` in place of the data.

Ho et al., arXiv 2006.11239, algorithm 2, for any affine process. One network evaluation per step; the last step returns `D`. In
coordinates the noise is additive: weak and strong order 1. The step is that of `ddim:eta=1`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.registry import SAMPLERS


@dataclass(frozen=True)
class Ancestral(Sampler[AffineSDE]):
    """Ancestral (DDPM) sampling for every affine process: posterior steps at the denoised state."""

    papers: ClassVar[tuple[str, ...]] = ("ho2020denoising",)

    same_as: ClassVar[str | None] = "ddim:eta=1"
    strong_order: ClassVar[float | None] = 1.0

    @cached_property
    def _ddim(self) -> Sampler[AffineSDE]:
        return SAMPLERS.build("ddim:eta=1")

    def step(self, model: Model[AffineSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        return self._ddim.step(model, z, t, s, noise, memory)
