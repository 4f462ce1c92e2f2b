"""Processes: how data turn into noise.

A process takes clean data `x0` of shape `(B, *event)` to a *state* `z_t`, `t` in [0, 1]: data at `t = 0`, the prior
at `t = 1`. The state is where the process moves: coordinates of the data (`log x` for geometric Brownian motion),
with auxiliaries where it has them (a velocity, a memory). `encode` and `decode` go between the two.

Time `t` broadcasts against the state: a 0-dim float64 tensor in sampling, `(B, 1, …, 1)` in training.

What a process can do, its class says:

- `Process`: data can be noised (`perturb`), and there is a prior to start from;
- `Supervised`: it says what a network regresses on, given clean data and their noised state: one of the next two;
- `Conditional`: the score of `p(z_t | x_0)` is known, and a network learns its mean, the score of the marginals;
- `Denoised`: a network learns the denoiser `E[z_0 | z_t]`, and the marginals' score is neither known nor asked for;
- `ForwardSDE` (in `sde`): it has a drift and a diffusion, so that time can be reversed;
- `AffineSDE` (in `affine`): it is Gaussian in its coordinates, and everything else is derived.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from sdezoo.errors import CompositionError, SupportError
from sdezoo.parameters import Plugin
from sdezoo.process.differentiation import along
from sdezoo.process.noise import Noise

Shape = tuple[int, ...]


class Process(Plugin, ABC):
    """A noise process `z_t`, `t` in [0, 1]. Abstract: `perturb` and `prior`."""

    in_words: ClassVar[str] = "a process"
    """What a class of processes is called where it is asked for, a phrase after *needs*; a plugin that leaves it out goes by its name."""

    @property
    def support(self) -> Constraint:
        """Where the data live; default: the real line."""
        return constraints.real

    @property
    def reflecting_boundary(self) -> bool:
        """Whether noised data have density at the boundary of the state: integration by parts then has a boundary term there."""
        return False

    @property
    def multiplicative(self) -> bool:
        """Whether the noise of positive data is proportional to them, so that there is a Hyvärinen score to learn; default: no."""
        return False

    @property
    def default_output(self) -> str:
        """The output parameterization of a network, unless another is asked for: a key of `sdezoo.learning.output.OUTPUTS`."""
        return "epsilon"

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
        """State to data; default: the state itself.

        Raises:
            SupportError: if a value is not finite or not in the support.
        """
        outside = count_outside(self.support, z)
        if outside:
            raise SupportError(
                f"{self.title()}: {outside} values are not finite or outside the support.",
                "Take more steps, or a sampler that preserves the support.",
            )
        return z

    def decode_unchecked(self, z: Tensor) -> Tensor:
        """`decode` without its check, for pictures of states that may lie outside the support; default: `decode`."""
        return self.decode(z)

    def log_abs_det(self, z: Tensor, x: Tensor) -> Tensor:
        """`log |det ∂x/∂z|` where `x = decode(z)`, float64 `(B,)` on the CPU: `log p_X(x) = log p_Z(z) − log |det ∂x/∂z|`.

        Default: that of a `decode` that takes entry to entry.

        Raises:
            CompositionError: where data have no density of their own: the state holds more than they do.
        """
        if tuple(self.state_shape(x.shape)) != tuple(x.shape):
            raise CompositionError(
                f"The state of '{self.title()}' holds more than the data, whose own density the flow does not give.",
                "Choose a process without auxiliary states.",
            )
        return along(self.decode, z)[1].abs().log().cpu().double().reshape(len(x), -1).sum(1)

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

    def noise_level(self, t: Tensor) -> Tensor | None:
        """Noise to signal `σ/α` at `t`, float64, rising with `t`; default: None, the process has none, and `t` is its only clock."""
        return None

    def time_at(self, level: Tensor) -> Tensor:
        """The time at which `noise_level` is `level`, float64: by interpolation of its logarithm in a fine table, then corrected twice.

        Levels beyond those of `t_span` give the nearer end of `t_span`.

        Raises:
            CompositionError: for a process without noise level.
        """
        levels, knots = _level_table(self)
        target = level.double().log()
        right = torch.searchsorted(levels, target.contiguous()).clamp(1, len(levels) - 1)
        slope = (knots[right] - knots[right - 1]) / (levels[right] - levels[right - 1])
        t = knots[right - 1] + slope * (target - levels[right - 1])
        for _ in range(2):
            t = t.clamp(*self.t_span)
            t = t + slope * (target - _log_level(self, t))
        return t.clamp(*self.t_span)

    def denoised(self, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """`E[z_0 | z_t = z]` from the score `s` of `z`, shaped like `z`.

        Raises:
            CompositionError: where the score does not tell, the default.
        """
        raise CompositionError(f"The score of '{self.title()}' does not give its denoiser.", "Choose an affine process.")

    def start_from(self, x: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """State at `t` of a sample that starts from given data; default: the data noised to `t`.

        Override it where sampling starts from the data as they are, as at the end of a bridge: `encode(x, noise)`, at `hi` alone.

        Args:
            x: data, `(B, *event)`.
            t: where the steps begin, 0-dim.
            noise: keyed by the samples' indices.

        Returns:
            The state, `(B, *state)`.

        Raises:
            CompositionError: where the process cannot start from data, or not at `t`.
        """
        return self.perturb(x, t, noise)

    def own_sampler(self) -> str | None:
        """Spec string `NAME[:key=value,…]` of the sampler that this process brings, which is chosen where none is asked for; None: none."""
        return None

    @abstractmethod
    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """A draw of `z_t | x_0`; at `t = 0` exactly `encode(x0)`."""

    @abstractmethod
    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """A draw of `z_1` for data of `shape`, with dtype and device of `like`."""

    def prior_log_prob(self, z: Tensor) -> Tensor:
        """Log-density of what `prior` draws, at states `z`: nats, float64 `(B,)` on the CPU.

        Raises:
            CompositionError: where it is not known, the default.
        """
        raise unknown_prior(self.title())


def unknown_prior(whose: str) -> CompositionError:
    """The error for a prior whose density nobody gives."""
    return CompositionError(
        f"The density of the prior of '{whose}' is not known.", "Give it as `prior`, or define `prior_log_prob` where `prior` is defined."
    )


def _log_level(sde: Process, t: Tensor) -> Tensor:
    level = sde.noise_level(t)
    if level is None:
        raise CompositionError(f"'{sde.title()}' has no noise level.", "Ask for times themselves.")
    return level.log()


@lru_cache(maxsize=64)
def _level_table(sde: Process) -> tuple[Tensor, Tensor]:
    lo, hi = sde.t_span
    t = torch.linspace(math.sqrt(lo), math.sqrt(hi), 8193, dtype=torch.float64) ** 2
    return _log_level(sde, t), t


def count_outside(support: Constraint, x: Tensor) -> int:
    """How many values of `x` are not finite or not in `support`; how many rows, where the support judges whole rows."""
    inside, finite = support.check(x), torch.isfinite(x)
    if finite.ndim > inside.ndim:
        finite = finite.flatten(inside.ndim).all(-1)
    return int((~(inside & finite)).sum())


class Supervised(Process):
    """A process that says what a network learns: the mean of `target` given the noised state. Abstract: `target`."""

    in_words = "a process that says what its network learns"
    learns: ClassVar[str]
    """What that mean is, in words."""

    @abstractmethod
    def target(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """What a network's answer at `z_t = z` regresses on, so that it learns `E[target | z_t]`.

        Args:
            z: noised state, `(B, *state)`.
            x0: the clean data it came from, `(B, *event)`.
            t: time, 0-dim or `(B, 1, …, 1)`.

        Returns:
            The target, shaped like `z`, in its dtype.
        """

    @property
    def knows_density(self) -> bool:
        """Whether `log_prob` answers. Default: whether it is overridden; override this too where that depends on a field."""
        return type(self).log_prob is not Supervised.log_prob

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`log p(z_t | x_0)`, summed over all that is no batch or event entry. Optional.

        Raises:
            NotImplementedError: for a process that knows its target alone.
        """
        raise NotImplementedError(f"{self.title()} offers no transition density")


class Conditional(Supervised):
    """A process whose conditional score is known. One of `log_prob` and `score` is overridden."""

    in_words = "a process whose conditional score is known"
    learns = "the score of the noised data"

    def target(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`score`: its mean given `z_t` is the score of the marginals (Vincent 2011)."""
        return self.score(z, x0, t)

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`∇_z log p(z_t | x_0)`, shaped like the state. Default: autograd of `log_prob`."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = z.detach().clone().requires_grad_()
            return torch.autograd.grad(self.log_prob(leaf, x0, t).sum(), leaf)[0]

    def score_error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        """How much a squared error of the score counts at `z`, entry by entry, in losses that compare with a known score; default: 1.

        Where `g` vanishes, the score grows as `1/g`: its errors there are large numbers that the reversal, which asks for `g gᵀ s`,
        does not feel. `g²`, less its scale, makes them even.
        """
        return torch.ones_like(z)


class Denoised(Supervised):
    """A process whose network learns the denoiser `E[z_0 | z_t]`; its marginals need have no score. Abstract: `denoiser_from_output`.

    Where the marginals have a score that follows from the denoiser, `score_from_denoiser` says how.
    """

    in_words = "a process whose network learns a denoiser"
    learns = "the denoiser E[z_0 | z_t]"

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """Data to state at `t = 0`, which is what the denoiser estimates; no noise enters. Default: the data themselves."""
        return x

    def target(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`z_0`: its mean given `z_t` is the denoiser."""
        return self.encode(x0)

    @abstractmethod
    def denoiser_from_output(self, out: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """From a network's output to the denoiser.

        Args:
            out: what the network answered to `network_input(z, t)`, of that shape.
            z: noised state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.

        Returns:
            An estimate of `E[z_0 | z_t = z]`, shaped like `z`.
        """

    def error_scale(self, t: Tensor) -> Tensor:
        """Size of the denoiser's errors that losses take for one, float64, shaped like `t`; default: 1 at every time."""
        return torch.ones_like(t, dtype=torch.float64)

    def score_from_denoiser(self, denoised: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """`∇ log p_t(z)` from `E[z_0 | z_t = z]`, shaped like the state; default: there is none.

        Raises:
            CompositionError: where the score does not follow from the denoiser.
        """
        raise CompositionError(
            f"'{self.title()}' has no score: its network learns {self.learns}.", "Ask its model for `denoise`, or choose another process."
        )
