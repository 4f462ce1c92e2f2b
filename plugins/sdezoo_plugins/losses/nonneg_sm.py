"""Non-negative score matching, `E Σ_i [2 x_i s_i + x_i² ∂_i s_i + ½ x_i² s_i²]`: a score of positive data, without noise.

Hyvärinen, "Some extensions of score matching", 2007, eq. 27. In terms of `h = x ∘ s` and `z = log x` it is
`Σ_i [h_i + ∂h_i/∂z_i + ½ h_i²]`, since `x_i² ∂_i s_i = ∂h_i/∂z_i − h_i`. The divergence is estimated with random signs.

`levels=data` is Hyvärinen's loss. It learns the score of the data alone, at `t = lo`, and no sampler that starts from noise can use
it. The default applies the same identity to the noised data at every `t`, weighted by the variance of the noise, and the model can
sample.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from sdezoo.learning.loss import Batch, ScoreLoss, per_sample, score_along
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.weighting import weight
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import needs_multiplicative


@dataclass(frozen=True)
class NonnegSM(ScoreLoss[AffineSDE]):
    """Hyvärinen's non-negative score matching: needs no conditional score; levels=data is his own, on data without noise."""

    papers: ClassVar[tuple[str, ...]] = ("hyvarinen2007extensions",)

    levels: Literal["data", "all"] = "all"
    """`data`: the clean data alone; `all`: the noised data, at every time."""

    def refuses(self, sde: Process) -> str | None:
        return needs_multiplicative(sde)

    def t_span(self, sde: Process) -> tuple[float, float]:
        lo, hi = sde.t_span
        return (lo, lo) if self.levels == "data" else (lo, hi)

    def weight(self, model: ScoreModel[AffineSDE], t: Tensor, like: Tensor) -> Tensor:
        return like.new_tensor(0.5) if self.levels == "data" else weight("uniform", model, t, like) / 2

    def __call__(self, model: ScoreModel[AffineSDE], batch: Batch, t: Tensor, noise: Noise) -> Tensor:
        clean = self.levels == "data"
        z = model.sde.encode(batch.x0) if clean else model.sde.perturb(batch.x0, t, noise)
        sign = noise.normal(z).sign()
        s, slope = score_along(model, batch, z, t, sign)
        h = s - 1
        return per_sample(2 * self.weight(model, t, z) * (h + sign * slope + h**2 / 2))
