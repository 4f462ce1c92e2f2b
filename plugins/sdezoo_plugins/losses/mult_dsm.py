"""Multiplicative denoising score matching, `E λ(t) ‖X_t ∘ s_θ(X_t, t) − X_t ∘ ∇ log p(X_t | X_0)‖²`.

Shetty, Prasath & Seelamantula, arXiv 2510.02730, with the authors' `λ(t) = (σ² t)²` as `weighting=paper`. The
target is `−1 − [log(X_t/X_0) − (μ − σ²/2) t]/(σ² t)`. In coordinates `z = log x` the error of the Hyvärinen score is
that of the latent score, so that with the authors' weight and `μ = σ²/2` this *is* the mean squared error of the
denoiser of `log x`. The same `t` enters noise and target.
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

    preference: ClassVar[int] = 30

    weighting: WeightingName = "edm"
    """`paper` for the paper's `(σ² t)²`."""

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
