"""Hybrid score matching, `E λ(t) ‖s_θ(z_t, t) − ∇ log p(z_t | x_0)‖²` where the state holds more than the data, `λ = scale(t)²`.

Dockhorn, Vahdat & Kreis, arXiv 2112.07068, section 3.2 and appendix B. A state with auxiliaries, such as a velocity, could be noised
from data and auxiliaries both. Their score would then be that of a law as narrow as the noise is young, and as noisy a target. The
auxiliaries are drawn anew for each sample, and the law given the data alone has them integrated out: wider, with a score that is
bounded where the other is not, and with the same minimizer. The process knows that law (`Conditional.score`), and in which directions
noise drives it: in the others the reversal asks for no score, and what a network says counts nothing. With the paper's `λ = ℓ_t^{−2}`,
the mean squared error of the noise that is predicted.
"""

from dataclasses import dataclass

from torch import Tensor

from sdezoo.learning.loss import Batch, ScoreLoss, per_sample
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.weighting import weight
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Process
from sdezoo.process.sde import ForwardSDE


@dataclass(frozen=True)
class HSM(ScoreLoss[Conditional]):
    """Hybrid score matching, for processes with auxiliary states, such as cld: they are integrated out of the target."""

    def refuses(self, sde: Process) -> str | None:
        state = sde.state_shape((1, 3))
        partial = isinstance(sde, ForwardSDE) and sde.noise_shape(state) != state
        return super().refuses(sde) or (None if partial else "needs an SDE whose noise drives auxiliary states, such as a velocity")

    def weight(self, model: ScoreModel[Conditional], t: Tensor, like: Tensor) -> Tensor:
        return weight("uniform", model, t, like)

    def __call__(self, model: ScoreModel[Conditional], batch: Batch, t: Tensor, noise: Noise) -> Tensor:
        z = model.sde.perturb(batch.x0, t, noise)
        error = model.score(z, t, batch.condition) - model.sde.score(z, batch.x0, t)
        return per_sample(self.weight(model, t, z) * error**2)
