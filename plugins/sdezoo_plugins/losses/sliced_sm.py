"""Sliced score matching, `E λ(t) [vᵀ (∂s_θ) v + ½ ‖s_θ‖²]` over random signs `v`: needs no conditional score.

Song et al., arXiv 1905.07088, eq. 8 (the variance-reduced form), on the noised state at every `t`, with `λ = scale(t)²`. It equals
denoising score matching up to a constant, with more variance. It trains processes without a known transition.

If the noise is a matrix, errors count as they do in the reverse process, in the geometry of `D = G Gᵀ`::

    E t [vᵀ ∂(D s_θ) v + ½ s_θᵀ D s_θ]                     its minimizer is the score in the directions of the noise

This is the likelihood weighting of Song et al., arXiv 2101.09258, at times uniform in `log t`.

The loss rests on integration by parts. Where the density is positive at a wall, its minimizer is not the score, and the process is refused.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.loss import Batch, ScoreLoss, per_sample, score_along
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.weighting import weight
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.sde import MatrixSDE


@dataclass(frozen=True)
class SlicedSM(ScoreLoss[Process]):
    """Sliced score matching at every noise level: works for every process, known transition or not."""

    papers: ClassVar[tuple[str, ...]] = ("song2019sliced",)

    preference: ClassVar[int] = 10

    def refuses(self, sde: Process) -> str | None:
        walls = "needs a density that vanishes at walls, since it integrates by parts; take confined-sm"
        return super().refuses(sde) or (walls if sde.reflecting_boundary else None)

    def weight(self, model: ScoreModel[Process], t: Tensor, like: Tensor) -> Tensor | None:
        return None if isinstance(model.sde, MatrixSDE) else weight("uniform", model, t, like) / 2

    def __call__(self, model: ScoreModel[Process], batch: Batch, t: Tensor, noise: Noise) -> Tensor:
        z = model.sde.perturb(batch.x0, t, noise)
        sign = noise.normal(z).sign()
        sde = model.sde
        if isinstance(sde, MatrixSDE):
            s, slope = score_along(model, batch, z, t, sign, lambda u, score: sde.ggt(u, t, score))
            return per_sample(t.to(z) * (sign * slope + s * sde.ggt(z, t, s) / 2))
        s, slope = score_along(model, batch, z, t, sign)
        return per_sample(weight("uniform", model, t, z) * (sign * slope + s**2 / 2))
