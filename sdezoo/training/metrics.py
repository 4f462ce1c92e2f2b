"""What is written down while training: a line of `metrics.jsonl` every so many steps, and at each checkpoint.

Losses are those of a sample and entry of the state. `levels` are their means in eight bins of the noise level, from the lowest to
the highest, equal in `ln(σ/α)` for affine processes and in `t` for others; null where a bin was not drawn. `validation_loss`, in the
line of a checkpoint, is defined in `sdezoo.training.validation`. Nothing is read from the device between two lines.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdezoo.errors import RunError
from sdezoo.process.process import Process
from sdezoo.store.checkpoint import newest
from sdezoo.store.files import atomic_write, writing
from sdezoo.training.batches import BatchSampler

_BINS = 8
_REMEDY = "Make room, or bring the folder back: --resume goes on from the newest checkpoint."


class MetricLogger:
    """Where lines are written: `metrics.jsonl` of a run folder, and `tensorboard/` where asked.

    Args:
        run: the folder. step: of the checkpoint that training goes on from; lines after it are dropped, as is half a line.
        tensorboard: whether TensorBoard, which is installed, is written for.

    Raises:
        RunError: where the system does not let it be written.
    """

    def __init__(self, run: Path, step: int, *, tensorboard: bool) -> None:
        self._path, self._writer = run / "metrics.jsonl", None
        kept = list(_lines(self._path, step))
        with atomic_write(self._path, _REMEDY) as file:
            file.writelines(kept)
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(run / "tensorboard", purge_step=step + 1)

    def write(self, row: dict[str, Any]) -> None:
        """Add a line; the system has it when this returns.

        Raises:
            RunError: where the system does not take it, or the file is gone.
        """
        with writing(self._path, _REMEDY), open(self._path, "a", encoding="utf-8", opener=_existing) as metrics:
            metrics.write(json.dumps(row) + "\n")
        if self._writer is None:
            return
        for name, value in row.items():
            parts = {f"{name}/{k}": part for k, part in enumerate(value)} if isinstance(value, list) else {name: value}
            for title, number in parts.items():
                if number is not None and title != "step":
                    self._writer.add_scalar(title, number, row["step"])
        self._writer.flush()


def _lines(path: Path, step: int) -> Iterator[bytes]:
    """The lines up to `step` of a file of metrics, if it is there."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                    yield line
            except (ValueError, TypeError, KeyError):
                continue


def _existing(path: str, flags: int) -> int:
    # A folder that has vanished, and maybe left the place where it was mounted, is not begun anew.
    return os.open(path, flags & ~os.O_CREAT | getattr(os, "O_NOFOLLOW", 0))


class Failure(NamedTuple):
    """The first loss that is not finite: `step` steps of the interval before it, at which place in the batch, at which time."""

    step: int
    position: int
    time: float
    everywhere: bool
    """Whether the whole batch was like this: then the weights are not finite."""


class MetricBuffer:
    """The losses of some steps, on the device.

    Args:
        edges: of the bins of times by which the loss is split, increasing, float64.
    """

    def __init__(self, edges: Tensor) -> None:
        self._edges = edges
        self._losses: list[Tensor] = []
        self._times: list[Tensor] = []

    def add(self, losses: Tensor, times: Tensor) -> None:
        """The `losses` `(B,)` of a step, at `t_span` with as many entries."""
        self._losses.append(losses.detach().float())
        self._times.append(times.detach().flatten().float())

    def close(self, gather: Any) -> tuple[Tensor, Tensor]:
        """Losses and times `(steps, B)` of all workers, on the CPU; the interval is empty then."""
        both = torch.stack([torch.stack(self._losses), torch.stack(self._times)], 1)
        everyone = gather(both).cpu()
        self._losses, self._times = [], []
        losses, times = (torch.cat(list(everyone[:, :, part]), 1) for part in (0, 1))
        return losses, times

    def by_level(self, losses: Tensor, times: Tensor) -> list[float | None]:
        """The mean loss in each bin."""
        bins = torch.bucketize(times.double(), self._edges[1:-1])
        return [float(losses[bins == b].mean()) if (bins == b).any() else None for b in range(len(self._edges) - 1)]


def failure(losses: Tensor, times: Tensor) -> Failure | None:
    """The first loss of `(steps, B)` that is not finite."""
    wrong = ~losses.isfinite()
    if not wrong.any():
        return None
    step = int(wrong.any(1).nonzero()[0])
    position = int(wrong[step].nonzero()[0])
    return Failure(step, position, float(times[step, position]), bool(wrong[step].all()))


def level_edges(sde: Process) -> Tensor:
    """Edges of the eight bins of times, float64 `(9,)`."""
    lo, hi = sde.t_span
    u = torch.linspace(0, 1, _BINS + 1, dtype=torch.float64)
    ends = sde.noise_level(torch.tensor([lo, hi], dtype=torch.float64))
    if ends is None:
        return lo + (hi - lo) * u
    low, high = map(math.log, ends.tolist())
    return sde.time_at((low + (high - low) * u).exp())


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
