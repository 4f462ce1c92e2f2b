"""SDE-DPM-Solver++(2M): the exponential two-step method on the reverse SDE of every affine process.

Lu et al., arXiv 2211.01095, section 5. With `λ = ln(α/σ)`, `h = λ_s − λ_t`, and the last two denoised states::

    z_s = m_s + (σ_s/σ_t) e^{−h} (z_t − m_t) + α_s (1 − e^{−2h}) E + σ_s √(1 − e^{−2h}) ε,      E = D + (D − D₋) h / (2 h₋)

With `E = D` this is ancestral sampling. `E` lags one step behind the noise, so paths are of order 1. Expectations are of order 2, also
for a nonlinear denoiser. One network evaluation per step; the last step is noise-free and returns `D`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler

Last = tuple[Tensor, Tensor]
"""The denoised state of the previous step, and its `h`."""


@dataclass(frozen=True)
class DPMpp2MSDE(Sampler[AffineSDE, Last]):
    """SDE-DPM-Solver++(2M) for every affine process: stochastic, two-step, one evaluation per step."""

    papers: ClassVar[tuple[str, ...]] = ("lu2022dpmpp",)

    preference: ClassVar[int] = 20
    preferred_for: ClassVar[tuple[str, ...]] = ("image", "series")  # at 20 evaluations fresh noise improves them and degrades tables
    weak_order: ClassVar[float | None] = 2.0
    strong_order: ClassVar[float | None] = 1.0

    def step(
        self, model: Model[AffineSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: Last | None
    ) -> tuple[Tensor, Last | None]:
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        denoised = model.denoise(z, t)
        if s == 0:
            return q.shift + q.alpha * denoised, None
        h = (p.ratio / q.ratio).log()
        estimate = denoised
        if memory is not None:
            before, last = memory
            estimate = denoised + (denoised - before) * (h / (2 * last))
        fresh = -torch.expm1(-2 * h)
        mean = q.shift + q.sigma / p.sigma * torch.exp(-h) * (z - p.shift) + q.alpha * fresh * estimate
        return mean + q.sigma * fresh.sqrt() * noise.normal(z), (denoised, h)
