"""Stochastic differential equations and their time reversal.

Forward, in the sense of Itô, on the state::

    dz = f(z, t) dt + g(z, t) ∘ dW                                             (∘ is element-wise)

With the score `s = ∇ log p_t`, the same marginals are traversed backward in time by (Anderson 1982; Song et al.,
arXiv 2011.13456, eq. 6 and 15)::

    dz = [f − ∇·(g gᵀ) − g gᵀ s] dt + g ∘ dW̄          reverse SDE           (half = 1)
    dz = [f − ½ ∇·(g gᵀ) − ½ g gᵀ s] dt                probability flow      (half = ½)

The divergence vanishes for additive noise, and toolkits for additive noise leave it out. For state-dependent noise it
is not optional.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from sdezoo.process.differentiation import along
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process, Shape

_SIMULATION_STEPS = 200


class ForwardSDE(Process):
    """A process that solves `dz = f dt + g ∘ dW`. Abstract: `drift`, `diffusion`, `prior`; `perturb` is simulated by default."""

    in_words = "an SDE (a drift and a diffusion)"

    @abstractmethod
    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        """`f(z, t)`, shaped like `z`."""

    @abstractmethod
    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        """`g(z, t)`, which broadcasts to `z`; entry `i` depends on `z` through `z_i` alone."""

    def noise_shape(self, shape: Sequence[int]) -> Shape:
        """Shape of `dW` for a state of `shape`; it broadcasts to the state. Default: one Brownian motion an entry.

        A dimension of 1 shares one Brownian motion along it.
        """
        return tuple(shape)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """The boundary rule: where a step from `z` that proposed `proposal` ends. Default: there."""
        return proposal

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        """`∇·(g gᵀ)`, shaped like `z`: `∂(g_i²)/∂z_i` by forward-mode differentiation.

        Override it where `g` has no derivative (√ at 0), or where `g_i` depends on more than `z_i`, or where noise is
        shared between entries whose `g` depends on the state.
        """

        def squared(u: Tensor) -> Tensor:
            return (self.diffusion(u, t) ** 2).to(u).expand_as(u)

        return along(squared, z)[1]

    def ggt(self, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """`g gᵀ s`, shaped like `z`; right for shared noise too."""
        g = self.diffusion(z, t)
        return g * (g * s).sum_to_size(self.noise_shape(z.shape))

    def reverse_drift(self, z: Tensor, t: Tensor, s: Tensor, half: float = 1.0) -> Tensor:
        """Drift of the reversed process at score `s`; `half = 1`: reverse SDE, `half = 0.5`: probability flow."""
        return self.drift(z, t) - half * (self.divergence(z, t) + self.ggt(z, t, s))

    def forward_step(self, z: Tensor, t: Tensor, dt: Tensor, noise: Noise) -> Tensor:
        """One Euler–Maruyama step of the forward equation, boundary rule included."""
        dw = noise.normal(z, self.noise_shape(z.shape)) * dt.sqrt().to(z)
        return self.project((z + self.drift(z, t) * dt + self.diffusion(z, t) * dw).to(z), z)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """A draw of `z_t | x_0` by 200 Euler–Maruyama steps: exact only as the step goes to 0. Override it where a law is known."""
        z = self.encode(x0, noise)
        dt = t / _SIMULATION_STEPS
        for k in range(_SIMULATION_STEPS):
            z = self.forward_step(z, k * dt, dt, noise)
        return z


class Stationary(ForwardSDE):
    """An SDE with a stationary law `π`, from which time is reversed exactly. Abstract: `stationary_score`, `reverse_transition`.

    Its reverse drift is that of the process at rest in `π`, `f − ∇·(g gᵀ) − g gᵀ ∇ log π`, less `g gᵀ (s − ∇ log π)`.
    """

    in_words = "an SDE whose reversal from its stationary law is known exactly"

    @abstractmethod
    def stationary_score(self, z: Tensor, t: Tensor) -> Tensor:
        """`∇ log π(z)` in the directions of the noise, shaped like the state."""

    @abstractmethod
    def reverse_transition(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """A draw of `z_s` given `z_t = z`, `s < t`, of the process at rest in `π`."""
