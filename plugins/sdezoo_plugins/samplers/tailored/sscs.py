"""Symmetric splitting: the known part of the reverse SDE is solved exactly, and the part that depends on the data is applied in between.

Dockhorn, Vahdat & Kreis, arXiv 2112.07068, section 3.3 (SSCS). For a process with a stationary distribution `π` the reverse SDE is,
backward in time, the sum of two parts: `A`, the stationary process run backward, and `S`, `dz = g gᵀ (s − ∇ log π) dt`. A step of size
`h` is::

    z ← e^{A h/2}  e^{S h}  e^{A h/2} z                    (Strang 1968)

where `e^A` samples its exact transition, and the score is taken at the middle of the step. The paper solves `S` by Euler's method, of
order 1. Near the data a score falls as fast as `−z/scale²`, and a step of any explicit method overshoots. Here that part is exact,
`λ = g²/scale²`, and the remainder is solved by the midpoint rule (exponential Runge–Kutta: Hochbruck & Ostermann, Acta Numerica 19
(2010))::

    z' = z + φ(h/2) S(z),      z ← z + φ(h) (S(z') + λ (z' − z)),      φ(h) = (1 − e^{−λh})/λ

The method is of weak order 2, with two evaluations of the score per step. If the data are distributed as `π`, `S` vanishes and every
step is exact. The last step, from `lo` to the data, follows the reverse drift without noise.

Times are even in `√t`, as the paper's (quadratic striding): next to the data a position changes by the velocity times the step, and
the velocity itself settles on the scale of `t`.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import needs_number_noise
from sdezoo.process.sde import Stationary
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class SSCS(Sampler[Stationary]):
    """Symmetric splitting for processes with a known stationary reversal, such as cld: order 2, two evaluations per step."""

    papers: ClassVar[tuple[str, ...]] = ("dockhorn2021critically", "strang1968construction", "hochbruck2010exponential")

    weak_order: ClassVar[float | None] = 2.0

    def refuses(self, sde: Process) -> str | None:
        return super().refuses(sde) or needs_number_noise(sde)

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1

    def grid(self, model: Model[Any], steps: int) -> Tensor:
        """The time grid; with `spacing=auto`, equal steps in `√t`."""
        if self.spacing != "auto":
            return super().grid(model, steps)
        lo, hi = model.sde.t_span
        times = torch.linspace(math.sqrt(hi), math.sqrt(lo), steps, dtype=torch.float64) ** 2
        times[-1] = lo
        times[0] = hi
        return torch.cat([times, times.new_zeros(1)])

    def step(self, model: Model[Stationary], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        sde, dt, middle = model.sde, t - s, (t + s) / 2
        if s == 0:
            return sde.project(z - sde.reverse_drift(z, t, model.score(z, t)) * dt, z), None

        def push(u: Tensor) -> Tensor:
            return sde.ggt(u, middle, model.score(u, middle) - sde.stationary_score(u, middle))

        z = sde.reverse_transition(z, t, middle, noise)
        rate = (sde.diffusion(z, middle) / sde.scale(middle)) ** 2
        half = sde.project(z + _gain(rate, dt / 2) * push(z), z)  # the score is undefined outside the support
        z = sde.project(z + _gain(rate, dt) * (push(half) + rate * (half - z)), z)
        return sde.reverse_transition(z, middle, s, noise), None


def _gain(rate: Tensor, h: Tensor) -> Tensor:
    """`(1 − e^{−λh})/λ`; `h` if there is no noise."""
    return torch.where(rate > 0, -torch.expm1(-rate * h) / rate, h)
