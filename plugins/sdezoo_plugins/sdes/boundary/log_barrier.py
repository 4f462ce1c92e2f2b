"""Brownian motion in the unit box under the metric of a log-barrier, which puts the boundary infinitely far away.

Fishman et al., arXiv 2304.05364, section 3.1, with the barrier `−ln x − ln(1 − x)` in every entry. Its Hessian `1/x² + 1/(1 − x)²` is the
metric, with the inverse `D(x) = x² (1 − x)²/q`, `q = x² + (1 − x)²`. The uniform distribution is invariant under::

    dX = ½ D'(X) β² dt + √D(X) β dW                                             a finite step may leave (0, 1)

The state is `y = logit x`, which has no boundary to cross. By Itô's formula::

    dy = ½ (1 − 2x)/q² β² dt + β/√q dW,      ∇·(g gᵀ) = (1 − 2x)(1 − q)/q² β²,      β² = v',  v(t) = σ_min² ((σ_max/σ_min)^{2t} − 1)

and the uniform distribution becomes the logistic one, sampled as `ln Φ(ε) − ln Φ(−ε)`. Near the boundary this is geometric Brownian
motion. The density vanishes there at every time, so integration by parts has no boundary term. Data on the boundary have no
coordinates.

No transition is known. Samples are simulated by `STEPS` steps of equal variance. These preserve the uniform distribution to first order
in the step: its distribution function is off by at most 0.010 at `t = 1`. Large steps are folded at `|y| = 15`, beyond which lies a
fraction 6e−7 of the uniform distribution, so that nothing rounds to the boundary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from sdezoo.parameters import Positive
from sdezoo.process.noise import Noise
from sdezoo.process.sde import ForwardSDE

STEPS = 100
FAR, END = 15.0, 3e-7
"""The largest `|y|`, at which float32 still separates `x` from the boundary, and a smaller distance from the boundary."""


@dataclass(frozen=True)
class LogBarrier(ForwardSDE):
    """Brownian motion under a log-barrier metric, for data inside the unit box: the baseline of reflected and metropolis."""

    papers: ClassVar[tuple[str, ...]] = ("fishman2023constrained",)

    sigma_min: Positive = 0.02
    """Noise scale near `t = 0`, in `logit x`."""
    sigma_max: Positive = 5.0
    """Terminal noise, in `logit x`; the influence of the data decays like `e^{−σ_max²/8}`, since the boundary is far away."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising(sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    @property
    def support(self) -> Constraint:
        return constraints.interval(END, 1 - END)

    def encode(self, x: Tensor, noise: Noise) -> Tensor:
        return torch.logit(x)

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(torch.sigmoid(z))

    def decode_unchecked(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """Folding of states that would round to the boundary once decoded."""
        away = (proposal + FAR).remainder(4 * FAR)
        return torch.where(proposal.abs() <= FAR, proposal, torch.minimum(away, 4 * FAR - away) - FAR)

    def variance(self, t: Tensor) -> Tensor:
        """`v(t)`, shaped like `t`."""
        return self.sigma_min**2 * torch.expm1(2 * math.log(self.sigma_max / self.sigma_min) * t)

    def rate(self, t: Tensor, like: Tensor) -> Tensor:
        """`β² = v'`.

        Args:
            t: times.
            like: sets the dtype and device.
        """
        growth = 2 * math.log(self.sigma_max / self.sigma_min)
        return (growth * self.sigma_min**2 * torch.exp(growth * t)).to(like)

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        slope, q = _curvature(z)
        return slope / (2 * q**2) * self.rate(t, z)

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return (self.rate(t, z) / _curvature(z)[1]).sqrt()

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        slope, q = _curvature(z)
        return slope * (1 - q) / q**2 * self.rate(t, z)

    def scale(self, t: Tensor) -> Tensor:
        return self.variance(t).sqrt()

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        z, h = self.encode(x0, noise), (self.variance(t) / STEPS).to(x0)
        for _ in range(STEPS):
            slope, q = _curvature(z)
            z = self.project(z + slope / (2 * q**2) * h + (h / q).sqrt() * noise.normal(z), z)
        return z

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        normal = noise.normal(like, shape)
        return self.project(torch.special.log_ndtr(normal) - torch.special.log_ndtr(-normal), normal)


def _curvature(z: Tensor) -> tuple[Tensor, Tensor]:
    """`1 − 2x` and `q = x² + (1 − x)²` at `x = 1/(1 + e^{−z})`."""
    slope = -torch.tanh(z / 2)
    return slope, (1 + slope**2) / 2
