"""The reverse SDE of self-decomposable noise, for `z_t = α z_0 + σ e` such as stable `e` of index `κ`.

Yoon et al., *Score-based generative models with Lévy processes*, NeurIPS 2023. The forward process is `dz = f dt + dL`, `f = α'/α z`, and
its flow has the velocity `v = E[dz_t/dt | z_t]`. Noise spreads a density as the velocity `v − f` does, so that backward in time::

    dz = (2v − f) dt + dL̄

has the same marginals. The factor 2 is that of any such noise: the published code has `κ` in its place, which is right for normal noise
alone. With the noise level `ρ = σ/α` and the denoiser `D = E[z_0 | z_t]` held constant over a step from `t` to `s`, the equation is
linear, and its exact solution is::

    z_s = α_s D + (σ_s/σ_t) [(ρ_s/ρ_t) (z_t − α_t D) + Δ]

where `Δ` is an increment of the noise from `s` to `t` (`SelfDecomposable.increment`). For `κ = 2` this is DDPM's posterior step,
`ancestral`. The last step ends in `D`. Weak order 1, one network evaluation per step.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.interpolant import SelfDecomposable
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import needs_exact_increments
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class LevySDE(Sampler[SelfDecomposable]):
    """The reverse SDE driven by the noise of levy, log-laplace and their like: jumps backward in time, with exact marginals."""

    papers: ClassVar[tuple[str, ...]] = ("yoon2023score",)

    def refuses(self, sde: Process) -> str | None:
        return super().refuses(sde) or needs_exact_increments(sde)

    def step(self, model: Model[SelfDecomposable], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        denoised = model.denoise(z, t)
        if s == 0:
            return denoised, None
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        kept = self.kept(model.sde, q.sigma / q.alpha * p.alpha / p.sigma)
        jump = model.sde.increment(z, t, s, noise)
        return q.alpha * denoised + q.sigma / p.sigma * (kept * (z - p.alpha * denoised) + jump), None

    def kept(self, sde: SelfDecomposable, ratio: Tensor) -> Tensor:
        """The factor of the noise of `z_t` in a step: `(ρ_s/ρ_t)^{c − 1}` with `c = 2`.

        Args:
            sde: the process.
            ratio: `ρ_s/ρ_t`, 0-dim.
        """
        return ratio
