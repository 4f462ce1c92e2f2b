"""Denoising Lévy probabilistic models: DDPM's posterior step, given the random variances of the noise.

Shariatian, Simsekli & Durmus, arXiv 2407.18609. Stable noise is normal given its variance `V_t`. Given the variances at all times the
process is Gaussian, and with `γ = α_t/α_s` its reverse step is::

    z_s = α_s z_0 + γ (V_s/V_t) (z_t − α_t z_0) + √(V_s Γ) ε,      Γ = 1 − γ² V_s/V_t

with `D = E[z_0 | z_t]` in the place of `z_0`. The paper draws all variances before the first step. Here each is drawn from its
distribution given the next, `V_s | V_t`, and the first from that given the noise of the first state, so that sampling may start from any
state.

Given the data, the step is exact. `D` is a mean over the data given `z_t` alone, while the weight of the data in the step depends on the
variances. For several values of `z_0` the marginals are therefore kept approximately only, as the step vanishes too, except for normal
noise: how likely a jump is, is not linear in the data, and samples are drawn to the mean. With an exact score of three points at −1, 0.3
and 1, the one in the middle gets the share 0.38 at `α = 0.9` and 0.23 at `α = 1.8`, for 0.20, in 400 steps. More steps do not help, nor do
variances that are drawn anew in every step. `levy-sde` and `flow` are right there; take them for `α` below 1.5. No weak order is declared.
The last step ends in `D`. One network evaluation per step.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.interpolant import ScaleMixture
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import needs_exact_increments
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class DLPM(Sampler[ScaleMixture, Tensor]):
    """Denoising Lévy probabilistic models: DDPM's posterior step given the random variances of stable noise, such as that of levy."""

    papers: ClassVar[tuple[str, ...]] = ("shariatian2024denoising",)

    weak_order: ClassVar[float | None] = None

    def refuses(self, sde: Process) -> str | None:
        return super().refuses(sde) or needs_exact_increments(sde)

    def step(
        self, model: Model[ScaleMixture], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        denoised = model.denoise(z, t)
        if s == 0:
            return denoised, None
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        away = z - p.alpha * denoised
        variance = model.sde.variance_given(away, t, noise) if memory is None else memory
        earlier = model.sde.earlier_variance(variance, t, s, noise)
        kept = p.alpha / q.alpha * earlier / variance
        fresh = (earlier * (1 - p.alpha / q.alpha * kept)).clamp(min=0).sqrt()
        return q.alpha * denoised + kept.to(z) * away + fresh.to(z) * noise.normal(z), earlier
