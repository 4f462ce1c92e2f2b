"""Steps of a process that knows its earlier states given its denoiser: `z_s ~ p(z_s | z_t, z_0 = D(z_t, t))`.

The form of DDPM's step (Ho et al., arXiv 2006.11239, eq. 6 and 7), for noise of any kind: the process draws the earlier state, such as the
births of `thinning` (Chen & Zhou, arXiv 2305.18375, section 3.2). One network evaluation per step. No weak order is declared: the error
depends on how the process uses the denoiser.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.noise import Noise
from sdezoo.process.rewindable import Rewindable
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class Posterior(Sampler[Rewindable]):
    """Earlier states given the denoiser, for a process that has no score, such as thinning; stochastic, one evaluation per step."""

    papers: ClassVar[tuple[str, ...]] = ("ho2020denoising", "chen2023learning")

    weak_order: ClassVar[float | None] = None

    def step(self, model: Model[Rewindable], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        return model.sde.earlier(z, model.denoise(z, t), t, s, noise), None
