"""Bridges: processes between two distributions, both given by data.

Snapshots lie at the knots `0 = k_0 < … < k_m = 1` of time; two ends are the snapshots at 0 and 1. Between neighbouring knots `a < b`, given
the states there, the state is the bridge of a Brownian motion `dz = ς dW`. With `u = (t − a)/(b − a)`::

    z_t = (1 − u) z_a + u z_b + ς √((b − a) u (1 − u)) ε

Time runs backward, as in every process of this package: sampling starts at 1, at rows of the last snapshot, and ends at 0. The reversed
process with the same distributions at every time, its Markovian projection, solves `dz = (D − z)/(t − a) dτ + ς dW` for `τ = −t`. A network
learns `D(z, t) = E[z_a | z_t = z]`, the state expected at the knot below (Shi et al., arXiv 2303.16852, proposition 2 and eq. 9, where the
target of the drift is written `(z_b − z_a) − ς √(u/(1 − u)) ε`). The other direction is the same process with time reversed
(`Bridge.reversed`). Alternating fits of the two converge to the Schrödinger bridge: of all processes with these ends, the one closest to
the Brownian motion. Several snapshots: one network for all spans, by global time (multi-marginal).

From `z_t` to the state at the knot below it is typically far, root mean square, if independent ends differ by `ℓ`::

    c² = u² ℓ² + ς² (b − a) u (1 − u)
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from sdezoo.errors import CompositionError
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process

FIRST = 1e-3
"""The first time after a knot at which a network is asked, as a fraction of the span."""


class Bridge(Process):
    """A process between two ends, or along snapshots. Abstract: `knots`, `rate`, `distance`, `reversed`, `along`,
    `own_time`, `user_time`; a field `forward`."""

    in_words: ClassVar[str] = "a bridge (a process between two ends that are both data)"

    @property
    @abstractmethod
    def knots(self) -> tuple[float, ...]:
        """Times of the snapshots, from 0 to 1, increasing."""

    @property
    @abstractmethod
    def rate(self) -> float:
        """`ς`, the noise scale of the whole time from 0 to 1."""

    @property
    @abstractmethod
    def distance(self) -> float:
        """`ℓ`, the root mean square difference of the ends of independent pairs, per entry of the state."""

    @abstractmethod
    def reversed(self) -> Self:
        """The bridge of the other direction: time `t` of one is `1 − t` of the other."""

    forward: bool
    """Whether sampling goes from the first snapshot to the last."""

    @abstractmethod
    def along(self, times: Sequence[float]) -> Self:
        """The bridge through snapshots at these times.

        Args:
            times: times in the user's unit, increasing, at least two.

        Raises:
            ParameterError: if the bridge was given other times.
        """

    @abstractmethod
    def own_time(self, time: Tensor) -> Tensor:
        """The process time, in [0, 1], of a time in the user's unit.

        Args:
            time: times, float64.
        """

    @abstractmethod
    def user_time(self, t: Tensor) -> Tensor:
        """The time in the user's unit of a process time.

        Args:
            t: process times, float64.
        """

    @property
    def t_span(self) -> tuple[float, float]:
        return FIRST * self.knots[1], 1.0

    def scale(self, t: Tensor) -> Tensor:
        """`ς √t`: noise of the Brownian motion from the state at 0."""
        return self.rate * t.sqrt()

    def noise_scale(self, a: float, b: float) -> float:
        """Standard deviation of the Brownian motion over the span from `a` to `b`.

        Args:
            a: process time at its start.
            b: process time at its end.
        """
        return self.rate * math.sqrt(b - a)

    def span(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The knots `a < t ≤ b` around times above 0; at a knot, the span below it.

        Args:
            t: times, of any shape.

        Returns:
            `a` and `b`, float64, shaped like `t`.
        """
        knots, place = torch.tensor(self.knots, dtype=torch.float64, device=t.device), self.place(t)
        return knots[place], knots[place + 1]

    def place(self, t: Tensor) -> Tensor:
        """The index of the span that holds a time, counted from the lowest, int64, shaped like `t`.

        Args:
            t: time, of any shape.
        """
        knots = torch.tensor(self.knots, dtype=torch.float64, device=t.device)
        return torch.searchsorted(knots, t.double().contiguous()).clamp(1, len(knots) - 1) - 1

    def between(self, z0: Tensor, z1: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Sample `z_t` given the states at the knots around `t`; at a knot exactly the state there.

        Args:
            z0: state at the knot below, `(B, *state)`.
            z1: state at the knot above, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
            noise: random numbers.
        """
        a, b = self.span(t)
        u = (t.double() - a) / (b - a)
        spread = self.rate * ((b - a) * u * (1 - u)).clamp(min=0).sqrt()
        return _like(1 - u, z0) * z0 + _like(u, z0) * z1 + _like(spread, z0) * noise.normal(z0)

    def target(self, z: Tensor, z0: Tensor, t: Tensor) -> Tensor:
        """The drift toward the state at the knot below, `(z_a − z)/(t − a)`; that toward the knot above is the target of `reversed()`.

        Args:
            z: state at `t`, `(B, *state)`.
            z0: state at the knot below, `(B, *state)`.
            t: time above 0, 0-dim or `(B, 1, …, 1)`.
        """
        a, _ = self.span(t)
        return (z0 - z) / _like(t.double() - a, z)

    def error_scale(self, t: Tensor) -> Tensor:
        """`c`, the typical distance from `z_t` to the state at the knot below: float64, shaped like `t`.

        Args:
            t: time above 0.
        """
        a, b = self.span(t)
        u = (t.double() - a) / (b - a)
        return ((u * self.distance) ** 2 + self.rate**2 * (b - a) * u * (1 - u)).sqrt()

    def start_from(self, x: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """The row as it is, at a knot."""
        if float(t) not in self.knots[1:]:
            raise CompositionError(
                f"'{self.title()}' starts from rows of a snapshot, and there is none at t = {float(t):g}.", "Leave out the time."
            )
        return self.encode(x, noise)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """The Brownian motion from `x0`, which knows no other end."""
        z = self.encode(x0, noise)
        return z + _like(self.scale(t.double()), z) * noise.normal(z)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """The Brownian motion from the origin. A trained model has no prior: it starts from rows."""
        return self.rate * noise.normal(like, self.state_shape(shape))


def _like(k: Tensor, z: Tensor) -> Tensor:
    return k.to(z)
