"""Divergence of a step back in time by the denoiser from the step by the clean state, `E Σ_i KL_i(D_θ(z_t, t), z_0)`.

DDPM's `L_{t−1}` (Ho et al., arXiv 2006.11239, eq. 5), for noise of any kind: the process states the divergence, such as that of births of
`thinning` (Chen & Zhou, arXiv 2305.18375), or of the Beta distributions of `beta`, whose order is that of Zhou et al. (arXiv 2309.07867).
It is a Bregman divergence, so the minimizer is `E[z_0 | z_t]`, as for `dsm`, but errors weigh as much as they change what is sampled.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt, Lt
from torch import Tensor

from sdezoo.learning.loss import Batch, ScoreLoss, per_sample
from sdezoo.learning.model import ScoreModel
from sdezoo.process.noise import Noise
from sdezoo.process.rewindable import Rewindable


@dataclass(frozen=True)
class StepKL(ScoreLoss[Rewindable]):
    """Kullback–Leibler divergence of steps back in time, for processes without a score that know their earlier states."""

    papers: ClassVar[tuple[str, ...]] = ("ho2020denoising", "chen2023learning", "zhou2023beta")

    step: Annotated[float, Gt(0), Lt(1)] = 0.05
    """Length of the step, as a share of the time: it goes from `t` to `(1 − step) t`."""

    def __call__(self, model: ScoreModel[Rewindable], batch: Batch, t: Tensor, noise: Noise) -> Tensor:
        z = model.sde.perturb(batch.x0, t, noise)
        denoised = model.predict(z, t, batch.condition)
        return per_sample(model.sde.step_divergence(z, denoised, batch.x0, t, (1 - self.step) * t))
