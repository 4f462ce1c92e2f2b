"""Right plugins with unusual but legal choices: no law may condemn them."""

from dataclasses import dataclass

import torch
from torch.distributions import constraints

from sdezoo import Conditional, ForwardSDE
from sdezoo.parameters import Positive
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class HalfLine(ForwardSDE, Conditional):
    """Brownian motion on the positive numbers, reflected at 0: two images by `torch.logaddexp`, whose second derivative overflows."""

    sigma: Positive = 0.1

    @property
    def support(self):
        return constraints.nonnegative

    @property
    def reflecting_boundary(self):
        return True

    def drift(self, z, t):
        return torch.zeros_like(z)

    def diffusion(self, z, t):
        return torch.full_like(z, self.sigma)

    def project(self, proposal, z):
        return proposal.abs()

    def scale(self, t):
        return self.sigma * t.sqrt()

    def perturb(self, x0, t, noise):
        return (x0 + self.scale(t).to(x0) * noise.normal(x0)).abs()

    def log_prob(self, z, x0, t):
        scale = self.scale(t).to(z)
        near, far = (-(((z - sign * x0) / scale) ** 2) / 2 for sign in (1, -1))
        return torch.logaddexp(near, far) - scale.log() - 0.9189385332046727

    def prior(self, shape, noise, like):
        return self.perturb(torch.ones(tuple(shape), dtype=like.dtype), torch.tensor(1.0, dtype=torch.float64), noise)


@dataclass(frozen=True)
class Churned(Sampler[ForwardSDE]):
    """Euler–Maruyama with `h` times the noise of the reverse SDE: right for every `h ≥ 0`, and stiff where `h` is large."""

    h: Positive = 6.0

    def step(self, model, z, t, s, noise, memory):
        sde, dt = model.sde, t - s
        z_end = z - dt * sde.reverse_drift(z, t, model.score(z, t), half=0.5 * (1 + (self.h if s > 0 else 1.0)))
        if s > 0:
            z_end = z_end + (self.h * dt).sqrt() * sde.diffusion(z, t) * noise.normal(z, sde.noise_shape(z.shape))
        return sde.project(z_end, z), None
