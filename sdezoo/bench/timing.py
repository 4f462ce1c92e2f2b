"""Timing: single calls, and pairs of calls timed alternately so that drift of the machine affects both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

Reporter = Callable[..., None]
"""`report(done, total, detail="")`: reports the progress of a measurement."""


class Spread(NamedTuple):
    """Median and quartiles of repeated measurements."""

    median: float
    """Median."""
    low: float
    """Lower quartile."""
    high: float
    """Upper quartile."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Compute median and quartiles.

        Args:
            values: the measurements, at least one.
        """
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        return cls(median, low, high)


def seconds(call: Callable[[], object]) -> float:
    """Time one call, in seconds.

    Args:
        call: the function to call.
    """
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def alternating(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Time two functions alternately, so that drift of the machine affects both alike.

    Args:
        first: the function called first in each round.
        second: the function called second.
        rounds: number of rounds.

    Returns:
        Seconds of each call of `first`, and of `second`.
    """
    pairs = [(seconds(first), seconds(second)) for _ in range(rounds)]
    return [a for a, _ in pairs], [b for _, b in pairs]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread inside the context; restore the number of threads on exit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
