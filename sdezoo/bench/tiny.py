"""A tiny network, so that the time of sampling is mostly the sampler's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BATCH, ENTRIES = 64, 2
"""Batch size, and number of entries of the state."""


class TinyMLP(nn.Module):
    """A multilayer perceptron 3 → 64 → 64 → 2. Its input is a state of two entries and the noise level.

    The weights are the same in every run. Called with `x` `(B, 2)` and `level`, 0-dim or `(B,)`, it returns `(B, 2)`.
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
    """A sampler to be timed."""

    library: str
    """Name of its library."""
    sampler: str
    """Name or spec string of the sampler."""
    process: str
    """The noise process or schedule, as named by the library."""
    prepare: Callable[[], Callable[[], object]]
    """Builds the objects that a user builds once, and returns the sampling call."""


def bare(net: nn.Module, calls: int) -> Callable[[], object]:
    """Return a function that calls the network repeatedly on the same inputs, and does nothing else.

    Args:
        net: the network.
        calls: number of calls.
    """
    x, level = torch.zeros(BATCH, ENTRIES), torch.zeros(BATCH)

    def run() -> None:
        with torch.no_grad():
            for _ in range(calls):
                net(x, level)

    return run


def calls_of(net: nn.Module, run: Callable[[], object]) -> int:
    """Count the calls of a network.

    Args:
        net: the network.
        run: a function that calls it.
    """
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
