"""Which rows of the data make the batch of a step, and the one place where rows become a `Batch`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sdezoo.learning.loss import Batch
from sdezoo.process.noise import Noise

Fetch = Callable[[Tensor], Tensor]
"""Encoded rows `(B, *event)`, on the device, by their numbers, int64 `(B,)` on the CPU."""

_KEY = -1  # beside the steps 0, 1, …


class BatchSampler:
    """Permutations of the data one after the other, each keyed by (seed, epoch): a step knows its rows without those before."""

    def __init__(self, rows: int, batch: int, seed: int) -> None:
        self._rows, self._batch, self._seed = rows, batch, seed
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.int64)

    def rows(self, step: int) -> Tensor:
        """Indices of the batch of `step`, on the CPU."""
        wanted = torch.arange(step * self._batch, (step + 1) * self._batch)
        epochs = wanted // self._rows
        return torch.cat([self._shuffled(int(e))[wanted[epochs == e] % self._rows] for e in epochs.unique()])

    def _shuffled(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            noise = Noise.seeded(self._seed, _KEY, epoch)
            self._permutation = noise.draw(lambda n, generator: torch.randperm(len(n), generator=generator), torch.empty(self._rows))
            self._epoch = epoch
        return self._permutation


@dataclass(frozen=True)
class BatchMaker:
    """Makes batches of rows, on the device.

    Args:
        x0: the rows of the data.
        x1: the rows at the other end of a bridge; None: that end is noise.
        labels: of the rows of `x0`, int64 `(N,)` on the device; None: the network is told none.
        unlabelled: the label that stands for none; the network takes the labels below it.
    """

    x0: Fetch
    x1: Fetch | None = None
    labels: Tensor | None = None
    unlabelled: int = 0

    def make(self, rows: Tensor, *, ends: Tensor | None = None, dropped: Tensor | None = None) -> Batch:
        """The batch of these rows.

        Args:
            rows: numbers of the rows of `x0`, int64 `(B,)` on the CPU.
            ends: numbers of the rows of `x1` that they are coupled with, int64 `(B,)` on the CPU; None: the same numbers.
            dropped: whose labels are left out, bool `(B,)`; None: of no row. Labels that the network does not know are left out too.
        """
        other = None if self.x1 is None else self.x1(rows if ends is None else ends)
        if self.labels is None:
            return Batch(self.x0(rows), other)
        labels = self.labels[rows.to(self.labels.device)]
        left_out = labels >= self.unlabelled
        if dropped is not None:
            left_out = left_out | dropped.to(labels.device)
        return Batch(self.x0(rows), other, labels.masked_fill(left_out, self.unlabelled))
