"""Critically damped Langevin diffusion: data are coupled to a velocity, and noise enters the velocity alone.

Dockhorn, Vahdat & Kreis, arXiv 2112.07068, section 3, with the mass `M = Γ²/4` at which the motion is critically damped::

    dX = β M⁻¹ V dt,      dV = −β (X + Γ M⁻¹ V) dt + √(2Γβ) dW,      V_0 ~ N(0, γM),      π = N(0, 1) × N(0, M)

The state `(B, 2, *event)` holds position and velocity. With `b = 2βt/Γ`, and `W = V/√M` for which `π` is white, an entry moves as::

    E[(X, W)_t | (X, W)_0] = e^{−b} ( 1 + b    b   ) (X, W)_0
                                    (  −b    1 − b )

The distribution of the state given `x_0`, with the initial velocity integrated out, is normal. For data of variance `ς` around `x_0`
its covariance is, with the regularized incomplete gamma function `P(a, ·)`::

    xx = P(3, 2b) + e^{−2b} (γ b² + ς (1 + b)²)
    xw = e^{−2b} (2b² + γ b (1 − b) − ς b (1 + b))
    ww = P(1, 2b) + e^{−2b} (2b (1 − b) + γ (1 − b)² + ς b²)

The reverse SDE needs the score in the velocity alone, and the network learns only that: the paper's hybrid score matching. The network
output is added to the score of normal data with variance 1 (`ς = 1`), so scale the data to that.

Run backward, the stationary process is the same process with the velocity reversed. `sscs` is built on this.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sdezoo.parameters import Positive
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Shape
from sdezoo.process.sde import Stationary


@dataclass(frozen=True)
class CLD(Stationary, Conditional):
    """Critically damped Langevin diffusion: data with a velocity, which alone is noised; its sampler is sscs."""

    papers: ClassVar[tuple[str, ...]] = ("dockhorn2021critically",)

    beta: Positive = 4.0
    """Rate `β`, the speed of time."""
    friction: Positive = 1.0
    """Friction `Γ`; the mass is `M = Γ²/4`."""
    start: Positive = 0.04
    """Initial variance `γ` of the velocity, in units of `M`."""

    def state_shape(self, shape: Sequence[int]) -> Shape:
        return (shape[0], 2, *shape[1:])

    def noise_shape(self, shape: Sequence[int]) -> Shape:
        return (shape[0], 1, *shape[2:])

    def encode(self, x: Tensor, noise: Noise) -> Tensor:
        return torch.stack([x, math.sqrt(self.start) * self._unit * noise.normal(x)], 1)

    def decode(self, z: Tensor) -> Tensor:
        return z[:, 0]

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        return z.flatten(1, 2)

    def score_from_output(self, s: Tensor, z: Tensor, t: Tensor) -> Tensor:
        _, velocity = s.chunk(2, 1)
        return self._driven(velocity + self._velocity_score(z, 0 * z[:, 0], t, 1.0))

    def scale(self, t: Tensor) -> Tensor:
        """Standard deviation of the velocity given the position and `x_0`."""
        _, _, xx, xv, vv = self._law(t, 0.0)
        return (vv - xv**2 / xx).sqrt()

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        x, v = z.unbind(1)
        inverse = self._unit**-2
        return self.beta * torch.stack([inverse * v, -x - self.friction * inverse * v], 1)

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return z.new_tensor([0.0, math.sqrt(2 * self.friction * self.beta)]).reshape(1, 2, *(1,) * (z.ndim - 2))

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        a, c, *covariance = (_beside(k, x0) for k in self._law(t, 0.0))
        dx, dv = _correlated(covariance, x0, noise)
        return torch.stack([a * x0 + dx, c * x0 + dv], 1)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return torch.stack([noise.normal(like, shape), self._unit * noise.normal(like, shape)], 1)

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        a, c, xx, xv, vv = (_beside(k, x0) for k in self._law(t, 0.0))
        dx, dv, det = z[:, 0] - a * x0, z[:, 1] - c * x0, xx * vv - xv**2
        return -((vv * dx**2 - 2 * xv * dx * dv + xx * dv**2) / det + det.log()) / 2 - math.log(2 * math.pi)

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The score in the velocity; 0 in the position, which noise does not drive."""
        return self._driven(self._velocity_score(z, x0, t, 0.0))

    def stationary_score(self, z: Tensor, t: Tensor) -> Tensor:
        return self._driven(-z[:, 1] / self._unit**2)

    @property
    def homogeneous(self) -> bool:
        return True

    def transition(self, z: Tensor, s: Tensor, t: Tensor, noise: Noise) -> Tensor:
        b, (x, w) = self._turned(t - s), (z[:, 0], z[:, 1] / self._unit)
        shrink = torch.exp(-b)
        dx, dw = _correlated(_spread(b, 0.0, 0.0), x, noise)
        x, w = shrink * ((1 + b) * x + b * w) + dx, shrink * (-b * x + (1 - b) * w) + dw
        return torch.stack([x, self._unit * w], 1)

    def reverse_transition(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """The transition with the velocity turned around, before and after."""
        turned = z.new_tensor([1.0, -1.0]).reshape(1, 2, *(1,) * (z.ndim - 2))
        return turned * self.transition(turned * z, s, t, noise)

    @property
    def _unit(self) -> float:
        """`√M`."""
        return self.friction / 2

    def _turned(self, t: Tensor) -> Tensor:
        return 2 * self.beta / self.friction * t.double()

    def _law(self, t: Tensor, variance: float) -> tuple[Tensor, ...]:
        """The factors of `x_0` in the means of position and velocity, and the covariance `xx`, `xv`, `vv`."""
        b, unit = self._turned(t), self._unit
        xx, xw, ww = _spread(b, self.start, variance)
        return torch.exp(-b) * (1 + b), -unit * torch.exp(-b) * b, xx, unit * xw, unit**2 * ww

    def _velocity_score(self, z: Tensor, x0: Tensor, t: Tensor, variance: float) -> Tensor:
        a, c, xx, xv, vv = (_beside(k, x0) for k in self._law(t, variance))
        return (xv * (z[:, 0] - a * x0) - xx * (z[:, 1] - c * x0)) / (xx * vv - xv**2)

    def _driven(self, velocity: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(velocity), velocity], 1)


def _spread(b: Tensor, start: float, variance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Covariance of `(X, W)`: the part from the noise, plus what remains of the initial `variance` and `start`."""
    shrink = torch.exp(-2 * b)
    return (
        torch.special.gammainc(torch.full_like(b, 3.0), 2 * b) + shrink * (start * b**2 + variance * (1 + b) ** 2),
        shrink * (2 * b**2 + start * b * (1 - b) - variance * b * (1 + b)),
        -torch.expm1(-2 * b) + shrink * (2 * b * (1 - b) + start * (1 - b) ** 2 + variance * b**2),
    )


def _correlated(covariance: Sequence[Tensor], like: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
    """Normal position and velocity with this covariance; the position is exactly 0 if its variance is."""
    xx, xv, vv = covariance
    second, first = noise.normal(like), noise.normal(like)
    return xv / vv.sqrt() * second + (xx - xv**2 / vv).sqrt() * first, vv.sqrt() * second


def _beside(k: Tensor, x: Tensor) -> Tensor:
    # Times broadcast against the state, which has one more dimension than the data.
    return k if k.ndim == 0 else k[:, 0].to(x)
