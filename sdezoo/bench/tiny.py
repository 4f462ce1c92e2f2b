"""The smallest contest: a network that costs next to nothing, so that little but a sampler's own arithmetic is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BATCH, ENTRIES = 64, 2


class TinyMLP(nn.Module):
    """A multilayer perceptron 3 → 64 → 64 → 2: two entries of a state, and a number for the noise level.

    Called with x (B, 2) and level, 0-dim or (B,); returns (B, 2). Its weights are the same in every run.
    """

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(ENTRIES + 1, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, ENTRIES))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return self.layers(torch.cat([x, level.expand(len(x))[:, None]], 1))


@dataclass(frozen=True)
class Contestant:
    """A sampler of some library, ready to be timed."""

    library: str
    sampler: str
    process: str
    """The noise process or schedule, as its library calls it."""
    prepare: Callable[[], Callable[[], object]]
    """Builds afresh what a user builds once; returns the sampling call."""


def bare(net: nn.Module, calls: int) -> Callable[[], object]:
    """So many calls of `net` on the same inputs, and nothing else."""
    x, level = torch.zeros(BATCH, ENTRIES), torch.zeros(BATCH)

    def run() -> None:
        with torch.no_grad():
            for _ in range(calls):
                net(x, level)

    return run


def calls_of(net: nn.Module, run: Callable[[], object]) -> int:
    """How often `run` calls `net`."""
    count = 0

    def add(*_: object) -> None:
        nonlocal count
        count += 1

    hook = net.register_forward_hook(add)
    try:
        run()
    finally:
        hook.remove()
    return count
