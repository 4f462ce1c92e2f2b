"""No plugin: what the bridges `bridge` and `geometric-bridge` share, a Brownian motion of constant rate through snapshots."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

from torch import Tensor
from torch.distributions.constraints import Constraint

from sdezoo.errors import ParameterError
from sdezoo.parameters import Positive
from sdezoo.process.bridge import Bridge
from sdezoo.process.noise import Noise


@dataclass(frozen=True)
class Pinned(Bridge):
    """A Brownian motion of constant rate, pinned at snapshots. Abstract: `support`."""

    sigma: Positive = 1.0
    """Noise scale `σ` per square root of the time unit, in units of the state; the two ends of `--target` are one time unit apart."""
    times: tuple[float, ...] | None = None
    """Times of the snapshots, increasing; None: 0 and 1, or set from the data."""
    forward: bool = False
    """Whether sampling goes from the first snapshot to the last; set by each round of training."""
    gap: Positive | None = None
    """Root mean square difference `ℓ` of independent ends, per entry of the state; None: set from the data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self._times) < 2 or any(not a < b for a, b in pairwise(self._times)):
            listed = ", ".join(f"{time:g}" for time in self._times)
            raise ParameterError(f"{self.title()}: times=({listed}) do not increase, or are fewer than two.", "Give increasing times.")

    @property
    @abstractmethod
    def support(self) -> Constraint: ...

    @property
    def knots(self) -> tuple[float, ...]:
        shares = [(time - self._first) / self._length for time in self._times]
        return tuple(1 - share for share in reversed(shares)) if self.forward else tuple(shares)

    @property
    def rate(self) -> float:
        return self.sigma * self._length**0.5

    @property
    def distance(self) -> float:
        return 2**0.5 if self.gap is None else self.gap

    def reversed(self) -> Self:
        return replace(self, forward=not self.forward)

    def along(self, times: Sequence[float]) -> Self:
        if self.times is not None and self.times != tuple(times):
            given, found = (", ".join(f"{time:g}" for time in each) for each in (self.times, times))
            raise ParameterError(f"times=({given}) are given, and the data have snapshots at ({found}).", "Leave out the times.")
        return replace(self, times=tuple(times))

    def own_time(self, time: Tensor) -> Tensor:
        share = (time.double() - self._first) / self._length
        return 1 - share if self.forward else share

    def user_time(self, t: Tensor) -> Tensor:
        share = 1 - t.double() if self.forward else t.double()
        return self._first + self._length * share

    def adapted(self, x0: Tensor) -> Self:
        if self.gap is not None:
            return self
        gap = float((2 * self.encode(x0, Noise.seeded(0)).double().var(0, correction=0).mean()).sqrt())
        return replace(self, gap=gap if gap > 0 else 1.0)

    @property
    def _times(self) -> tuple[float, ...]:
        return (0.0, 1.0) if self.times is None else self.times

    @property
    def _first(self) -> float:
        return self._times[0]

    @property
    def _length(self) -> float:
        return self._times[-1] - self._first
