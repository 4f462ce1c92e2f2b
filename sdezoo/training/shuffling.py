"""Which rows of the data make the batch of a step."""

from __future__ import annotations

import torch
from torch import Tensor

from sdezoo.process.noise import Noise

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
