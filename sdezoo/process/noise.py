"""Noise: the only door through which random numbers enter.

A `Noise` hands out standard normal and uniform numbers, or applies any torch sampler that takes a `generator`. Two
rules hold for both sources: numbers are drawn in float32 on the generator's device and then cast, so that a float64
run sees the same noise as a float32 one; and the global generator of torch is never touched.

`KeyedNoise` gives every row of a batch a stream of its own, keyed by (seed, row): sample 17 of seed 0 sees the same
numbers whatever batch it is drawn in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor


class Noise:
    """One stream of random numbers for a whole batch, as training wants it.

    Args:
        generator: the source. Its device is where numbers are drawn.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    @classmethod
    def seeded(cls, *key: int) -> Noise:
        """A stream that depends on nothing but `key`, for example (seed, step)."""
        return cls(torch.Generator().manual_seed(mix(*key)))

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """`fn(*tensors, generator=g)`, for example `draw(torch.poisson, rate)`; every tensor has the batch in front."""
        at = self._generator.device
        return fn(*(tensor.to(at) for tensor in tensors), generator=self._generator).to(tensors[0].device)

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """Standard normal numbers of `shape` (default: that of `like`), with dtype and device of `like`."""
        return self._fill(torch.randn, like, shape)

    def uniform(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """Numbers uniform on [0, 1) of `shape` (default: that of `like`), with dtype and device of `like`."""
        return self._fill(torch.rand, like, shape)

    def _fill(self, fn: Callable[..., Tensor], like: Tensor, shape: Sequence[int] | None) -> Tensor:
        pattern = torch.empty(()).expand(tuple(like.shape if shape is None else shape))
        return self.draw(lambda rows, generator: fn(rows.shape, generator=generator), pattern).to(like)


class KeyedNoise(Noise):
    """One stream a row: row `i` of every draw comes from the stream keyed by (seed, rows[i]).

    Args:
        seed: the seed of the run.
        rows: the index of each sample in the whole run, not in the batch.
    """

    def __init__(self, seed: int, rows: Iterable[int]) -> None:
        self._generators = [torch.Generator().manual_seed(mix(seed, row)) for row in rows]
        self._block = torch.empty(len(self._generators), 0)
        self._used, self._requests = 0, 1

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """As `Noise.normal`, drawn in blocks: calling a row's generator costs more than a small row.

        Blocks hold 1, 2, 4, … up to 32 requests. Their sizes depend on those of the events alone, so a row still sees the
        same numbers in every batch.
        """
        rows, *event = like.shape if shape is None else shape
        size = math.prod(event)
        if rows != len(self._generators):
            raise ValueError(f"{rows} rows were asked of a source keyed for {len(self._generators)}")
        if self._used + size > self._block.shape[1]:
            length = size * max(1, min(self._requests, _NUMBERS // max(size, 1)))
            self._block = torch.stack([torch.randn(length, generator=g) for g in self._generators])
            self._used, self._requests = 0, min(2 * self._requests, _REQUESTS)
        drawn = self._block[:, self._used : self._used + size]
        self._used += size
        return drawn.reshape(rows, *event).to(like)

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Row `i` is `fn` of the tensors' row `i`, drawn on the CPU from that row's stream."""
        on_cpu = [tensor.cpu() for tensor in tensors]
        rows = [fn(*(t[i] for t in on_cpu), generator=g) for i, g in enumerate(self._generators)]
        return torch.stack(rows).to(tensors[0].device)


def mix(*key: int) -> int:
    """A 64-bit seed for a key of integers, by SplitMix64 folded over them: neighbouring keys give unrelated seeds."""
    state = 0
    for part in key:
        state = (state ^ (part & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


_MASK = 2**64 - 1
_REQUESTS = 32
_NUMBERS = 2**15
