"""Confined score matching: the score of noised data in a bounded set, learned from the data and the boundary rule alone.

Implicit score matching (Hyvärinen 2005) integrates by parts. If the density does not vanish at the boundary, a boundary term remains::

    ½ E‖s_θ − ∇log p‖² = E[½‖s_θ‖² + ∇·s_θ] − ∮ p s_θ·n dS + const

Without that term the minimizer is not the score: the loss rewards a network that flows out through the boundary. The term vanishes for
a network whose normal component is 0 there, as the score's own is. It also vanishes under a weight that is 0 there (Yu, Drton &
Shojaie, Stat. Comput. 2022). Both need the distance to the boundary.

A membership test is enough. A symmetric boundary rule, such as Metropolis' or a fold, gives steps `x → y` of a kernel
`k(x, y) = k(y, x)` with variance `γ`. Swapping the ends of a step gives::

    E[(s(x) + s(y))·(y − x)]/γ = −½ ∬ (p(y) − p(x)) k(x, y) (s(x) + s(y))·(y − x)/γ dx dy  →  −∫ ∇p·s

as `γ → 0`, with or without a boundary, since no step ends outside. Take random signs `ε`, and the steps `y±` that propose `x ± √γ ε`.
The loss is::

    2 λ(t) [½‖s(x)‖² + ½ Σ_± (s(x) + s(y±))·(y± − x)/γ],          √γ = 0.1 · scale(t),   λ = scale(t)²

In the interior the sum is the difference quotient `ε·(s(x + √γε) − s(x − √γε))/2√γ` of sliced score matching (Song et al., arXiv
1905.07088, eq. 8). If one of the two steps is rejected, it is the boundary term. The bias is of order `γ`.

The loss takes three evaluations of the network and no derivative of it. All three must be of one deterministic function: dropout
breaks this, and in bfloat16 the difference is lost to rounding.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.loss import Batch, ScoreLoss, per_sample
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.weighting import weight
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import needs_number_noise
from sdezoo.process.sde import ForwardSDE

STEP = 0.1


@dataclass(frozen=True)
class ConfinedSM(ScoreLoss[ForwardSDE]):
    """Implicit score matching in a bounded set: for every SDE with a symmetric boundary rule, known transition or not."""

    papers: ClassVar[tuple[str, ...]] = ("hyvarinen2005estimation", "song2019sliced")

    def refuses(self, sde: Process) -> str | None:
        return super().refuses(sde) or needs_number_noise(sde)

    def weight(self, model: ScoreModel[ForwardSDE], t: Tensor, like: Tensor) -> Tensor:
        return weight("uniform", model, t, like) / 2

    def __call__(self, model: ScoreModel[ForwardSDE], batch: Batch, t: Tensor, noise: Noise) -> Tensor:
        sde = model.sde
        x = sde.perturb(batch.x0, t, noise)
        size = (STEP * sde.scale(t)).to(x)
        step = size * noise.normal(x).sign()
        here = model.score(x, t, batch.condition)
        value = here**2 / 2
        for proposal in (x + step, x - step):
            y = sde.project(proposal, x)
            value = value + (here + model.score(y, t, batch.condition)) * (y - x) / (2 * size**2)
        return per_sample(2 * self.weight(model, t, x) * value)
