"""Stochastic differential equations and their time reversal.

The forward SDE of the state, in the sense of Itô, is::

    dz = f(z, t) dt + g(z, t) ∘ dW                                             (∘ is element-wise)

With the score `s = ∇ log p_t`, two equations have the same marginals backward in time (Anderson 1982; Song et al.,
arXiv 2011.13456, eq. 6 and 15)::

    dz = [f − ∇·(g gᵀ) − g gᵀ s] dt + g ∘ dW̄          reverse SDE           (half = 1)
    dz = [f − ½ ∇·(g gᵀ) − ½ g gᵀ s] dt                probability flow      (half = ½)

The divergence vanishes for additive noise, and toolkits for additive noise leave it out. State-dependent noise requires it.
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
    """A process that solves `dz = f dt + g ∘ dW`. Abstract: `drift`, `diffusion`, `prior`; the default `perturb` simulates the SDE."""

    in_words = "an SDE (a drift and a diffusion)"

    @abstractmethod
    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        """The drift `f(z, t)`, shaped like `z`.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """

    @abstractmethod
    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        """The diffusion `g(z, t)`, which broadcasts to `z`; entry `i` depends on `z` only through `z_i`.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """

    def noise_shape(self, shape: Sequence[int]) -> Shape:
        """Shape of `dW` for a state of `shape`; it broadcasts to the state. Default: one Brownian motion for each entry.

        A dimension of size 1 shares one Brownian motion along that dimension.
        """
        return tuple(shape)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """The boundary rule: where a step ends. Default: at its proposal.

        Args:
            proposal: end of the step without the rule, `(B, *state)`.
            z: start of the step, shaped like `proposal`.
        """
        return proposal

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        """`∇·(g gᵀ)`, shaped like `z`: `∂(g_i²)/∂z_i` by forward-mode differentiation.

        Override it if `g` has no derivative (√ at 0), if `g_i` depends on more than `z_i`, or if entries share noise and
        their `g` depends on the state.
        """

        def squared(u: Tensor) -> Tensor:
            return (self.diffusion(u, t) ** 2).to(u).expand_as(u)

        return along(squared, z)[1]

    def ggt(self, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """`g gᵀ s` at score `s`, shaped like `z`; also correct for shared noise."""
        g = self.diffusion(z, t)
        return g * (g * s).sum_to_size(self.noise_shape(z.shape))

    def reverse_drift(self, z: Tensor, t: Tensor, s: Tensor, half: float = 1.0) -> Tensor:
        """Drift of the reversed process, shaped like `z`.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
            s: score at `z`, shaped like `z`.
            half: 1 for the reverse SDE, 0.5 for the probability flow.
        """
        return self.drift(z, t) - half * (self.divergence(z, t) + self.ggt(z, t, s))

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor] | None:
        """Drift and diffusion of the data in Itô's sense, as the plugin's docstring states them. None: not stated, the default.

        They are a cross-check only: if `decode` is element-wise, a law compares them with `drift` and `diffusion`.

        Args:
            x: data, `(B, *event)`.
            t: time, 0-dim.

        Returns:
            Drift and diffusion; each broadcasts to `x`.
        """
        return None

    def forward_step(self, z: Tensor, t: Tensor, dt: Tensor, noise: Noise) -> Tensor:
        """One Euler–Maruyama step of the forward SDE, including the boundary rule.

        Args:
            z: state at `t`, `(B, *state)`.
            t: time at the start of the step.
            dt: step size, positive.
            noise: random numbers.
        """
        dw = noise.normal(z, self.noise_shape(z.shape)) * dt.sqrt().to(z)
        return self.project((z + self.drift(z, t) * dt + self.diffusion(z, t) * dw).to(z), z)

    @property
    def homogeneous(self) -> bool:
        """Whether drift and diffusion do not depend on time. They then hold at any `t > 0`, also beyond 1. Default: False."""
        return False

    @property
    def knows_transition(self) -> bool:
        """Whether `transition` is exact. Default: whether it is overridden; override this too if that depends on a field."""
        return type(self).transition is not ForwardSDE.transition

    def transition(self, z: Tensor, s: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Sample `z_t` given `z_s = z`, shaped like `z`. Default: one `forward_step`, exact only as `t − s` goes to 0.

        Args:
            z: state at `s`, `(B, *state)`.
            s: the earlier time, 0-dim, at least 0.
            t: the later time, 0-dim.
            noise: random numbers.
        """
        return self.forward_step(z, s, t - s, noise)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Sample `z_t | x_0` by 200 Euler–Maruyama steps, exact only as the step goes to 0. Override it if the distribution is known."""
        z = self.encode(x0, noise)
        dt = t / _SIMULATION_STEPS
        for k in range(_SIMULATION_STEPS):
            z = self.forward_step(z, k * dt, dt, noise)
        return z


class Stationary(ForwardSDE):
    """An SDE with a known reversal from its stationary distribution `π`. Abstract: `stationary_score`, `reverse_transition`.

    The reverse drift is the drift of the stationary process, `f − ∇·(g gᵀ) − g gᵀ ∇ log π`, minus `g gᵀ (s − ∇ log π)`.
    """

    in_words = "an SDE whose reversal from its stationary distribution is known exactly"

    @abstractmethod
    def stationary_score(self, z: Tensor, t: Tensor) -> Tensor:
        """`∇ log π(z)` along the directions of the noise, shaped like the state."""

    @abstractmethod
    def reverse_transition(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """Sample `z_s` given `z_t = z` from the stationary process, in which `z_t` has distribution `π`.

        Args:
            z: state at `t`, `(B, *state)`.
            t: the later time, 0-dim.
            s: the earlier time, 0-dim.
            noise: random numbers.
        """
