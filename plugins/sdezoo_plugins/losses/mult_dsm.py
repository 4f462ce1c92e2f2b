"""Multiplicative denoising score matching, `E λ(t) ‖X_t ∘ s_θ(X_t, t) − X_t ∘ ∇ log p(X_t | X_0)‖²`.

Shetty, Prasath & Seelamantula, arXiv 2510.02730; the authors' `λ(t) = (σ² t)²` is `weighting=paper`. The target is
`−1 − [log(X_t/X_0) − (μ − σ²/2) t]/(σ² t)`.

In coordinates `z = log x` the error of the Hyvärinen score equals that of the latent score. With the authors' weighting and
`μ = σ²/2` the loss therefore *is* the mean squared error of the denoiser of `log x`. Noise and target use the same `t`.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.loss import Batch, ScoreLoss, per_sample
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.weighting import WeightingName, weight
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import needs_multiplicative


@dataclass(frozen=True)
class MultDSM(ScoreLoss[AffineSDE]):
    """Multiplicative denoising score matching: regress on the Hyvärinen score x∘∇log p."""

    papers: ClassVar[tuple[str, ...]] = ("shetty2025dale",)

    preference: ClassVar[int] = 30
    same_as: ClassVar[str | None] = "dsm"

    weighting: WeightingName = "edm"
    """Weighting `λ(t)`; `paper` is the paper's `(σ² t)²`."""

    def refuses(self, sde: Process) -> str | None:
        return needs_multiplicative(sde)

    def weight(self, model: ScoreModel[AffineSDE], t: Tensor, like: Tensor) -> Tensor:
        return weight(self.weighting, model, t, like)

    def __call__(self, model: ScoreModel[AffineSDE], batch: Batch, t: Tensor, noise: Noise) -> Tensor:
        sde = model.sde
        z = sde.perturb(batch.x0, t, noise)
        learned = model.score(z, t, batch.condition) - 1
        target = sde.score(z, batch.x0, t) - 1
        return per_sample(self.weight(model, t, z) * (learned - target) ** 2)
