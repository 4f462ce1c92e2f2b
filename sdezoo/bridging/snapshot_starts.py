"""Starts of a bridge at a snapshot, for the sampler of `sdezoo.sampling`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdezoo.process.process import Process
from sdezoo.sampling.start import AtRows

_CLOSE = 1e-9


@dataclass(frozen=True, eq=False)
class AtKnot(AtRows):
    """Start at a knot from given rows, pass given times on the way, and stop at a time.

    Args:
        x: rows, `(N, *event)`, in the domain of the process; sample `i` starts at row `i`.
        first: process time of the rows, a knot.
        last: process time at which to stop, one of the sampler's grid or of `pass_by`.
        pass_by: process times to pass, beside those of the sampler's grid.
    """

    x: Tensor
    first: float = 1.0
    last: float = 0.0
    pass_by: tuple[float, ...] = ()

    def _told(self) -> str:
        return f"{type(self).__name__} {self.first} {self.last} {self.pass_by}"

    def times(self, grid: Tensor, sde: Process) -> Tensor:
        passed = torch.tensor(self.pass_by, dtype=torch.float64)
        own = grid[((grid[:, None] - passed).abs() > _CLOSE).all(1)]
        every = torch.cat([own, passed]).unique().flip(0)
        return every[(every <= self.first) & (every >= self.last)]
