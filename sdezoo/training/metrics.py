"""Training metrics: one line of `metrics.jsonl` every 50 steps and at each checkpoint.

`loss` is the mean per sample and entry of the state. `levels` are its means in eight bins of the noise level, from the lowest to the
highest, of equal width in `ln(σ/α)` for affine processes and in `t` for others; null for an empty bin. `validation_loss`, in the line of a
checkpoint, is defined in `sdezoo.training.validation`. Nothing is read from the device between two lines.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdezoo.errors import RunError
from sdezoo.process.process import Process
from sdezoo.store.checkpoint import newest
from sdezoo.store.files import atomic_write, opened, writing
from sdezoo.training.batches import BatchSampler

_BINS = 8
_LINES = 10.0  # seconds between two lines of progress
_MOST, _LINE = 2**25, 2**20  # most bytes that are read back, and of a line
_WHOLE, _ENTRIES, _ROWS = 2**62, 64, 2**17  # bounds of a number, of a list, and of the rows that are read back
_REMEDY = "Make room, or restore the folder, then give --resume to resume from the newest checkpoint."


class MetricLogger:
    """Writes lines to `metrics.jsonl` of a run folder, and to `tensorboard/` if requested.

    Args:
        run: the run folder.
        step: step of the checkpoint that training resumes from; later lines are dropped, as are incomplete ones.
        tensorboard: whether to write for TensorBoard, which must be installed.

    Raises:
        RunError: if the file cannot be written.
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
        """Append one line and flush it.

        Args:
            row: values by name, with the key `step`; each a number, None, or a list of these.

        Raises:
            RunError: if the file cannot be written, or no longer exists.
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
    """The lines up to `step` of a metrics file, if it exists."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        while line := file.readline(_LINE):  # a piece of one that is too long is no row
            row = _row(line) if line.endswith(b"\n") else None
            if row and row["step"] <= step:
                yield line


def _row(line: bytes) -> dict[str, Any] | None:
    """What a line holds; None if it is damaged, too long, or has no whole number `step`."""
    try:
        row = json.loads(line) if len(line) < _LINE else None
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int and 0 <= row["step"] < _WHOLE else None


def recorded(run: Path) -> list[dict[str, Any]]:
    """Read back what the lines of `metrics.jsonl` say of losses: `step`, `loss`, `validation_loss`, `levels` and `copies`.

    The file may come from somebody else. Lines that are damaged or too long, or have no whole number `step`, are left out, and so are
    values that are no numbers, and lists that are too long.

    Args:
        run: the run folder.
    """
    found = []
    try:
        with opened(run / "metrics.jsonl") as file:
            while file.tell() < _MOST and len(found) < _ROWS and (line := file.readline(_LINE)):
                if (row := _row(line)) and (known := {name: row[name] for name, fits in _KNOWN.items() if name in row and fits(row[name])}):
                    found.append({"step": row["step"], **known})
    except OSError:
        return []
    return found


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and abs(value) < _WHOLE)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and len(value) <= _ENTRIES and all(_is_number(entry) or isinstance(entry, str) for entry in value)


_KNOWN: dict[str, Callable[[object], bool]] = {"loss": _is_number, "validation_loss": _is_number, "levels": _is_list, "copies": _is_list}


def history(run: Path) -> dict[str, list[float | None]]:
    """Steps, losses and validation losses that a run folder records."""
    rows = [row for row in recorded(run) if "loss" in row]
    return {name: [row.get(name) for row in rows] for name in ("step", "loss", "validation_loss")}


def print_progress() -> Callable[[int, int, float], None]:
    """A callback of training that prints a line every ten seconds, and at the end."""
    told = time.monotonic()

    def follow(done: int, total: int, loss: float) -> None:
        nonlocal told
        if time.monotonic() - told >= _LINES or done == total:
            told = time.monotonic()
            shown = "" if math.isnan(loss) else f"  loss {loss:.4f}"
            sys.stderr.write(f"training {done}/{total}{shown}\n")

    return follow


def _existing(path: str, flags: int) -> int:
    # Do not create the file again if it has vanished, for example because a disk was unmounted.
    return os.open(path, flags & ~os.O_CREAT | getattr(os, "O_NOFOLLOW", 0))


class Failure(NamedTuple):
    """The first loss that is not finite."""

    step: int
    """Number of steps in the buffer before it."""
    position: int
    """Position in the batch."""
    time: float
    """Time of the sample."""
    everywhere: bool
    """Whether the losses of the whole batch are not finite: then the weights are not finite either."""


class MetricBuffer:
    """Buffers the losses of several steps on the device.

    Args:
        edges: edges of the time bins by which the loss is split, increasing, float64 `(bins + 1,)`.
    """

    def __init__(self, edges: Tensor) -> None:
        self._edges = edges
        self._losses: list[Tensor] = []
        self._times: list[Tensor] = []

    def add(self, losses: Tensor, times: Tensor) -> None:
        """Add the losses of one step.

        Args:
            losses: losses of the samples, `(B,)`.
            times: their times, with `B` entries.
        """
        self._losses.append(losses.detach().float())
        self._times.append(times.detach().flatten().float())

    def close(self, gather: Any) -> tuple[Tensor, Tensor]:
        """Empty the buffer.

        Args:
            gather: stacks a tensor over all workers, see `Workers.gather`.

        Returns:
            Losses and times of all workers, `(steps, B)` each, on the CPU.
        """
        both = torch.stack([torch.stack(self._losses), torch.stack(self._times)], 1)
        everyone = gather(both).cpu()
        self._losses, self._times = [], []
        losses, times = (torch.cat(list(everyone[:, :, part]), 1) for part in (0, 1))
        return losses, times

    def by_level(self, losses: Tensor, times: Tensor) -> list[float | None]:
        """Mean loss in each time bin; None for an empty bin.

        Args:
            losses: losses, as returned by `close`.
            times: times, shaped like `losses`.
        """
        bins = torch.bucketize(times.double(), self._edges[1:-1])
        return [float(losses[bins == b].mean()) if (bins == b).any() else None for b in range(len(self._edges) - 1)]


def failure(losses: Tensor, times: Tensor) -> Failure | None:
    """Find the first loss that is not finite, in `losses` at `times`, both `(steps, B)`; None if all are finite."""
    wrong = ~losses.isfinite()
    if not wrong.any():
        return None
    step = int(wrong.any(1).nonzero()[0])
    position = int(wrong[step].nonzero()[0])
    return Failure(step, position, float(times[step, position]), bool(wrong[step].all()))


def level_edges(sde: Process) -> Tensor:
    """Edges of the eight time bins of a process, float64 `(9,)`."""
    lo, hi = sde.t_span
    u = torch.linspace(0, 1, _BINS + 1, dtype=torch.float64)
    ends = sde.noise_level(torch.tensor([lo, hi], dtype=torch.float64))
    if ends is None:
        return lo + (hi - lo) * u
    low, high = map(math.log, ends.tolist())
    return sde.time_at((low + (high - low) * u).exp())


_GROWN = 1e4


class DivergenceMonitor:
    """Stops training if the loss diverges.

    Args:
        run: the run folder.
        describe: describes a time of the losses in words.
        order: the batch sampler, to find the row of a loss.
        lr: the peak learning rate, for the message.
    """

    def __init__(self, run: Path, describe: Callable[[float], str], order: BatchSampler, lr: float) -> None:
        self._run, self._describe, self._order, self._lr = run, describe, order, lr
        self._first: float | None = None

    def see(self, loss: float, found: Failure | None, start: int, step: int) -> None:
        """Check the losses of some steps.

        Args:
            loss: mean loss of the steps.
            found: the first loss that is not finite, if any.
            start: the first step.
            step: the step after the last.

        Raises:
            RunError: if the loss is not finite, or exceeds 10⁴ times the first one; names the step, row, noise level and last checkpoint.
        """
        self._first = abs(loss) if self._first is None else self._first
        if found is None and math.isfinite(loss) and abs(loss) <= _GROWN * max(self._first, 1.0):
            return
        kept = newest(self._run)
        last = f"the last checkpoint is {kept}" if kept else "there is no checkpoint"
        if found is None:
            what = f"The loss has grown from {self._first:.3g} to {loss:.3g} at step {step}"
        else:
            wrong = start + found.step
            row = int(self._order.rows(wrong)[found.position])
            where = (
                "on the whole batch" if found.everywhere else f"at row {row} of the training data, position {found.position} in the batch"
            )
            what = f"The loss is no longer finite at step {wrong + 1}, {where}, at {self._describe(found.time)}"
        raise RunError(f"{what}; {last}.", f"Lower the learning rate (--lr, now {self._lr:g}), or check the data.")
