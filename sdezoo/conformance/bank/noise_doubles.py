"""Noise doubles: sources of random numbers that show what a plugin does with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sdezoo.process.noise import KeyedNoise, Noise


def keyed(count: int, seed: int = 0, first: int = 0) -> KeyedNoise:
    """Noise for rows `first`, `first + 1`, …"""
    return KeyedNoise(seed, range(first, first + count))


class Still(Noise):
    """Normal numbers that are all `value`: reads off the mean and standard deviation of a step."""

    def __init__(self, value: float | Tensor) -> None:
        self.value = value

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return torch.zeros(tuple(like.shape if shape is None else shape), dtype=like.dtype) + self.value


class Forbidden(Noise):
    """Noise that nobody may ask for."""

    def __init__(self) -> None:
        pass

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        raise AssertionError("noise was drawn where there must be none")

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return self.draw(torch.randn)


class Impulse(Noise):
    """Row `i` sees a 1 as its `i`-th normal number and 0 otherwise; rows beyond see 0 throughout.

    What is linear in its noise is known from that: the response to request `k` is row `k`'s. `requests` counts what was asked for.
    """

    def __init__(self) -> None:
        self.requests = 0

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        raise NotImplementedError("only normal numbers have an impulse response")

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        rows, *event = like.shape if shape is None else shape
        numbers = torch.zeros(rows, *event, dtype=like.dtype)
        flat = numbers.flatten(1)
        for entry in range(flat.shape[1]):
            if self.requests + entry < rows:
                flat[self.requests + entry, entry] = 1
        self.requests += flat.shape[1]
        return numbers


class BrownianPath(Noise):
    """Increments of one Brownian path on `[0, span]`, in the order in which a sampler with equal steps asks for them.

    Args:
        increments: `(n, B, …)`, of `n` equal intervals, in units of `√(span/n)`. steps: how many steps a sampler makes; it
        divides `n`. Coarse increments are sums of fine ones.
    """

    def __init__(self, increments: Tensor, steps: int) -> None:
        n = len(increments)
        self._coarse = increments.reshape(steps, n // steps, *increments.shape[1:]).sum(1) / (n // steps) ** 0.5
        self._asked = 0

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        raise NotImplementedError("a Brownian path holds normal numbers alone")

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        self._asked += 1
        return self._coarse[self._asked - 1].to(like)


class Counted(Noise):
    """Another noise, and how often it was asked."""

    def __init__(self, base: Noise) -> None:
        self._base, self.asked = base, 0

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        self.asked += 1
        return self._base.draw(fn, *tensors)

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        self.asked += 1
        return self._base.normal(like, shape)

    def uniform(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        self.asked += 1
        return self._base.uniform(like, shape)
