"""The order of the rows, and the assembly of rows into a `Batch`.

Gradients of the rows, less their mean and added up along an epoch, are a path. Over many rows it is an *epoched Brownian motion*: with an
order without replacement each epoch is a Brownian bridge, since the sum over all rows is 0, and epochs depend on each other by the order.
At the fractions `s` of one epoch and `t` of the next the covariance is `C(s, t) − s t`, for increments of unit variance::

    reshuffle          C = s t              a new order for each epoch
    single-shuffle     C = min(s, t)        one order for all epochs
    flip-flop          C = (s + t − 1)₊     every second epoch is the one before, backwards
    with-replacement   no bridges           rows are drawn independently, and the path is a Brownian motion

Within an epoch it is `min(s, t) − s t`. Orders whose epochs make up for each other leave less noise in the weights; see Rajput et al.
(arXiv 2102.09718) on flip-flop, and Mishchenko et al. (arXiv 2006.05988) on reshuffling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sdezoo.learning.loss import Batch
from sdezoo.process.noise import Noise

Fetch = Callable[[Tensor], Tensor]
"""Map row indices, int64 `(B,)` on the CPU, to encoded rows `(B, *event)` on the device."""

Order = Literal["reshuffle", "single-shuffle", "flip-flop", "with-replacement"]

_KEY = -1  # a random key that no step 0, 1, … uses


class BatchSampler:
    """Batches of epochs. Each epoch is keyed by the seed and its number, so any step can be computed without those before it.

    Args:
        rows: number of training rows.
        batch: samples per step.
        seed: random seed.
        order: order of the rows.
    """

    def __init__(self, rows: int, batch: int, seed: int, order: Order = "reshuffle") -> None:
        self._rows, self._batch, self._seed, self._order = rows, batch, seed, order
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.int64)

    def rows(self, step: int) -> Tensor:
        """Row indices of the batch of `step`, int64 `(batch,)` on the CPU."""
        wanted = torch.arange(step * self._batch, (step + 1) * self._batch)
        epochs = wanted // self._rows
        return torch.cat([self._shuffled(int(e))[wanted[epochs == e] % self._rows] for e in epochs.unique()])

    def _shuffled(self, epoch: int) -> Tensor:
        key = {"single-shuffle": 0, "flip-flop": epoch // 2}.get(self._order, epoch)
        if key != self._epoch:
            noise, empty = Noise.seeded(self._seed, _KEY, key), torch.empty(self._rows)
            self._permutation = noise.draw(_INDICES[self._order == "with-replacement"], empty)
            self._epoch = key
        return self._permutation.flip(0) if self._order == "flip-flop" and epoch % 2 else self._permutation


_INDICES: tuple[Callable[..., Tensor], Callable[..., Tensor]] = (
    lambda n, generator: torch.randperm(len(n), generator=generator),
    lambda n, generator: torch.randint(len(n), n.shape, generator=generator),
)
"""Rows of an epoch: each once, or drawn independently."""


@dataclass(frozen=True)
class BatchMaker:
    """Assembles batches on the device.

    Args:
        x0: fetches rows of the data.
        x1: fetches rows at the other end of a bridge; None: that end is noise.
        labels: labels of the rows of `x0`, int64 `(N,)` on the device; None: the network is unconditional.
        unlabelled: the label that means "no label"; the network knows the labels below it.
    """

    x0: Fetch
    x1: Fetch | None = None
    labels: Tensor | None = None
    unlabelled: int = 0

    def make(self, rows: Tensor, *, ends: Tensor | None = None, dropped: Tensor | None = None) -> Batch:
        """Assemble one batch.

        Args:
            rows: indices of the rows of `x0`, int64 `(B,)` on the CPU.
            ends: indices of the rows of `x1` coupled with them, int64 `(B,)` on the CPU; None: the same indices.
            dropped: mask of the rows whose labels are dropped, bool `(B,)`; None: drop none. Labels that the network does not know are
                always dropped.
        """
        other = None if self.x1 is None else self.x1(rows if ends is None else ends)
        if self.labels is None:
            return Batch(self.x0(rows), other)
        labels = self.labels[rows.to(self.labels.device)]
        left_out = labels >= self.unlabelled
        if dropped is not None:
            left_out = left_out | dropped.to(labels.device)
        return Batch(self.x0(rows), other, labels.masked_fill(left_out, self.unlabelled))
