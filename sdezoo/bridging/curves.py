"""Curves: where a bridge carries rows, recorded at given times of the user, and pictures of them.

The sampler passes every recorded time, beside those of its own grid. Curve `i` depends on the seed, `i`, its row and the times alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdezoo.bridging.snapshot_starts import AtKnot
from sdezoo.data.bounds import Outside
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.generation.export import check_output, write_parts
from sdezoo.generation.samples import Calls, SampleIndices, SamplingProgress
from sdezoo.generation.streaming import Written
from sdezoo.plots import Axes, Figure, colormaps, label, plain, save
from sdezoo.process.bridge import FIRST, Bridge
from sdezoo.sampling.sampler import Sampler
from sdezoo.store.files import atomic_write
from sdezoo.store.restoring import Trained

_NUMBERS = 2**20  # values of a batch
_SHOWN = 500
_FRAMES = 48
_MILLISECONDS, _REST = 120, 1500  # duration of a frame, and of the last one
_CLOSE = 1e-9
_MARGIN = 0.05


def parse_times(text: str) -> Tensor:
    """The times of `--times`.

    Args:
        text: `FIRST:LAST:COUNT`, evenly spaced, or numbers separated by commas.

    Returns:
        Times, float64, `(T,)`, increasing.

    Raises:
        ParameterError: if the text has another form, or the times do not increase.
    """
    try:
        if ":" in text:
            first, last, count = text.split(":")
            times = torch.linspace(float(first), float(last), int(count), dtype=torch.float64)
        else:
            times = torch.tensor([float(part) for part in text.split(",")], dtype=torch.float64)
    except (ValueError, RuntimeError):
        raise ParameterError(f"times={text} is not a list of times.", "Give FIRST:LAST:COUNT, such as 0:4:41, or 0,0.5,1.") from None
    if len(times) < 1 or not bool(times.isfinite().all()) or not bool((times.diff() > 0).all()):
        raise ParameterError(f"The times {text} do not increase.", "Give increasing times, such as 0:4:41.")
    return times


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves of rows over a bridge, computed when they are asked for.

    Args:
        trained: the model of one direction, on `device`.
        sampler: the sampler.
        x: rows to start from, `(N, *event)`, in the domain of the process.
        times: times to record, float64, `(T,)`, increasing, in the user's unit.
        rows: indices of the curves; curve `i` starts at row `i` of `x`.
        steps: sampler steps in each span.
        seed: the seed.
        device: device of the model.
        begin: process time of the snapshot that the rows are of.

    Raises:
        CompositionError: if the model is no bridge.
        ParameterError: if a time lies outside the snapshots, or too shortly after one.
    """

    trained: Trained
    sampler: Sampler
    x: Tensor
    times: Tensor
    rows: SampleIndices
    steps: int
    seed: int
    device: torch.device
    begin: float = 1.0

    def __post_init__(self) -> None:
        sde = self.trained.model.sde
        if not isinstance(sde, Bridge):
            raise CompositionError(f"'{sde.title()}' has no times of the user's.", "Leave out --times, or give the run of a bridge.")
        known = sde.user_time(torch.tensor(sde.knots)).sort().values
        for time, t in zip(self.times.tolist(), self.own_times, strict=True):
            if not 0 <= t <= self._begin:
                raise ParameterError(
                    f"The time {time:g} lies outside the snapshots, at {_listed(known)} (counted from the first).",
                    "Give times between them.",
                )
            a, b = (float(knot) for knot in sde.span(torch.tensor(t)))
            if 0 < t - a < FIRST * (b - a) and t not in sde.knots:
                raise ParameterError(f"The time {time:g} is too close to a snapshot.", "Give that of the snapshot itself.")

    @property
    def own_times(self) -> list[float]:
        """The recorded times as times of the process; those of snapshots exactly."""
        return [self._exact(t) for t in self.trained.model.sde.own_time(self.times).tolist()]

    @property
    def _begin(self) -> float:
        return self._exact(self.begin)

    def _exact(self, t: float) -> float:
        """The knot at a time of the process, if there is one, else the time itself."""
        nearest = min(self.trained.model.sde.knots, key=lambda knot: abs(knot - t))
        return nearest if abs(nearest - t) < _CLOSE else t

    def parts(self, progress: SamplingProgress | None = None) -> Iterator[Tensor]:
        """Compute the curves in batches `(n, T, *event)`, float32 on the CPU, in the user's units.

        Args:
            progress: called after every batch.
        """
        for first in range(0, len(self.rows), self._size):
            part = self.rows.cut(first, min(first + self._size, len(self.rows)))
            yield self._batch(list(part))
            if progress:
                progress(first + len(part), len(self.rows))

    @property
    def _size(self) -> int:
        return max(1, _NUMBERS // (len(self.times) * self.x[0].numel()))

    def _batch(self, rows: Sequence[int]) -> Tensor:
        model, wanted = self.trained.model, self.own_times
        start, like = AtKnot(self.x, self._begin, pass_by=tuple(wanted)), torch.empty((), device=self.device)
        found: dict[float, Tensor] = {}
        if self._begin in wanted:
            found[self._begin] = start.chosen(rows, torch.empty(()))

        def keep(_k: int, z: Tensor, t: Tensor) -> None:
            if float(t) in wanted:
                found[float(t)] = model.sde.decode(z).cpu()

        shape = (len(rows), *self.x.shape[1:])
        self.sampler.sample(model, shape, self.steps, self.seed, rows=rows, start=start, like=like, callback=keep)
        return torch.stack([self.trained.encoding.decode(found[t]) for t in wanted], 1)

    def write(self, out: Path, *, overwrite: bool = False, progress: SamplingProgress | None = None) -> Written:
        """Write the curves: in an `.npz`, `x` `(n, T, d)`, float32, and `times` `(T,)`.

        Args:
            out: the file.
            overwrite: whether it may be replaced.
            progress: called after every batch.

        Returns:
            A summary.

        Raises:
            CompositionError: if rows are not points or rows of a table.
            RunError: before anything is computed, if the file cannot be written.
        """
        if len(self.trained.state.event) != 1:
            raise CompositionError("Curves are of points or rows of a table.", "Leave out --times.")
        check_output(out, "paths", overwrite)
        shape, outside = (len(self.rows), len(self.times), *self.trained.state.event), Outside()

        def counted() -> Iterator[Tensor]:
            nonlocal outside
            for x in self.parts(progress):
                outside = outside + self.trained.state.bounds.outside(x)
                yield x

        with (calls := Calls(self.trained.model)):
            write_parts(counted(), shape, out, kind="paths", columns=self.trained.state.columns, times=self.times)
        batches = -(-len(self.rows) // self._size)
        return Written(len(self.rows), 0, math.prod(shape), outside, calls.count // batches)

    def draw(self, file: Path, behind: Sequence[Tensor] = ()) -> int:
        """Draw the first curves: their first two columns in the plane, or their only column over time.

        Args:
            file: `.gif`, a frame for each time, or `.png`, all times in one picture.
            behind: rows of each snapshot, in the user's units, to draw in grey behind them.

        Returns:
            The number of curves shown.

        Raises:
            RunError: if the file cannot be written.
        """
        count = min(len(self.rows), _SHOWN)
        x = self._batch(list(self.rows.cut(0, count))).double().numpy()
        view = _View(x, self.times.numpy(), [rows.double().numpy() for rows in behind], self.trained.state.columns)
        with atomic_write(file, "Give --trajectory another place.") as target:
            if file.suffix.lower() == ".gif":
                first, *others = view.frames()
                rests = [_MILLISECONDS] * len(others) + [_REST]
                first.save(target, format="GIF", save_all=True, append_images=others, duration=rests, loop=0)
            else:
                view.all_times().save(target, format="PNG")
        return count


class _View:
    """Pictures of curves `(n, T, d)`."""

    def __init__(
        self, x: np.ndarray[Any, Any], times: np.ndarray[Any, Any], behind: Sequence[np.ndarray[Any, Any]], columns: Sequence[str]
    ) -> None:
        self._x, self._times, self._behind = x, times, behind
        self._names = [label(name) for name in columns] or [f"x{i}" for i in range(x.shape[2])]
        everything = np.concatenate([x.reshape(-1, x.shape[2]), *behind])
        low, high = everything.min(0), everything.max(0)
        self._low, self._high = low - _MARGIN * (high - low), high + _MARGIN * (high - low)
        span = times[-1] - times[0]
        self._colors = colormaps["viridis"]((times - times[0]) / (span if span > 0 else 1.0) * 0.9)

    def frames(self) -> Iterator[Image.Image]:
        for k in sorted({round(i) for i in np.linspace(0, len(self._times) - 1, min(_FRAMES, len(self._times)))}):
            yield self._picture([k], f"time {self._times[k]:.3g}")

    def all_times(self) -> Image.Image:
        return self._picture(range(len(self._times)), "")

    @plain()
    def _picture(self, shown: Sequence[int], title: str) -> Image.Image:
        figure = Figure((5, 4.4), layout="constrained")
        axes = figure.add_subplot()
        if self._x.shape[2] == 1:
            self._over_time(axes, shown)
        else:
            self._in_the_plane(axes, shown)
        axes.set_title(title, fontsize=9)
        buffer = io.BytesIO()
        save(figure, buffer, 100)
        return Image.open(buffer).convert("RGB")

    def _in_the_plane(self, axes: Axes, shown: Sequence[int]) -> None:
        for rows in self._behind:
            axes.scatter(rows[:_SHOWN, 0], rows[:_SHOWN, 1], s=3, color="0.8", linewidths=0)
        if len(shown) > 1:
            axes.plot(self._x[:, :, 0].T, self._x[:, :, 1].T, color="0.5", alpha=0.15, linewidth=0.5)
        for k in shown:
            axes.scatter(self._x[:, k, 0], self._x[:, k, 1], s=5, color=self._colors[k], alpha=0.6, linewidths=0)
        axes.set(xlim=(self._low[0], self._high[0]), ylim=(self._low[1], self._high[1]), xlabel=self._names[0], ylabel=self._names[1])

    def _over_time(self, axes: Axes, shown: Sequence[int]) -> None:
        last = max(shown) + 1
        axes.plot(self._times[:last], self._x[:, :last, 0].T, color="tab:blue", alpha=0.2, linewidth=0.6)
        axes.set(xlim=(self._times[0], self._times[-1] + 1e-9), ylim=(self._low[0], self._high[0]), xlabel="time", ylabel=self._names[0])


def _listed(times: Tensor) -> str:
    return ", ".join(f"{time:g}" for time in times.tolist())
