"""The flow of an interpolant `z_t = α z_0 + σ e`: deterministic sampling for noise of any distribution.

In `y = z/α` against the noise level `ρ = σ/α` the flow `dz/dt = α' D + σ' (z − α D)/σ` is `dy/dρ = (y − D)/ρ` (Karras et al., arXiv
2206.00364, eq. 4, which assumes nothing about the distribution of `e`). Between `t` and `s` it is solved exactly for a `D` that is
linear in `ln ρ`: the line through the last two (Lu et al., arXiv 2211.01095, algorithm 2). With `h = ln(ρ_t/ρ_s)`::

    z_s = (σ_s/σ_t) z_t + (α_s − α_t σ_s/σ_t) E,      E = D + (D − D₋) h / (2 h₋)

Order 2, one network evaluation per step. The first step is of first order. So is the last, where `h` is infinite.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.interpolant import Interpolant
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler

Last = tuple[Tensor, Tensor]
"""The denoised state of the previous step, and its `h`."""


@dataclass(frozen=True)
class Flow(Sampler[Interpolant, Last]):
    """The flow of data mixed with noise of any distribution, such as student-t: deterministic, order 2, one evaluation per step."""

    papers: ClassVar[tuple[str, ...]] = ("karras2022elucidating", "lu2022dpmpp")

    weak_order: ClassVar[float | None] = 2.0

    def step(
        self, model: Model[Interpolant], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: Last | None
    ) -> tuple[Tensor, Last | None]:
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        shrink = q.sigma / p.sigma
        h = (p.sigma * q.alpha / (p.alpha * q.sigma)).log()
        estimate = denoised = model.denoise(z, t)
        if memory is not None and s > 0:
            before, last = memory
            estimate = denoised + (denoised - before) * (h / (2 * last))
        return shrink * z + (q.alpha - p.alpha * shrink) * estimate, (denoised, h)
