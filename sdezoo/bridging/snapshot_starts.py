"""Starts of a bridge at one snapshot, for the sampler of `sdezoo.sampling`: from there over one span, or to the end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdezoo.process.process import Process
from sdezoo.sampling.start import AtRows

_CLOSE = 1e-9


@dataclass(frozen=True, eq=False)
class AtKnot(AtRows):
    """Start at a knot from given rows, and stop at an earlier time.

    Args:
        x: rows, `(N, *event)`, in the domain of the process; sample `i` starts at row `i`.
        first: the process time of the rows, a knot.
        last: the process time at which to stop, a time of the grid.
    """

    first: float = 1.0
    last: float = 0.0

    def _told(self) -> str:
        return f"{type(self).__name__} {self.first} {self.last}"

    def times(self, grid: Tensor, sde: Process) -> Tensor:
        return grid[(grid <= self.first) & (grid >= self.last)]


@dataclass(frozen=True, eq=False)
class ThroughTimes(AtRows):
    """Start at the last knot from given rows, and pass given times on the way.

    Args:
        x: rows, `(N, *event)`, in the domain of the process; sample `i` starts at row `i`.
        pass_by: process times to pass, in [0, 1], beside those of the grid.
    """

    pass_by: tuple[float, ...] = ()

    def _told(self) -> str:
        return f"{type(self).__name__} {self.pass_by}"

    def times(self, grid: Tensor, sde: Process) -> Tensor:
        passed = torch.tensor(self.pass_by, dtype=torch.float64)
        own = grid[((grid[:, None] - passed).abs() > _CLOSE).all(1)]
        return torch.cat([own, passed]).unique().flip(0)
