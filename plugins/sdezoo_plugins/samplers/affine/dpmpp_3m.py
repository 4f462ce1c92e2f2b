"""DPM-Solver++(3M): the exponential three-step Adams–Bashforth method on the probability flow of every affine process.

Lu et al., arXiv 2211.01095, section 4 with `k = 3`. In the exact solution, in `λ = ln(α/σ)`, the denoiser is replaced by the polynomial
through its last three values; see `sdezoo_plugins.samplers.affine.exponential_adams`. With two values the weights are those of
DPM-Solver++(2M) up to the third order in the step. With one value they are those of DDIM.

One network evaluation per step. The local error is of order 4, except in the first step: it has a single value, and its error is of
order 2. That error remains unless the prior keeps so little of the data that the denoiser is constant there (`vp`). The last step, to
`s = 0`, returns the denoised state.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler
from sdezoo_plugins.samplers.affine.exponential_adams import log_snr, with_data

Known = list[tuple[Tensor, Tensor]]
"""Values of `λ` and the denoised states there, newest first."""


@dataclass(frozen=True)
class DPMpp3M(Sampler[AffineSDE, Known]):
    """DPM-Solver++(3M) for every affine process: deterministic, three-step, one evaluation per step."""

    papers: ClassVar[tuple[str, ...]] = ("lu2022dpmpp",)

    weak_order: ClassVar[float | None] = 2.0

    def step(
        self, model: Model[AffineSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: Known | None
    ) -> tuple[Tensor, Known | None]:
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        denoised = model.denoise(z, t)
        if s == 0:
            return q.shift + q.alpha * denoised, None
        known = [(log_snr(p), denoised), *(memory or [])][:3]
        return with_data(p, q, z, known), known
