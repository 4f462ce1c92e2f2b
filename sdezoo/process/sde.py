"""Stochastic differential equations and their time reversal.

The forward SDE of the state, in the sense of Itô, is::

    dz = f(z, t) dt + g(z, t) ∘ dW                                             (∘ is element-wise)

With the score `s = ∇ log p_t`, two equations have the same marginals backward in time (Anderson 1982; Song et al.,
arXiv 2011.13456, eq. 6 and 15)::

    dz = [f − ∇·(g gᵀ) − g gᵀ s] dt + g ∘ dW̄          reverse SDE           (half = 1)
    dz = [f − ½ ∇·(g gᵀ) − ½ g gᵀ s] dt                probability flow      (half = ½)

The divergence vanishes for additive noise, and toolkits for additive noise leave it out. State-dependent noise requires it.

In general the noise is a matrix, `G(z, t) dW`: entries share Brownian motions, or `G` depends on other entries of the state. All of the
above holds with `G` for `g`. A process applies its noise to an increment (`diffuse`), and knows `G Gᵀ s` and `∇·(G Gᵀ)`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sdezoo.errors import CompositionError
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
        """The diffusion `g(z, t)`, which broadcasts to `z`; entry `i` depends on `z` only through `z_i`, or else `entrywise_noise` says so.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """

    def diffuse(self, z: Tensor, t: Tensor, dw: Tensor) -> Tensor:
        """Apply the noise to an increment: `g(z, t) ∘ dW`, which broadcasts to `z`.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
            dw: increment of the Brownian motion, or any multiple of it, of shape `noise_shape`.
        """
        return self.diffusion(z, t) * dw

    def noise_shape(self, shape: Sequence[int]) -> Shape:
        """Shape of `dW` for a state of `shape`; it broadcasts to the state. Default: one Brownian motion for each entry.

        A dimension of size 1 shares one Brownian motion along that dimension.
        """
        return tuple(shape)

    @property
    def entrywise_noise(self) -> bool:
        """Whether `g_i(z, t)` depends on `z` through `z_i` alone. Default: True.

        Milstein's method and those of order 1½ for diagonal noise require it: else they lack the Lévy areas of pairs of Brownian motions.
        """
        return True

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

    def stratonovich_correction(self, z: Tensor, t: Tensor) -> Tensor:
        """The Itô drift minus the Stratonovich drift, `½ Σ_k (∂G_k/∂z) G_k` over the columns of `G`; shaped like `z`.

        Default: `¼ ∇·(g gᵀ)`, right if every entry has its own Brownian motion.
        """
        return self.divergence(z, t) / 4

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

    @property
    def forward_scheme(self) -> str:
        """What `forward_step` is, with its orders, as a phrase for summaries."""
        return "Euler–Maruyama, weak order 1, strong order ½"

    def forward_step(self, z: Tensor, t: Tensor, dt: Tensor, noise: Noise) -> Tensor:
        """One Euler–Maruyama step of the forward SDE, including the boundary rule.

        Args:
            z: state at `t`, `(B, *state)`.
            t: time at the start of the step.
            dt: step size, positive.
            noise: random numbers.
        """
        dw = noise.normal(z, self.noise_shape(z.shape)) * dt.sqrt().to(z)
        return self.project((z + self.drift(z, t) * dt + self.diffuse(z, t, dw)).to(z), z)

    @property
    def forgets_data(self) -> bool:
        """Whether data at the last time of `t_span` have the distribution of the prior, wherever they started. Default: True.

        If not, no score is learned with the process, since sampling could not start.
        """
        return True

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


class MatrixSDE(ForwardSDE):
    """An SDE `dz = f dt + G(z, t) dW` whose noise is a matrix. Abstract: `drift`, `diffuse`, `noise_shape` and `prior`.

    `G Gᵀ s`, `∇·(G Gᵀ)` and the Stratonovich correction are derived from `diffuse`, at a cost of the number of entries times the number of
    Brownian motions. Override them for a large state.
    """

    in_words = "an SDE whose noise is a matrix"

    @property
    def entrywise_noise(self) -> bool:
        return False

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        """Not defined.

        Raises:
            CompositionError: always.
        """
        raise CompositionError(f"The noise of '{self.title()}' is a matrix, not a number for each entry.", "Apply it with `diffuse`.")

    @abstractmethod
    def diffuse(self, z: Tensor, t: Tensor, dw: Tensor) -> Tensor:
        """`G(z, t) dW`, shaped like `z`, linear in `dw`.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
            dw: increment of the Brownian motion, or any multiple of it, of shape `noise_shape`.
        """

    @abstractmethod
    def noise_shape(self, shape: Sequence[int]) -> Shape:
        """Shape of `dW` for a state of `shape`: the batch, and as many Brownian motions as there are, in any shape."""

    def columns(self, z: Tensor, t: Tensor) -> Tensor:
        """The columns of `G`, one for each Brownian motion: `(m, B, *state)`."""
        shape = self.noise_shape(z.shape)
        units = torch.eye(torch.Size(shape[1:]).numel(), dtype=z.dtype, device=z.device)
        return torch.stack([self.diffuse(z, t, unit.reshape(1, *shape[1:]).expand(shape)) for unit in units])

    def ggt(self, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
        columns = self.columns(z, t).flatten(2)
        along_each = (columns * s.flatten(1)).sum(-1, keepdim=True)
        return (columns * along_each).sum(0).reshape(z.shape)

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        """`∇·(G Gᵀ) = Σ_k (∂G_k/∂z) G_k + G_k ∇·G_k`, by forward-mode differentiation along every entry."""
        columns, turned = self.columns(z, t).flatten(2), torch.zeros_like(z.flatten(1))
        for j, slope in enumerate(self._slopes(z, t)):
            turned = turned + (slope * columns[:, :, j : j + 1] + columns * slope[:, :, j : j + 1]).sum(0)
        return turned.reshape(z.shape)

    def stratonovich_correction(self, z: Tensor, t: Tensor) -> Tensor:
        columns, turned = self.columns(z, t).flatten(2), torch.zeros_like(z.flatten(1))
        for j, slope in enumerate(self._slopes(z, t)):
            turned = turned + (slope * columns[:, :, j : j + 1]).sum(0) / 2
        return turned.reshape(z.shape)

    def _slopes(self, z: Tensor, t: Tensor) -> Iterator[Tensor]:
        """The derivative of the columns in each entry of the state, `(m, B, n)`."""
        for unit in torch.eye(z[0].numel(), dtype=z.dtype, device=z.device):
            yield along(lambda u: self.columns(u, t), z, unit.reshape(1, *z.shape[1:]).expand_as(z).contiguous())[1].flatten(2)


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
