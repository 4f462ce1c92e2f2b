"""Shuffling, and the assembly of rows into a `Batch`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sdezoo.learning.loss import Batch
from sdezoo.process.noise import Noise

Fetch = Callable[[Tensor], Tensor]
"""Map row indices, int64 `(B,)` on the CPU, to encoded rows `(B, *event)` on the device."""

_KEY = -1  # a random key that no step 0, 1, … uses


class BatchSampler:
    """Batches from shuffled epochs. Each permutation is keyed by (seed, epoch), so any step can be computed without those before it.

    Args:
        rows: number of training rows.
        batch: samples per step.
        seed: random seed.
    """

    def __init__(self, rows: int, batch: int, seed: int) -> None:
        self._rows, self._batch, self._seed = rows, batch, seed
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.int64)

    def rows(self, step: int) -> Tensor:
        """Row indices of the batch of `step`, int64 `(batch,)` on the CPU."""
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
