"""When a training has lost its way: its loss is not finite any more, or has grown ten-thousandfold."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from sdezoo.errors import RunError
from sdezoo.store.checkpoint import newest
from sdezoo.training.batches import BatchSampler
from sdezoo.training.metrics import Failure

_GROWN = 1e4


class DivergenceMonitor:
    """Sees the loss at every line of the metrics.

    Args:
        run: the run folder.
        describe: a time of the losses in words.
        order: which rows make a batch.
        lr: the peak learning rate.
    """

    def __init__(self, run: Path, describe: Callable[[float], str], order: BatchSampler, lr: float) -> None:
        self._run, self._describe, self._order, self._lr = run, describe, order, lr
        self._first: float | None = None

    def see(self, loss: float, found: Failure | None, start: int, step: int) -> None:
        """The mean `loss` of the steps from `start` to `step`, and the first of them that was not finite.

        Raises:
            RunError: where the way is lost, naming the step, the row of the data, the noise level and the last checkpoint.
        """
        self._first = abs(loss) if self._first is None else self._first
        if found is None and math.isfinite(loss) and abs(loss) <= _GROWN * max(self._first, 1.0):
            return
        kept = newest(self._run)
        last = f"the last checkpoint is {kept}" if kept else "no checkpoint was reached"
        if found is None:
            what = f"The loss has grown from {self._first:.3g} to {loss:.3g} at step {step}"
        else:
            wrong = start + found.step
            row = int(self._order.rows(wrong)[found.position])
            where = "on the whole batch" if found.everywhere else f"at row {row} of the training data, number {found.position} of the batch"
            what = f"The loss is not finite any more at step {wrong + 1}, {where}, at {self._describe(found.time)}"
        raise RunError(f"{what}; {last}.", f"Lower the learning rate (--lr, now {self._lr:g}), or look at the data.")
