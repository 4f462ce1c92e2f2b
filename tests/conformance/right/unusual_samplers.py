"""Right samplers with unusual but legal choices: other random numbers, steps within steps, grids of their own, noise of any size."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from sdezoo import ForwardSDE
from sdezoo.parameters import Count, NonNegative
from sdezoo.process.interpolant import Interpolant
from sdezoo.sampling.grid import Spacing
from sdezoo.sampling.sampler import Sampler
from tests.conformance.right.plugins import Churned
from tests.conformance.right.samplers import Euler


@dataclass(frozen=True)
class RandomSigns(Euler):
    """A fair coin for each normal number: right on average, without a path of its own."""

    strong_order: ClassVar[float | None] = None

    def kick(self, sde, z, t, dt, noise):
        return sde.diffusion(z, t) * noise.normal(z, sde.noise_shape(z.shape)).sign() * dt.sqrt()


@dataclass(frozen=True)
class UniformNumbers(Euler):
    """A uniform number of variance 1 for each normal one."""

    strong_order: ClassVar[float | None] = None

    def kick(self, sde, z, t, dt, noise):
        u = noise.uniform(z, sde.noise_shape(z.shape))
        return sde.diffusion(z, t) * (u - 0.5) * 12**0.5 * dt.sqrt()


@dataclass(frozen=True)
class SumOfTwo(Euler):
    """Two random numbers a step, one of them with the other sign."""

    strong_order: ClassVar[float | None] = None

    def kick(self, sde, z, t, dt, noise):
        one, two = (noise.normal(z, sde.noise_shape(z.shape)) for _ in range(2))
        return sde.diffusion(z, t) * (0.6 * one - 0.8 * two) * dt.sqrt()


@dataclass(frozen=True)
class Substeps(Euler):
    """Every step in `inner` equal parts, which all draw noise but the last."""

    strong_order: ClassVar[float | None] = None
    inner: Count = 3

    def evaluations(self, steps):
        return self.inner * (steps - 1) + 1

    def step(self, model, z, t, s, noise, memory):
        if s == 0:
            return super().step(model, z, t, s, noise, memory)
        for k in range(self.inner):
            start = t - (t - s) * k / self.inner
            z, _ = super().step(model, z, start, start - (t - s) / self.inner, noise, memory)
        return z, None


@dataclass(frozen=True)
class Squares(Euler):
    """A grid of its own: squares of equal steps."""

    spacing: Spacing = field(default="uniform", kw_only=True)

    def grid(self, model, steps):
        lo, hi = model.sde.t_span
        roots = torch.linspace(hi**0.5, lo**0.5, max(steps, 2), dtype=torch.float64)[:steps]
        return torch.cat([(roots**2).clamp(lo, hi)[:-1], torch.tensor([lo if steps > 1 else hi, 0.0], dtype=torch.float64)])


@dataclass(frozen=True)
class Midpoint(Sampler[ForwardSDE]):
    """The midpoint rule on the probability flow; the last step is Euler's."""

    weak_order: ClassVar[float | None] = 2.0
    spacing: Spacing = field(default="uniform", kw_only=True)

    def evaluations(self, steps):
        return 2 * steps - 1

    def step(self, model, z, t, s, noise, memory):
        def slope(z, t):
            return model.sde.reverse_drift(z, t, model.score(z, t), half=0.5)

        if s == 0:
            return model.sde.project(z - t * slope(z, t), z), None
        half = model.sde.project(z - (t - s) / 2 * slope(z, t), z)
        return model.sde.project(z - (t - s) * slope(half, (t + s) / 2), z), None


@dataclass(frozen=True)
class Straight(Sampler[Interpolant]):
    """Euler's method on the flow of an interpolant, in a step of `α` and `σ`; a network output is a step's only memory."""

    def step(self, model, z, t, s, noise, memory):
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        denoised = model.denoise(z, t)
        return q.alpha * denoised + q.sigma / p.sigma * (z - p.alpha * denoised), None


@dataclass(frozen=True)
class Fading(Sampler[ForwardSDE]):
    """The reverse SDE early, and the flow late: the size of the noise depends on the time."""

    most: NonNegative = 1.0

    def step(self, model, z, t, s, noise, memory):
        sde, share = model.sde, self.most * t**2
        end = z - (t - s) * sde.reverse_drift(z, t, model.score(z, t), half=0.5 * (1 + (share if s > 0 else 1)))
        if s > 0:
            end = end + (share * (t - s)).sqrt() * sde.diffusion(z, t) * noise.normal(z, sde.noise_shape(z.shape))
        return sde.project(end, z), None


SAMPLERS = [
    Churned(h=1e-3),
    Churned(h=6.0),
    RandomSigns(),
    UniformNumbers(),
    SumOfTwo(),
    Substeps(),
    Substeps(inner=11),
    Squares(),
    Midpoint(),
    Straight(),
    Fading(),
    Fading(most=3.0),
]
