"""Denoising score matching, `E λ(t) Σ_i m_i(z_t, t) (s_θ(z_t, t) − ∇ log p(z_t | x_0))_i²`.

Vincent 2011; Song et al., arXiv 2011.13456, eq. 7. The weightings `λ` are those of `sdezoo.learning.weighting`. `m` is the process's
`score_error_weighting`: 1, except for noise that vanishes at a boundary. It depends on `z_t` and `t` alone, so it does not change the
minimizer.

If the process learns a denoiser, the target is `z_0` instead of the conditional score: `E λ(t) Σ_i m_i(z_t, t) (D_θ(z_t, t) − z_0)_i²`,
with the process's `error_weighting` for `m`.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.loss import Batch, ScoreLoss, per_sample
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.weighting import WeightingName, default_weighting, weight, weighting_refuses
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Denoised, Process, Supervised


@dataclass(frozen=True)
class DSM(ScoreLoss[Supervised]):
    """Denoising score matching, for every process with a known conditional score, or one that learns a denoiser."""

    papers: ClassVar[tuple[str, ...]] = ("vincent2011connection", "song2020score")

    preference: ClassVar[int] = 20

    weighting: WeightingName | None = None
    """Weighting `λ(t)`; None: `edm` if the process is affine, else `uniform`."""

    def refuses(self, sde: Process) -> str | None:
        return super().refuses(sde) or weighting_refuses(self.weighting, sde)

    def weight(self, model: ScoreModel[Supervised], t: Tensor, like: Tensor) -> Tensor:
        by_time = weight(self.weighting or default_weighting(model.sde), model, t, like)
        if isinstance(model.sde, Denoised):
            return by_time * model.sde.error_weighting(like, t)
        return by_time * model.sde.score_error_weighting(like, t) if isinstance(model.sde, Conditional) else by_time

    def __call__(self, model: ScoreModel[Supervised], batch: Batch, t: Tensor, noise: Noise) -> Tensor:
        z = model.sde.perturb(batch.x0, t, noise)
        error = model.predict(z, t, batch.condition) - model.sde.target(z, batch.x0, t)
        return per_sample(self.weight(model, t, z) * error**2)
