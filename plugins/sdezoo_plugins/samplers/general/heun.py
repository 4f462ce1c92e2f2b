"""Heun's method on the probability flow: deterministic, order 2.

Karras et al., arXiv 2206.00364, algorithm 1. For an affine process the flow is `dy/dρ = (y − D)/ρ` in `y = (z − m)/α` against the noise
level `ρ = σ/α`. Its Euler step, the first half of Heun's, is that of DDIM, and ends between `y` and `D` for any step size. For other
processes the flow is `dz/dt = f − ½ ∇·(g gᵀ) − ½ g gᵀ s`.

Two network evaluations per step, except the last: it ends at `t = 0`, where the score is undefined. `2N − 1` in all.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.sde import ForwardSDE
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class Heun(Sampler[ForwardSDE]):
    """Heun on the probability flow: deterministic, order 2, two evaluations per step; works for every SDE."""

    papers: ClassVar[tuple[str, ...]] = ("karras2022elucidating",)

    weak_order: ClassVar[float | None] = 2.0

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1

    def step(self, model: Model[ForwardSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        sde = model.sde
        return (_against_noise_level(model, sde, z, t, s) if isinstance(sde, AffineSDE) else _against_time(model, z, t, s)), None


def _against_noise_level(model: Model[Any], sde: AffineSDE, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
    p, q = sde.at(t, z), sde.at(s, z)
    y, dr = (z - p.shift) / p.alpha, q.ratio - p.ratio
    slope = (y - model.denoise(z, t)) / p.ratio
    end = q.shift + q.alpha * (y + dr * slope)
    if s > 0:
        after = ((end - q.shift) / q.alpha - model.denoise(end, s)) / q.ratio
        end = q.shift + q.alpha * (y + dr * (slope + after) / 2)
    return end


def _against_time(model: Model[ForwardSDE], z: Tensor, t: Tensor, s: Tensor) -> Tensor:
    sde, dt = model.sde, t - s

    def flow(u: Tensor, time: Tensor) -> Tensor:
        return sde.reverse_drift(u, time, model.score(u, time), half=0.5)

    slope = flow(z, t)
    end = sde.project(z - dt * slope, z)
    if s > 0:
        end = sde.project(z - dt * (slope + flow(end, s)) / 2, z)
    return end
