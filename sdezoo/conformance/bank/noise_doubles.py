"""Noise doubles: replacements for `Noise` that reveal how a plugin uses random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sdezoo.process.noise import KeyedNoise, Noise


def keyed(count: int, seed: int = 0, first: int = 0) -> KeyedNoise:
    """Keyed noise for consecutive rows.

    Args:
        count: Number of rows.
        seed: Of the noise.
        first: Index of the first row.
    """
    return KeyedNoise(seed, range(first, first + count))


class Still(Noise):
    """Noise whose normal numbers all equal `value`, to read off the mean and standard deviation of a step.

    Args:
        value: A number, or a tensor that broadcasts to each request.
    """

    def __init__(self, value: float | Tensor) -> None:
        self.value = value

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return torch.zeros(tuple(like.shape if shape is None else shape), dtype=like.dtype) + self.value


class Forbidden(Noise):
    """Noise that raises on every request."""

    def __init__(self) -> None:
        pass

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        raise AssertionError("noise was drawn where there must be none")

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return self.draw(torch.randn)


class Impulse(Noise):
    """Noise in which the `i`-th normal number of row `i` is 1 and all others are 0.

    This gives the impulse response of a function that is linear in its noise: row `k` responds to number `k`. Rows beyond
    the last number see 0 alone. `requests` counts the numbers drawn per row.
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
    """The increments of one Brownian path on `[0, span]`, for a sampler with equal steps that draws one number per entry and step.

    Coarse increments are sums of fine ones.

    Args:
        increments: Over `n` equal intervals, `(n, B, …)`, in units of `√(span/n)`.
        steps: Number of steps of the sampler; divides `n`.
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
    """Wrapper of a noise that counts requests.

    Args:
        base: The noise.
    """

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
