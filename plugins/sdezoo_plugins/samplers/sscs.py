"""Symmetric splitting: what is known of the reversal is solved exactly, and what the data add to it is a push in the middle.

Dockhorn, Vahdat & Kreis, arXiv 2112.07068, section 3.3 (SSCS). For a process with a stationary law `π` the reverse SDE is, backward in
time, the process at rest in `π` run backward, `A`, and `dz = g gᵀ (s − ∇ log π) dt`, `S`. A step of size `h` is::

    z ← e^{A h/2}  e^{S h}  e^{A h/2} z                    (Strang 1968)

with `e^A` a draw from its transition and the score at the middle of the step. The paper solves `S` by Euler's method, of order 1. Near
the data a score falls as fast as `−z/scale²`, and a step of any explicit method overshoots; here that part is exact, `λ = g²/scale²`,
and what is left is solved by the midpoint rule (exponential Runge–Kutta: Hochbruck & Ostermann, Acta Numerica 19 (2010))::

    z' = z + φ(h/2) S(z),      z ← z + φ(h) (S(z') + λ (z' − z)),      φ(h) = (1 − e^{−λh})/λ

The whole is of weak order 2, for two evaluations of the score a step. Where data are distributed as `π`, `S` vanishes and every step
is exact. The last step, from `lo` to the data, follows the reverse drift without noise. Times are even in `√t`, as the
paper's (quadratic striding): next to the data a position changes by the velocity times the step, and the velocity settles within
`t` itself.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.noise import Noise
from sdezoo.process.sde import Stationary
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class SSCS(Sampler[Stationary]):
    """Symmetric splitting for processes with a known stationary reversal, such as cld: order 2, two evaluations a step."""

    weak_order: ClassVar[float | None] = 2.0

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1

    def grid(self, model: Model[Any], steps: int) -> Tensor:
        """`auto`: equal steps in `√t`."""
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
        half = sde.project(z + _gain(rate, dt / 2) * push(z), z)  # no score is known beyond a wall
        z = sde.project(z + _gain(rate, dt) * (push(half) + rate * (half - z)), z)
        return sde.reverse_transition(z, middle, s, noise), None


def _gain(rate: Tensor, h: Tensor) -> Tensor:
    """`(1 − e^{−λh})/λ`; `h` where there is no noise."""
    return torch.where(rate > 0, -torch.expm1(-rate * h) / rate, h)
