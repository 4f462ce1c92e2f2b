"""DPM-Solver++(2M): the exponential two-step method on the probability flow of every affine process.

Lu et al., arXiv 2211.01095, algorithm 2. With `λ = ln(α/σ)`, `h = λ_s − λ_t` and the last two denoised states::

    z_s = m_s + (σ_s/σ_t)(z_t − m_t) + (α_s − α_t σ_s/σ_t) E,      E = D + (D − D₋) h / (2 h₋)

Order 2; one network evaluation per step. The first step is of first order. So is the last, where `h` is infinite.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler

Last = tuple[Tensor, Tensor]
"""The denoised state of the previous step, and its `h`."""


@dataclass(frozen=True)
class DPMpp2M(Sampler[AffineSDE, Last]):
    """DPM-Solver++(2M) for every affine process: deterministic, order 2, one evaluation per step."""

    papers: ClassVar[tuple[str, ...]] = ("lu2022dpmpp",)

    preference: ClassVar[int] = 20
    preferred_for: ClassVar[tuple[str, ...]] = ("table", "points")
    weak_order: ClassVar[float | None] = 2.0

    def step(
        self, model: Model[AffineSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: Last | None
    ) -> tuple[Tensor, Last | None]:
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        shrink = q.sigma / p.sigma
        h = (p.ratio / q.ratio).log()
        estimate = denoised = model.denoise(z, t)
        if memory is not None and s > 0:
            before, last = memory
            estimate = denoised + (denoised - before) * (h / (2 * last))
        return q.shift + shrink * (z - p.shift) + (q.alpha - p.alpha * shrink) * estimate, (denoised, h)
