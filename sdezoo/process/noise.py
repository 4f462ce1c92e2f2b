"""Noise: the only source of random numbers.

A `Noise` returns standard normal and uniform numbers, or calls any torch sampler that takes a `generator`. Both classes
draw in float32 on the generator's device and then cast, so a float64 run sees the same noise as a float32 run. Neither
touches the global generator of torch.

With `KeyedNoise`, the `k`-th request of row `r` for `n` normal numbers under seed `s` returns numbers that depend only on
`(s, r, n, k)`. The same holds for uniform numbers. The batch, the process and other requests do not matter. Samples 0 to
63 of one seed are thus 64 keys, and each can be drawn alone.

Numbers are drawn in blocks, since one call of a generator costs as much as hundreds of numbers. Row `r` belongs to group
`⌊r / G⌋`, and each group has its own generator. The generator fills `(R, G, n)` numbers at a time, enough for `R` requests;
a batch that holds part of the group takes its slice. The block shape depends only on `n`: `G` is the greatest power of two
up to 64 with `G n ≤ 2⁸`, and `R` the greatest of 20, 10, 5, 2 with `R G n ≤ 2¹³`; otherwise they are 1. A group never draws
more than 2¹³ numbers at once, or one event. A row that is alone in its group costs at most 2⁸ numbers a request.

The generator of group `i` is seeded with `a + b i mod 2³²`, where `a` and the odd `b` come from a hash of the seed, the kind
of numbers and `n`: no two of 2³² groups share a seed. Torch keeps 32 bits of a CPU generator's seed, and of 50,000 hashes
of that length two agree with probability 1/4; these two samples would be identical.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor


class Noise:
    """One stream of random numbers for a whole batch, as used in training.

    Args:
        generator: the torch generator. Numbers are drawn on its device.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    @classmethod
    def seeded(cls, *key: int) -> Noise:
        """A stream that depends only on `key`, for example (seed, step)."""
        return cls(torch.Generator().manual_seed(mix(*key)))

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Return `fn(*tensors, generator=g)`, for example `draw(torch.poisson, rate)`.

        Args:
            fn: a sampler that takes a `generator`.
            tensors: its arguments; the first dimension of each is the batch.
        """
        at = self._generator.device
        return fn(*(tensor.to(at) for tensor in tensors), generator=self._generator).to(tensors[0].device)

    def gamma(self, alpha: Tensor) -> Tensor:
        """Gamma-distributed numbers with scale 1.

        Args:
            alpha: shape parameters; the first dimension is the batch. The result has the same shape.
        """
        # torch has no public Gamma sampler that takes a generator.
        return self.draw(torch._standard_gamma, alpha)  # pyright: ignore[reportPrivateImportUsage]

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """Standard normal numbers.

        Args:
            like: a tensor with the dtype and device of the result.
            shape: shape of the result, batch first. Default: the shape of `like`.
        """
        return self._fill(torch.randn, like, shape)

    def uniform(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """Uniform numbers in [0, 1).

        Args:
            like: a tensor with the dtype and device of the result.
            shape: shape of the result, batch first. Default: the shape of `like`.
        """
        return self._fill(torch.rand, like, shape)

    def _fill(self, fn: Callable[..., Tensor], like: Tensor, shape: Sequence[int] | None) -> Tensor:
        pattern = torch.empty(()).expand(tuple(like.shape if shape is None else shape))
        return self.draw(lambda rows, generator: fn(rows.shape, generator=generator, dtype=torch.float32), pattern).to(like)


class KeyedNoise(Noise):
    """Noise in which row `i` depends only on `seed`, `rows[i]` and its own earlier requests.

    Args:
        seed: the seed of the run.
        rows: the index of each sample in the whole run, not in the batch: any integers, in any order.
        ahead: the maximal number of requests drawn at once; the numbers depend on it. Use 1 for few requests, as in training.
    """

    def __init__(self, seed: int, rows: Iterable[int], *, ahead: int = 20) -> None:
        self._seed, self._rows, self._ahead = seed, list(map(operator.index, rows)), ahead
        self._streams: dict[tuple[int, int], Iterator[Tensor]] = {}

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return self._next(_NORMAL, like, shape)

    def uniform(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return self._next(_UNIFORM, like, shape)

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Apply `fn` to row `i` of the tensors for each `i`, on the CPU, from a stream that only `draw` of this row uses."""
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
            raise ValueError(f"requested {shape[0]} rows from noise keyed for {len(self._rows)} rows")
        stream = self._streams.get((kind, size))
        if stream is None:
            stream = self._streams[kind, size] = _requests(_FILLS[kind], mix(self._seed, kind, size), self._rows, size, self._ahead)
        drawn = next(stream)
        # Creating a view costs as much as drawing a small row.
        return (drawn if drawn.shape == shape else drawn.reshape(shape)).to(like)


def mix(*key: int) -> int:
    """Hash a key of integers to a 64-bit seed, by folding SplitMix64 over it: neighbouring keys give unrelated seeds."""
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
    """The answers to successive requests of `size` numbers, each `(len(rows), size)`."""
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
        # Each part is contiguous: torch fills non-contiguous tensors one number at a time.
        for part, generator in zip(block.unbind(), generators, strict=True):
            fill(part, generator=generator)
        for part in block.transpose(0, 1).split(at_once):
            yield from take(part.flatten(1, 2)).unbind()


_MASK = 2**64 - 1
_NORMAL, _UNIFORM, _ROW = range(3)
_FILLS = (Tensor.normal_, Tensor.uniform_)
_TOGETHER = (64, 32, 16, 8, 4, 2)
_WIDTH = 2**8
_REQUESTS = (20, 10, 5, 2)  # N steps make N requests: the prior, and one for each step but the last
_NUMBERS = 2**13
_COPIED = 2**16  # small enough to be still in the cache when it is read
