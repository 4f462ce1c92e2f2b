"""Noise processes: how data turn into noise.

A process maps clean data `x0` of shape `(B, *event)` to a *state* `z_t` for `t` in [0, 1]: data at `t = 0`, the prior
at `t = 1`. The process runs in the state. The state holds coordinates of the data (`log x` for geometric Brownian
motion) and any auxiliary variables (a velocity, a memory). `encode` and `decode` convert between data and state.

Time `t` broadcasts against the state: a 0-dim float64 tensor in sampling, `(B, 1, …, 1)` in training.

The class of a process declares its capabilities:

- `Process`: noises data (`perturb`) and has a prior;
- `Supervised`: defines a regression target from clean data and their noised state; one of the next two;
- `Conditional`: knows the score of `p(z_t | x_0)`; a network learns its mean, the score of the marginals;
- `Denoised`: a network learns the denoiser `E[z_0 | z_t]`; the score of the marginals is not needed;
- `ForwardSDE` (in `sde`): has a drift and a diffusion, so time can be reversed;
- `AffineSDE` (in `affine`): is Gaussian in its coordinates; everything else is derived.
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

from sdezoo.errors import CompositionError, SupportError, unknown_prior
from sdezoo.parameters import Plugin
from sdezoo.process.columns import ColumnFit, count_outside, positive_without_zero
from sdezoo.process.differentiation import along, outside_transforms
from sdezoo.process.noise import Noise

Shape = tuple[int, ...]


class Process(Plugin, ABC):
    """A noise process `z_t`, `t` in [0, 1]. Abstract: `perturb` and `prior`."""

    in_words: ClassVar[str] = "a process"
    """How error messages name this capability: a phrase after *needs*. A class that does not set it is called by its name."""

    @property
    def support(self) -> Constraint:
        """The set that contains the data. Default: the real line."""
        return constraints.real

    @property
    def reflecting_boundary(self) -> bool:
        """Whether the density of noised data is positive at the boundary of the state: integration by parts then has a boundary term."""
        return False

    @property
    def multiplicative(self) -> bool:
        """Whether the data are positive and the noise proportional to them, so a Hyvärinen score exists. Default: False."""
        return False

    @property
    def default_output(self) -> str:
        """The default output parameterization of a network: a key of `sdezoo.learning.output.OUTPUTS`."""
        return "epsilon"

    @property
    def tail(self) -> float:
        """Tail index `a` of the prior's noise, `P(|e| > u) ~ u^{−a}`. Infinite if the tail falls faster than any power, the default.

        A network grows at most linearly, and makes no tail heavier. 0: it reaches every power law, as from exponential tails of `ln x`.
        """
        return math.inf

    @property
    def prior_from_data(self) -> bool:
        """Whether the prior keeps something of the data, such as norms, which `adapted` measures. Default: False."""
        return False

    @property
    def t_span(self) -> tuple[float, float]:
        """`(lo, hi)`: the times at which the score is evaluated. A sampler steps from `hi` to `lo`, then to 0 without noise."""
        return 1e-3, 1.0

    @property
    def row_shape(self) -> Shape | None:
        """Shape of the rows of data that the process takes, without the batch. Default: None, any."""
        return None

    def adapted(self, x0: Tensor) -> Self:
        """Return the process with every parameter that was left to the data estimated from `x0` `(N, *event)`. Default: itself."""
        return self

    def findings(self, names: Sequence[str]) -> tuple[str, ...]:
        """Phrases on what `adapted` has found to hold between columns, called by their `names`, and every sample keeps. Default: none."""
        return ()

    @classmethod
    def column_fit(cls, column: Tensor) -> ColumnFit | None:
        """How well the process fits a column of a table, for `--sde auto`. Default: None, it is not a candidate.

        Args:
            column: values of the column, `(N,)`, float64, not all the same.
        """
        return None

    @classmethod
    def shares_fit(cls, rows: Tensor) -> ColumnFit | None:
        """As `column_fit`, for columns that sum to 1 in every row: `rows` is `(N, k)`, float64. Default: None."""
        return None

    def for_columns(self, names: Sequence[str], sources: Sequence[int]) -> Self:
        """Return the process for the encoded columns of a table. Default: itself. Override it if a parameter names columns.

        Args:
            names: names of the table's columns.
            sources: for each encoded column, the index of the table's column that it encodes.

        Raises:
            DataError: if a column that is named does not exist.
        """
        return self

    def rounds_up(self, event: Sequence[int]) -> Tensor:
        """Which entries of an `event` are rounded up if they are whole numbers, bool. Default: those on the positive numbers without 0."""
        return positive_without_zero(self.support, event)

    def state_shape(self, shape: Sequence[int]) -> Shape:
        """Shape of the state for data of `shape`, both with the batch dimension. Default: the same shape."""
        return tuple(shape)

    def encode(self, x: Tensor, noise: Noise) -> Tensor:
        """Map data to the state at `t = 0`.

        Args:
            x: data, `(B, *event)`.
            noise: random numbers for auxiliary variables with a random initial value.
        """
        return x

    def decode(self, z: Tensor) -> Tensor:
        """Map the state to data. Default: the state itself.

        Args:
            z: state, `(B, *state)`.

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
        """`decode` without its check, for plots of states that may lie outside the support. Default: `decode`."""
        return self.decode(z)

    def log_abs_det(self, z: Tensor, x: Tensor) -> Tensor:
        """`log |det ∂x/∂z|` for `x = decode(z)`, float64 `(B,)` on the CPU: `log p_X(x) = log p_Z(z) − log |det ∂x/∂z|`.

        The default assumes an element-wise `decode`.

        Args:
            z: state, `(B, *state)`.
            x: its data, `decode(z)`.

        Raises:
            CompositionError: if the state is larger than the data, so the flow does not give the density of the data.
        """
        if tuple(self.state_shape(x.shape)) != tuple(x.shape):
            raise CompositionError(
                f"The state of '{self.title()}' holds more than the data, so the flow does not give the density of the data.",
                "Choose a process without auxiliary variables.",
            )
        return along(self.decode, z)[1].abs().log().cpu().double().reshape(len(x), -1).sum(1)

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        """The network's input at state `z` and time `t`, `(B, …)`; the output has the same shape. Default: the whole state."""
        return z

    def network_input_shape(self, event: Sequence[int]) -> Shape:
        """Shape of the network's input and output, without the batch, for data of event shape `event`."""
        state = torch.zeros(self.state_shape((1, *event)))
        return tuple(self.network_input(state, torch.tensor(self.t_span[1], dtype=torch.float64)).shape[1:])

    def noise_conditioning(self, t: Tensor) -> Tensor:
        """The network's time input, shaped like `t` and of order one. Default: `t`."""
        return t

    def score_from_output(self, s: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Convert the network's score `s`, shaped like `network_input(z, t)`, to the score of the whole state. Default: `s`."""
        return s

    def scale(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at `t`: a network that predicts noise gives the score `-output / scale`. Default: `sqrt(t)`."""
        return t.sqrt()

    def noise_level(self, t: Tensor) -> Tensor | None:
        """Noise-to-signal ratio `σ/α` at `t`, float64, increasing in `t`. Default: None, for a process that has none."""
        return None

    def time_at(self, level: Tensor) -> Tensor:
        """The time at which `noise_level` equals `level`, float64.

        Interpolates the log noise level in a fine table, then corrects twice. Levels outside the range give the nearer end of `t_span`.

        Args:
            level: noise levels `σ/α`, of any shape.

        Raises:
            CompositionError: if the process has no noise level.
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
        """`E[z_0 | z_t = z]` from the score `s` at `z`, shaped like `z`.

        Raises:
            CompositionError: if the denoiser does not follow from the score, the default.
        """
        raise CompositionError(f"The score of '{self.title()}' does not give its denoiser.", "Choose an affine process.")

    def start_from(self, x: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """The initial state at `t` for sampling that starts from given data. Default: the data noised to `t`.

        Override it if sampling starts from the data without noise, as at the end of a bridge: `encode(x, noise)`, at `hi` only.

        Args:
            x: data, `(B, *event)`.
            t: start time of the sampler, 0-dim.
            noise: random numbers, keyed by sample index.

        Returns:
            The state, `(B, *state)`.

        Raises:
            CompositionError: if the process cannot start from data, or not at `t`.
        """
        return self.perturb(x, t, noise)

    def own_sampler(self) -> str | None:
        """Spec `NAME[:key=value,…]` of the default sampler for this process. None: it has no sampler of its own."""
        return None

    @abstractmethod
    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Sample the noised state `z_t | x_0`, `(B, *state)`; at `t = 0` exactly `encode(x0)`.

        Args:
            x0: clean data, `(B, *event)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
            noise: random numbers.
        """

    @abstractmethod
    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Sample the prior `z_1`.

        Args:
            shape: shape of the data, `(B, *event)`.
            noise: random numbers.
            like: a tensor with the dtype and device of the result.
        """

    def prior_log_prob(self, z: Tensor) -> Tensor:
        """Log-density of the prior at states `z`, in nats: float64 `(B,)` on the CPU.

        Raises:
            CompositionError: if the density is not known, the default.
        """
        raise unknown_prior(self.title())


def _log_level(sde: Process, t: Tensor) -> Tensor:
    level = sde.noise_level(t)
    if level is None:
        raise CompositionError(f"'{sde.title()}' has no noise level.", "Pass times instead of noise levels.")
    return level.log()


@lru_cache(maxsize=64)
@outside_transforms
def _level_table(sde: Process) -> tuple[Tensor, Tensor]:
    lo, hi = sde.t_span
    t = torch.linspace(math.sqrt(lo), math.sqrt(hi), 8193, dtype=torch.float64) ** 2
    return _log_level(sde, t), t


class Supervised(Process):
    """A process with a regression target: a network learns the mean of `target` given the noised state. Abstract: `target`."""

    in_words = "a process that defines a regression target"
    learns: ClassVar[str]
    """What the network learns, as a phrase for error messages."""

    @abstractmethod
    def target(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The regression target of the network at `z_t = z`, shaped like `z`, in its dtype: the network learns `E[target | z_t]`.

        Args:
            z: noised state, `(B, *state)`.
            x0: the clean data it came from, `(B, *event)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """

    @property
    def knows_density(self) -> bool:
        """Whether `log_prob` is available. Default: whether it is overridden; override this too if that depends on a field."""
        return type(self).log_prob is not Supervised.log_prob

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`log p(z_t | x_0)`, summed over all dimensions that are neither batch nor event. Optional.

        Raises:
            NotImplementedError: if the process knows only its target.
        """
        raise NotImplementedError(f"{self.title()} offers no transition density")


class Conditional(Supervised):
    """A process whose conditional score is known. Override `log_prob` or `score`."""

    in_words = "a process whose conditional score is known"
    learns = "the score of the noised data"

    def target(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The conditional score. Its mean given `z_t` is the score of the marginals (Vincent 2011)."""
        return self.score(z, x0, t)

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`∇_z log p(z_t | x_0)`, shaped like the state. Default: `log_prob` differentiated by autograd."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = z.detach().clone().requires_grad_()
            return torch.autograd.grad(self.log_prob(leaf, x0, t).sum(), leaf)[0]

    def log_prob_and_score(self, z: Tensor, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """`log_prob` and `score`, for the same arguments. Override it if most of their work is the same."""
        return self.log_prob(z, x0, t), self.score(z, x0, t)

    def score_error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        """Weight of the squared score error at `z`, shaped like `z`, in losses that compare with a known score. Default: 1.

        If `g` vanishes at some `z`, the score grows as `1/g` there, and the reverse process uses only `g gᵀ s`: weigh by `g²`."""
        return torch.ones_like(z)


class Denoised(Supervised):
    """A process whose network learns the denoiser `E[z_0 | z_t]`. Abstract: `denoiser_from_output`; optional: `score_from_denoiser`."""

    in_words = "a process whose network learns a denoiser"
    learns = "the denoiser E[z_0 | z_t]"

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """Map data to the state `z_0` that the denoiser estimates; `noise` is unused. Default: the data unchanged."""
        return x

    def target(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The clean state `z_0`. Its mean given `z_t` is the denoiser."""
        return self.encode(x0)

    @abstractmethod
    def denoiser_from_output(self, out: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Convert the network's output to the denoiser `E[z_0 | z_t = z]`, shaped like `z`.

        Args:
            out: output of the network at `network_input(z, t)`, of the same shape.
            z: noised state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """

    def error_scale(self, t: Tensor) -> Tensor:
        """Typical error of the denoiser at `t`, by which losses normalize: float64, shaped like `t`. Default: 1."""
        return torch.ones_like(t, dtype=torch.float64)

    def error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        """Weight of the squared error of the denoiser at `z`, in losses on `z_0`. Default: 1; override it if errors grow with `z`."""
        return torch.ones_like(z)

    def score_from_denoiser(self, denoised: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """`∇ log p_t(z)` from `denoised`, `E[z_0 | z_t = z]`; shaped like the state.

        Raises:
            CompositionError: if the score does not follow from the denoiser, the default.
        """
        raise CompositionError(
            f"'{self.title()}' has no score: its network learns {self.learns}.", "Call `denoise` on its model, or choose another process."
        )
