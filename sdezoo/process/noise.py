"""Noise: the only door through which random numbers enter.

A `Noise` hands out standard normal and uniform numbers, or applies any torch sampler that takes a `generator`. Two
rules hold for both sources: numbers are drawn in float32 on the generator's device and then cast, so that a float64
run sees the same noise as a float32 one; and the global generator of torch is never touched.

`KeyedNoise` gives row `r` of seed `s`, when it asks for `n` normal numbers for the `k`-th time, numbers that depend on
nothing but `(s, r, n, k)`; uniform ones likewise. Neither the batch it is drawn in matters, nor the process, nor what
else was asked for. Samples 0 to 63 of one seed are thus 64 keys, each of which may be drawn alone.

Its streams are blocked, since a call of a generator costs as much as hundreds of numbers. Rows are taken together in
groups: row `r` is in group `⌊r / G⌋`, which has a generator of its own. That fills `(R, G, n)` numbers at a time, those of
`R` requests, and a batch that holds a part of the group takes its slice. The shape follows from `n` alone: `G` is the
greatest power of two up to 64 with `G n ≤ 2⁸`, and `R` the greatest of 20, 10, 5, 2 with `R G n ≤ 2¹³`; or else they are 1.
A group never draws more than 2¹³ numbers at once, or one event, and for a row without companions at most 2⁸ a request.

Generators are seeded with `a + b i mod 2³²` for group `i`, where `a` and the odd `b` come from a hash of the seed, of what
is drawn and of `n`: no two of 2³² groups have the same. Torch keeps 32 bits of a CPU generator's seed, and of 50,000 hashes
of that length two agree with probability 1/4; they would make two samples the same.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

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

    def gamma(self, alpha: Tensor) -> Tensor:
        """Numbers with Gamma's law of shape `alpha` and scale 1, shaped like `alpha`, which has the batch in front."""
        # torch offers no public draw of Gamma laws that takes a generator.
        return self.draw(torch._standard_gamma, alpha)  # pyright: ignore[reportPrivateImportUsage]

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """Standard normal numbers of `shape` (default: that of `like`), with dtype and device of `like`."""
        return self._fill(torch.randn, like, shape)

    def uniform(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """Numbers uniform on [0, 1) of `shape` (default: that of `like`), with dtype and device of `like`."""
        return self._fill(torch.rand, like, shape)

    def _fill(self, fn: Callable[..., Tensor], like: Tensor, shape: Sequence[int] | None) -> Tensor:
        pattern = torch.empty(()).expand(tuple(like.shape if shape is None else shape))
        return self.draw(lambda rows, generator: fn(rows.shape, generator=generator, dtype=torch.float32), pattern).to(like)


class KeyedNoise(Noise):
    """Row `i` of every draw depends on (seed, rows[i]) and the requests before it alone.

    Args:
        seed: the seed of the run.
        rows: the index of each sample in the whole run, not in the batch: any integers, in any order.
        ahead: how many requests are drawn at once, at most; the numbers depend on it. 1 where few are made, as in training.
    """

    def __init__(self, seed: int, rows: Iterable[int], *, ahead: int = 20) -> None:
        self._seed, self._rows, self._ahead = seed, list(map(operator.index, rows)), ahead
        self._streams: dict[tuple[int, int], Iterator[Tensor]] = {}

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return self._next(_NORMAL, like, shape)

    def uniform(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return self._next(_UNIFORM, like, shape)

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Row `i` is `fn` of the tensors' row `i`, drawn on the CPU from a stream that only this row's `draw` reads."""
        on_cpu = [tensor.cpu() for tensor in tensors]
        rows = [fn(*(t[i] for t in on_cpu), generator=g) for i, g in enumerate(self._generators)]
        return torch.stack(rows).to(tensors[0].device)

    @cached_property
    def _generators(self) -> list[torch.Generator]:
        key = mix(self._seed, _ROW)
        return [_generator(key, row) for row in self._rows]

    def _next(self, kind: int, like: Tensor, shape: Sequence[int] | None) -> Tensor:
        shape = like.shape if shape is None else shape
        size = math.prod(shape[1:])
        if shape[0] != len(self._rows):
            raise ValueError(f"{shape[0]} rows were asked of a source keyed for {len(self._rows)}")
        stream = self._streams.get((kind, size))
        if stream is None:
            stream = self._streams[kind, size] = _requests(_FILLS[kind], mix(self._seed, kind, size), self._rows, size, self._ahead)
        drawn = next(stream)
        # A view costs as much as the numbers of a small row.
        return (drawn if drawn.shape == shape else drawn.reshape(shape)).to(like)


def mix(*key: int) -> int:
    """A 64-bit seed for a key of integers, by SplitMix64 folded over them: neighbouring keys give unrelated seeds."""
    state = 0
    for part in key:
        state = (state ^ (part & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def _generator(key: int, index: int) -> torch.Generator:
    return torch.Generator().manual_seed((key >> 32) + (key | 1) * index & 0xFFFFFFFF)


def _requests(fill: Callable[..., Tensor], key: int, rows: list[int], size: int, ahead: int) -> Iterator[Tensor]:
    """What requests of `size` numbers get, one after another: each `(len(rows), size)`."""
    width = max(size, 1)
    together = max((g for g in _TOGETHER if g * width <= _WIDTH), default=1)
    count = max((n for n in _REQUESTS if n <= ahead and n * together * width <= _NUMBERS), default=1)
    if rows == list(range(rows[0], rows[0] + len(rows))):
        groups, start = range(rows[0] // together, rows[-1] // together + 1), rows[0] % together
        take = partial(torch.narrow, dim=1, start=start, length=len(rows))
    else:
        groups = {group: place for place, group in enumerate(dict.fromkeys(row // together for row in rows))}
        places = torch.tensor([groups[row // together] * together + row % together for row in rows])
        take = partial(torch.index_select, dim=1, index=places)
    generators = [_generator(key, group) for group in groups]
    at_once = max(1, _COPIED // (len(groups) * together * width))
    while True:
        block = torch.empty(len(groups), count, together, size, dtype=torch.float32, device="cpu")
        # Each part is contiguous: torch fills others number by number.
        for part, generator in zip(block.unbind(), generators, strict=True):
            fill(part, generator=generator)
        for part in block.transpose(0, 1).split(at_once):
            yield from take(part.flatten(1, 2)).unbind()


_MASK = 2**64 - 1
_NORMAL, _UNIFORM, _ROW = range(3)
_FILLS = (Tensor.normal_, Tensor.uniform_)
_TOGETHER = (64, 32, 16, 8, 4, 2)
_WIDTH = 2**8
_REQUESTS = (20, 10, 5, 2)  # N steps ask for N: the prior, and one for each step but the last
_NUMBERS = 2**13
_COPIED = 2**16  # what is still in the cache when it is asked for
