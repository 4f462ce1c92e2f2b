"""Processes: how data turn into noise.

A process takes clean data `x0` of shape `(B, *event)` to a *state* `z_t`, `t` in [0, 1]: data at `t = 0`, the prior
at `t = 1`. The state is where the process moves: coordinates of the data (`log x` for geometric Brownian motion),
with auxiliaries where it has them (a velocity, a memory). `encode` and `decode` go between the two.

Time `t` broadcasts against the state: a 0-dim float64 tensor in sampling, `(B, 1, …, 1)` in training.

What a process can do, its class says:

- `Process`: data can be noised (`perturb`), and there is a prior to start from;
- `Conditional`: the score of `p(z_t | x_0)` is known, so that a network can learn its mean;
- `ForwardSDE` (in `sde`): it has a drift and a diffusion, so that time can be reversed;
- `AffineSDE` (in `affine`): it is Gaussian in its coordinates, and everything else is derived.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from sdezoo.parameters import Plugin
from sdezoo.process.noise import Noise

Shape = tuple[int, ...]


class Process(Plugin, ABC):
    """A noise process `z_t`, `t` in [0, 1]. Abstract: `perturb` and `prior`."""

    @property
    def support(self) -> Constraint:
        """Where the data live; default: the real line."""
        return constraints.real

    @property
    def reflecting_boundary(self) -> bool:
        """Whether noised data have density at the boundary of the state: integration by parts then has a boundary term there."""
        return False

    @property
    def tail(self) -> float:
        """Tail index `a` of the noise that samples start from, `P(|e| > u) ~ u^{−a}`; infinite where it falls faster than any power.

        A map that grows no faster than its argument, as networks do, makes no heavier tail of it.
        """
        return math.inf

    @property
    def t_span(self) -> tuple[float, float]:
        """`(lo, hi)`: no score is ever asked for outside. A sampler goes from `hi` to `lo`, and from there to 0 without noise."""
        return 1e-3, 1.0

    def adapted(self, x0: Tensor) -> Self:
        """The same process with every parameter that is left to the data filled in from `x0` `(N, *event)`; default: itself."""
        return self

    def state_shape(self, shape: Sequence[int]) -> Shape:
        """Shape of the state of data with `shape`, batch included; default: the same."""
        return tuple(shape)

    def encode(self, x: Tensor, noise: Noise) -> Tensor:
        """Data to state at `t = 0`; `noise` is for auxiliaries that start at random."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """State to data.

        Raises:
            SupportError: where the result is not representable inside the support.
        """
        return z

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        """What a network sees of the state, `(B, …)`; default: all of it. Its answer has the same shape."""
        return z

    def network_input_shape(self, event: Sequence[int]) -> Shape:
        """Shape of what a network sees, and of its answer, for data of event shape `event`."""
        state = torch.zeros(self.state_shape((1, *event)))
        return tuple(self.network_input(state, torch.tensor(self.t_span[1], dtype=torch.float64)).shape[1:])

    def noise_conditioning(self, t: Tensor) -> Tensor:
        """What a network is told of the time, a number of the order of one; default: `t`."""
        return t

    def score_from_output(self, s: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """From a network's score, shaped like what `network_input` shows, to the score of the whole state; default: they are the same."""
        return s

    def scale(self, t: Tensor) -> Tensor:
        """Size of the noise: a network that predicts noise gives the score as `-output / scale`; default `sqrt(t)`."""
        return t.sqrt()

    @abstractmethod
    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """A draw of `z_t | x_0`; at `t = 0` exactly `encode(x0)`."""

    @abstractmethod
    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """A draw of `z_1` for data of `shape`, with dtype and device of `like`."""


def count_outside(support: Constraint, x: Tensor) -> int:
    """How many values of `x` are not finite or not in `support`; how many rows, where the support judges whole rows."""
    inside, finite = support.check(x), torch.isfinite(x)
    if finite.ndim > inside.ndim:
        finite = finite.flatten(inside.ndim).all(-1)
    return int((~(inside & finite)).sum())


class Conditional(Process):
    """A process whose conditional score is known. One of `log_prob` and `score` is overridden."""

    @property
    def knows_density(self) -> bool:
        """Whether `log_prob` answers. Default: whether it is overridden; override this too where that depends on a field."""
        return type(self).log_prob is not Conditional.log_prob

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`log p(z_t | x_0)`, summed over whatever is not a batch or event entry. Optional.

        Raises:
            NotImplementedError: for a process that knows the score alone.
        """
        raise NotImplementedError(f"{self.title()} offers no transition density")

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`∇_z log p(z_t | x_0)`, shaped like the state: what a network's score regresses on. Default: autograd of `log_prob`."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = z.detach().clone().requires_grad_()
            return torch.autograd.grad(self.log_prob(leaf, x0, t).sum(), leaf)[0]

    def score_error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        """How much a squared error of the score counts at `z`, entry by entry, in losses that compare with a known score; default: 1.

        Where `g` vanishes, the score grows as `1/g`: its errors there are large numbers that the reversal, which asks for `g gᵀ s`,
        does not feel. `g²`, less its scale, makes them even.
        """
        return torch.ones_like(z)
