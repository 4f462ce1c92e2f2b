"""The sampler of bridges: from one knot to the next below it, by exact pieces of a Brownian bridge toward the expected state.

If the state at the knot `a` were `D`, the step from `t` to `s` would be exact with `q = (s − a)/(t − a)`::

    z_s = q z_t + (1 − q) D + ς √(q (t − s)) ε

`D(z, t) = E[z_a | z_t = z]` moves with the path. Order 2 takes `D` to go from `D(z_t, t)` to `D(z', s)` in proportion to time, in the
integral `(s − a) ∫ D_r/(r − a)² dr` that the exact solution holds, with the noise of the step in `z'` too::

    z' = q z_t + (1 − q) D + r ς √(q (t − s)) ε,      r = (1/√q − 1)/w
    z_s += w (D(z', s) − D(z_t, t)),                   w = 1 + q ln(q)/(1 − q)

The factor `r = 1 + O(t − s)` keeps the order, and makes the variance of the step exact where `D` moves as much as the path, as it does near
the knot below, where the steps are long against `t − a`. The last step of a span ends at `D` itself. Times in a span are quadratic, dense
above the knot below, and `steps` are those of one span. The sampler of Shi et al., arXiv 2303.16852, is Euler–Maruyama, of order 1.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.bridge import FIRST, Bridge
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class BridgeSampler(Sampler[Bridge]):
    """Bridges, from one end to the other or along snapshots; `steps` are those of one span."""

    papers: ClassVar[tuple[str, ...]] = ("shi2023dsbm",)

    preference: ClassVar[int] = 10
    order: Annotated[int, Interval(ge=1, le=2)] = 2
    """Order of accuracy; 2 takes two network evaluations per step, but one in the last of a span."""

    @property
    def weak_order(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return float(self.order)

    def grid(self, model: Model[Any], steps: int) -> Tensor:
        knots = model.sde.knots
        if steps == 1 and len(knots) == 2:
            return torch.tensor([1.0, 0.0], dtype=torch.float64)
        shares = torch.linspace(1, FIRST**0.5, max(steps, 2), dtype=torch.float64) ** 2
        shares[-1] = FIRST  # the root's square may be rounded below it
        parts = [a + (b - a) * shares for a, b in pairwise(knots)]
        return torch.cat([*reversed(parts), torch.zeros(1, dtype=torch.float64)])

    def evaluations(self, steps: int) -> int:
        return steps if self.order == 1 else 2 * steps - 1

    def step(self, model: Model[Bridge], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        a, _ = model.sde.span(t)
        expected = model.denoise(z, t)  # pyright: ignore[reportAttributeAccessIssue]
        q = (s - a) / (t - a)
        if q <= 0:
            return expected, None
        mean, spread = q * z + (1 - q) * expected, model.sde.rate * (q * (t - s)).sqrt() * noise.normal(z)
        if self.order == 1:
            return mean + spread, None
        w = 1 + q * q.log() / (1 - q)
        moved = model.denoise(mean + (q**-0.5 - 1) / w * spread, s)  # pyright: ignore[reportAttributeAccessIssue]
        return mean + spread + w * (moved - expected), None
