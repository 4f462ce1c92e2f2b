"""Hybrid score matching, `E λ(t) ‖s_θ(z_t, t) − ∇ log p(z_t | x_0)‖²` for states that hold more than the data, `λ = scale(t)²`.

Dockhorn, Vahdat & Kreis, arXiv 2112.07068, section 3.2 and appendix B. A state with auxiliary variables, such as a velocity, could be
noised given both data and auxiliaries. At small `t` that distribution is narrow, and its score is a target of high variance.

Here the auxiliaries are sampled anew for each sample and integrated out. The distribution given the data alone is wider, its score
stays bounded, and the minimizer is the same. The process knows that distribution (`Conditional.score`), and the directions that its
noise drives. In the others the reverse SDE needs no score, and the network's output is not used. With the paper's `λ = ℓ_t^{−2}` the
loss is the mean squared error of the predicted noise. It is `dsm:weighting=uniform`, which compares with the same score.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.loss import Batch, ScoreLoss
from sdezoo.learning.model import ScoreModel
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Process
from sdezoo.process.sde import ForwardSDE, MatrixSDE
from sdezoo.zoo.registry import LOSSES


@dataclass(frozen=True)
class HSM(ScoreLoss[Conditional]):
    """Hybrid score matching, for processes with auxiliary variables, such as cld: the target integrates them out."""

    papers: ClassVar[tuple[str, ...]] = ("dockhorn2021critically",)

    same_as: ClassVar[str | None] = "dsm on cld"

    def refuses(self, sde: Process) -> str | None:
        state = sde.state_shape((1, 3))
        partial = isinstance(sde, ForwardSDE) and not isinstance(sde, MatrixSDE) and sde.noise_shape(state) != state
        return super().refuses(sde) or (None if partial else "needs an SDE whose noise drives auxiliary variables, such as a velocity")

    @cached_property
    def _dsm(self) -> ScoreLoss[Conditional]:
        return LOSSES.build("dsm:weighting=uniform")

    def weight(self, model: ScoreModel[Conditional], t: Tensor, like: Tensor) -> Tensor | None:
        return self._dsm.weight(model, t, like)

    def __call__(self, model: ScoreModel[Conditional], batch: Batch, t: Tensor, noise: Noise) -> Tensor:
        return self._dsm(model, batch, t, noise)
