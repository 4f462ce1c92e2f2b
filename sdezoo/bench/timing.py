"""Clocks: what a call takes, beside another one that the same drift of the machine hits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

Reporter = Callable[..., None]
"""`report(done, total, detail="")`: how far a measurement is."""


class Spread(NamedTuple):
    """The median of repeated measurements, and the quartiles on both sides of it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        return cls(median, low, high)


def seconds(call: Callable[[], object]) -> float:
    """How long `call()` takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def alternating(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of both calls, by turns, so that a machine whose speed drifts is as slow for the one as for the other."""
    pairs = [(seconds(first), seconds(second)) for _ in range(rounds)]
    return [a for a, _ in pairs], [b for _, b in pairs]


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread; as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
