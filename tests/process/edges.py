"""Three tiny processes at the edges of the contract: a boundary rule, an auxiliary state, noise that no Brownian motion makes."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from torch.distributions import constraints

from sdezoo import Conditional, ForwardSDE, Sampler
from sdezoo.parameters import Positive
from sdezoo.process.interpolant import Interpolant, Mix


@dataclass(frozen=True)
class BetweenWalls(ForwardSDE, Conditional):
    """Brownian motion on [0, 1], reflected at both walls; its stationary law is uniform."""

    sigma: Positive = 1.2

    @property
    def support(self):
        return constraints.unit_interval

    @property
    def reflecting_boundary(self):
        return True

    def drift(self, z, t):
        return torch.zeros_like(z)

    def diffusion(self, z, t):
        return torch.full_like(z, self.sigma)

    def project(self, proposal, z):
        folded = proposal.remainder(2)
        return torch.minimum(folded, 2 - folded)

    def scale(self, t):
        return self.sigma * t.sqrt()

    def perturb(self, x0, t, noise):
        return self.project((x0 + self.scale(t) * noise.normal(x0)).to(x0), x0)

    def log_prob(self, z, x0, t):
        """By the method of images."""
        images = torch.stack([sign * x0 + 2 * k for k in range(-4, 5) for sign in (1, -1)])
        scale = self.scale(t).to(z)
        return torch.logsumexp(-0.5 * ((z - images) / scale) ** 2, 0) - (scale * math.sqrt(2 * math.pi)).log()

    def prior(self, shape, noise, like):
        return noise.uniform(like, shape)


@dataclass(frozen=True)
class Kinetic(ForwardSDE, Conditional):
    """Critically damped Langevin, `dx = 4 β v dt`, `dv = −β (x + 4 v) dt + √(2β) dW` (Dockhorn et al., arXiv 2112.07068).

    State `(B, 2, *event)`: position and velocity; one Brownian motion, on the velocity. At `t = 0` the velocity is `N(0, start)`.
    """

    beta: Positive = 4.0
    start: Positive = 0.25

    def state_shape(self, shape):
        return (shape[0], 2, *shape[1:])

    def noise_shape(self, shape):
        return (shape[0], 1, *shape[2:])

    def encode(self, x, noise):
        return torch.stack([x, math.sqrt(self.start) * noise.normal(x)], 1)

    def decode(self, z):
        return z[:, 0]

    def network_input(self, z, t):
        return z.flatten(1, 2)

    def score_from_output(self, s, z, t):
        """The score in the velocity is all that the reversal asks for."""
        _, velocity = s.chunk(2, 1)
        return torch.stack([torch.zeros_like(velocity), velocity], 1)

    def drift(self, z, t):
        x, v = z.unbind(1)
        return self.beta * torch.stack([4 * v, -x - 4 * v], 1)

    def diffusion(self, z, t):
        return math.sqrt(2 * self.beta) * torch.stack([torch.zeros_like(z[:, 0]), torch.ones_like(z[:, 1])], 1)

    def law(self, t, variance=0.0):
        """`(A, C, xx, xv, vv)`: mean `(A x_0, C x_0)` and covariance at `t`, where the position starts with `variance` around `x_0`."""
        b = self.beta * t.double()
        e = torch.exp(-2 * b)
        a, c, d, f = e * (1 + 2 * b), e * 4 * b, -e * b, e * (1 - 2 * b)
        p, q = 1 - variance, 0.25 - self.start
        return a, d, 1 - a * a * p - c * c * q, -a * d * p - c * f * q, 0.25 - d * d * p - f * f * q

    def perturb(self, x0, t, noise):
        a, c, xx, xv, vv = (k if t.ndim == 0 else k[:, 0].to(x0) for k in self.law(t))
        ev, ex = noise.normal(x0), noise.normal(x0)
        rest = (xx - xv**2 / vv).clamp_min(0).sqrt()
        return torch.stack([a * x0 + xv / vv.sqrt() * ev + rest * ex, c * x0 + vv.sqrt() * ev], 1)

    def log_prob(self, z, x0, t):
        a, c, xx, xv, vv = (k if t.ndim == 0 else k[:, 0].to(x0) for k in self.law(t))
        dx, dv, det = z[:, 0] - a * x0, z[:, 1] - c * x0, xx * vv - xv**2
        return -0.5 * ((vv * dx**2 - 2 * xv * dx * dv + xx * dv**2) / det + det.log()) - math.log(2 * math.pi)

    def score(self, z, x0, t):
        return self.score_from_output(Conditional.score(self, z, x0, t).flatten(1, 2), z, t)

    def scale(self, t):
        _, _, xx, xv, vv = self.law(t)
        return (vv - xv**2 / xx).sqrt()

    def prior(self, shape, noise, like):
        return torch.stack([noise.normal(like, shape), noise.normal(like, shape) / 2], 1)


@dataclass(frozen=True)
class Stable(Interpolant):
    """`x_t = a x_0 + σ e` with isotropic α-stable `e`, `σ^α = 1 − a^α` (Yoon et al., NeurIPS 2023). No SDE driven by Brownian motion.

    What is known there as its score is the fractional one, `S = (−Δ)^{(α−2)/2} ∇p / p`, no gradient; given `x_0` it is
    `−(x_t − a x_0)/(α σ^α)`, so that `S = (a D − x_t)/(α σ^α)` with the denoiser `D`, which is what a network learns.
    """

    alpha: Annotated[float, Interval(gt=1, lt=2)] = 1.7

    @property
    def tail(self):
        return self.alpha

    def signal(self, t):
        return torch.cos(math.pi / 2 * 0.99 * t.double())

    def sigma(self, t):
        return (1 - self.signal(t) ** self.alpha) ** (1 / self.alpha)

    def mix(self, t):
        return Mix(self.signal(t), self.sigma(t))

    def base(self, shape, noise, like):
        return self.stable(like, shape, noise)

    def stable(self, like, shape, noise):
        """`√(2A) z`, `A` positive `α/2`-stable by Kanter's formula, one a sample."""
        h, one = self.alpha / 2, (shape[0],) + (1,) * (len(shape) - 1)
        u = math.pi * noise.uniform(like, one).clamp(1e-6, 1 - 1e-6)
        e = -noise.uniform(like, one).clamp_min(1e-30).log()
        subordinator = torch.sin(h * u) / torch.sin(u) ** (1 / h) * (torch.sin((1 - h) * u) / e) ** ((1 - h) / h)
        return (2 * subordinator).sqrt() * noise.normal(like, shape)

    def prior(self, shape, noise, like):
        return self.stable(like, shape, noise)


@dataclass(frozen=True)
class StableFlow(Sampler[Stable]):
    """The deterministic way back, `x ← r x + α (r − 1) S`, `r = a(s)/a(t)`."""

    def step(self, model, z, t, s, noise, memory):
        sde, r = model.sde, model.sde.signal(s) / model.sde.signal(t)
        fractional = (sde.signal(t) * model.denoise(z, t) - z) / (sde.alpha * sde.sigma(t) ** sde.alpha)
        return r * z + sde.alpha * (r - 1) * fractional, None
