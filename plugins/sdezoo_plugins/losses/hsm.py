"""Hybrid score matching, `E λ(t) ‖s_θ(z_t, t) − ∇ log p(z_t | x_0)‖²` for states that hold more than the data, `λ = scale(t)²`.

Dockhorn, Vahdat & Kreis, arXiv 2112.07068, section 3.2 and appendix B. A state with auxiliary variables, such as a velocity, could be
noised given both data and auxiliaries. At small `t` that distribution is narrow, and its score is a target of high variance.

Here the auxiliaries are sampled anew for each sample and integrated out. The distribution given the data alone is wider, its score
stays bounded, and the minimizer is the same. The process knows that distribution (`Conditional.score`), and the directions that its
noise drives. In the others the reverse SDE needs no score, and the network's output is not used. With the paper's `λ = ℓ_t^{−2}` the
loss is the mean squared error of the predicted noise.
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
    """Hybrid score matching, for processes with auxiliary variables, such as cld: the target integrates them out."""

    def refuses(self, sde: Process) -> str | None:
        state = sde.state_shape((1, 3))
        partial = isinstance(sde, ForwardSDE) and sde.noise_shape(state) != state
        return super().refuses(sde) or (None if partial else "needs an SDE whose noise drives auxiliary variables, such as a velocity")

    def weight(self, model: ScoreModel[Conditional], t: Tensor, like: Tensor) -> Tensor:
        return weight("uniform", model, t, like)

    def __call__(self, model: ScoreModel[Conditional], batch: Batch, t: Tensor, noise: Noise) -> Tensor:
        z = model.sde.perturb(batch.x0, t, noise)
        error = model.score(z, t, batch.condition) - model.sde.score(z, batch.x0, t)
        return per_sample(self.weight(model, t, z) * error**2)
