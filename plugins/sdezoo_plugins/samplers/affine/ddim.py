"""DDIM: `z_s = α_s D + m_s + √(v_s − η² ṽ) ε̂ + η √ṽ ε`, `ε̂ = (z_t − α_t D − m_t)/σ_t`, `ṽ` the posterior variance of `z_s | z_t, z_0`.

Song et al., arXiv 2010.02502, eq. 12 and 16. `eta = 0` is the exponential Euler method on the probability flow, `eta = 1` is ancestral
sampling. Order 1, one network evaluation per step. In between, the paths are those of another SDE with the same marginals, so no strong
order is claimed.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.parameters import Fraction
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class DDIM(Sampler[AffineSDE]):
    """DDIM for every affine process: deterministic at eta=0, ancestral at eta=1."""

    papers: ClassVar[tuple[str, ...]] = ("song2020denoising",)

    eta: Fraction = 0.0
    """`η`, the fraction of the posterior's standard deviation that is fresh noise: 0 is deterministic, 1 is ancestral."""

    @property
    def strong_order(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 1.0 if self.eta == 1 else None

    def step(self, model: Model[AffineSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        sde = model.sde
        p, q = sde.at(t, z), sde.at(s, z)
        denoised = model.denoise(z, t)
        fresh = self.eta**2 * sde.posterior(z, denoised, t, s)[1]
        end = q.alpha * denoised + q.shift + (q.variance - fresh).sqrt() * (z - p.alpha * denoised - p.shift) / p.sigma
        return (end + fresh.sqrt() * noise.normal(z) if self.eta > 0 and s > 0 else end), None
