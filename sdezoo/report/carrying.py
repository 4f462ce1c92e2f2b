"""Where a bridge carries rows: paths of each direction, from rows that its rounds were trained on.

Points and rows of a table are drawn in the plane of their first two columns that hold numbers. A single column is drawn over time, and of
images the pixel that varies most. Axes are logarithmic if the process cannot reach zero: a geometric bridge is a Brownian one there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdezoo.bridging.curves import Curves
from sdezoo.bridging.rounds import DIRECTIONS, real_rows
from sdezoo.errors import RunError
from sdezoo.generation.samples import SampleIndices, choose_sampler, steps_for
from sdezoo.plots import GREY, Axes, Figure, label, plain, shade, tidy
from sdezoo.process.columns import count_outside
from sdezoo.report.pictures import Drawn, drawing, or_reason
from sdezoo.runs.between.directions import read_directions
from sdezoo.store.restoring import Trained

_PATHS, _ROWS, _TIMES = 40, 150, 40
_NAMED = 8  # most snapshots with a name in the legend


def carrying(run: Path) -> Drawn:
    """Draw where a bridge carries rows.

    Args:
        run: the run folder of a bridge.

    Returns:
        The picture as SVG, and what is drawn. None, and the reason, if there is none.
    """
    return or_reason(lambda: _carrying(run))


@dataclass(frozen=True, eq=False)
class _Picture:
    """What is drawn: rows of snapshots, and paths of each direction, in the user's units.

    Args:
        times: times of the snapshots.
        rows: rows by snapshot, `(N, entries)`.
        paths: times `(T,)` and curves `(n, T, entries)` by direction.
        shown: the entries of a row that are drawn: two, or one.
        names: their names.
        logarithmic: whether the axes are.
    """

    times: Sequence[float]
    rows: dict[int, np.ndarray]
    paths: dict[str, tuple[np.ndarray, np.ndarray]]
    shown: list[int]
    names: list[str]
    logarithmic: bool


@torch.no_grad()
def _carrying(run: Path) -> Drawn:
    models = {name: one.trained for name, one in read_directions(run).items()}
    trained = next(iter(models.values()))
    sde, ends = trained.model.sde, trained.encoded_event
    times = sorted(sde.user_time(torch.tensor(sde.knots)).tolist())
    real = {place: _few(rows) for place, rows in real_rows(run, len(times) - 1, ends).items()}
    last = len(times) - 1
    if last not in real:
        return None, f"No rows are kept here to draw paths from. Draw them: sdezoo sample {run} --direction backward --trajectory path.png."
    if sum(count_outside(sde.support, rows) for rows in real.values()):
        raise RunError(f"Pairs of '{run}' lie outside the support of '{sde.title()}'.", "Train its rounds again.")
    backward, forward = DIRECTIONS
    paths = {backward: _paths(models[backward], real[last][:_PATHS])}
    if forward in models:
        # Rows of the first snapshot are kept from the third round on. Until then paths start where those backward end.
        begin = real[0][:_PATHS] if 0 in real else trained.encoding.encode(paths[backward][1][:, 0])
        paths[forward] = _paths(models[forward], begin)
    shown, names = _shown(trained, torch.cat([curves for _, curves in paths.values()]))
    picture = _Picture(
        times,
        {place: _flat(trained.encoding.decode(rows)) for place, rows in real.items()},
        {name: (at.numpy(), _flat(curves, 2)) for name, (at, curves) in paths.items()},
        shown,
        names,
        not bool(sde.support.check(torch.zeros(1, *ends)).any()),
    )
    sampler = choose_sampler(trained, None)
    how = f"{_PATHS} rows at most carried {' and '.join(paths)} by {sampler.spec} in {steps_for(trained, sampler)} steps a span"
    logarithmic = " Axes are logarithmic." if picture.logarithmic else ""
    return drawing(_figure(picture)), f"{', '.join(names)}: {how}; the dots behind are rows of the snapshots.{logarithmic}"


def _few(rows: Tensor) -> Tensor:
    """Some rows, always the same, and spread over all: data may be sorted."""
    return rows[np.random.default_rng(0).permutation(len(rows))[:_ROWS]]


def _paths(trained: Trained, x: Tensor) -> tuple[Tensor, Tensor]:
    """Times in the user's unit, and the curves from rows in the domain of the process, `(n, T, *event)`."""
    sde, sampler = trained.model.sde, choose_sampler(trained, None)
    each = max(2, _TIMES // (len(sde.knots) - 1))
    spans = [torch.linspace(a, b, each + 1, dtype=torch.float64)[:-1] for a, b in pairwise(sde.knots)]
    times = sde.user_time(torch.cat([*spans, torch.ones(1, dtype=torch.float64)])).sort().values
    some, steps = SampleIndices.first(len(x)), steps_for(trained, sampler)
    curves = Curves(trained, sampler, x, times, some, steps, 0, torch.device("cpu"))
    return times, torch.cat([*curves.parts()])


def _flat(x: Tensor, start: int = 1) -> np.ndarray:
    return x.flatten(start).double().numpy()


def _shown(trained: Trained, curves: Tensor) -> tuple[list[int], list[str]]:
    """The entries of a row to draw, and their names."""
    if len(trained.state.event) > 1:
        place = int(curves.flatten(2).flatten(0, 1).nan_to_num().std(0).argmax())
        return [place], [f"entry {place}"]
    columns, words = trained.state.columns, set(trained.encoding.categories) if trained.state.columns else set()
    entries = curves.shape[2]
    shown = [i for i in range(entries) if i not in words][:2] or [0]
    return shown, [columns[i] if columns else f"entry {i}" for i in shown]


@plain()
def _figure(picture: _Picture) -> Figure:
    plane = len(picture.shown) > 1
    figure = Figure(figsize=(9.2, 4.2 if plane else 2.9), layout="constrained")
    panels = figure.subplots(1, len(DIRECTIONS), sharex=True, sharey=True)
    for axes, name in zip(panels, DIRECTIONS, strict=True):
        if name not in picture.paths:
            axes.set_visible(False)
            continue
        _panel(axes, picture, *picture.paths[name])
        tidy(axes, name)
        axes.set_xlabel(label(picture.names[0]) if plane else "time", color=GREY)
    panels[0].set_ylabel(label(picture.names[-1]), color=GREY)
    if picture.logarithmic:
        panels[0].set_yscale("log")
        if plane:
            panels[0].set_xscale("log")
    if plane:
        legend = figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        for text in legend.get_texts():
            text.set_color(GREY)
    return figure


def _panel(axes: Axes, picture: _Picture, times: np.ndarray, curves: np.ndarray) -> None:
    """Draw rows of snapshots as dots, paths as lines, and where paths are at the time of a snapshot in its colour."""
    count, at = len(picture.times), [int(np.abs(times - time).argmin()) for time in picture.times]
    plane = len(picture.shown) > 1
    for place, rows in picture.rows.items():
        values = rows[:, picture.shown].T
        behind = values if plane else np.stack([np.full(len(rows), picture.times[place]), values[0]])
        axes.scatter(*behind, s=5, color=GREY, alpha=0.45, linewidths=0)
    for path in curves[:, :, picture.shown]:
        axes.plot(*(path.T if plane else (times, path[:, 0])), color=GREY, lw=0.5, alpha=0.45)
    for place, (time, k) in enumerate(zip(picture.times, at, strict=True)):
        named = f"time {time:g}" if count <= _NAMED or place in (0, count - 1) else None
        here = curves[:, k, picture.shown].T
        axes.scatter(
            *(here if plane else (np.full(len(curves), time), here[0])), s=9, color=[shade(place, count)], linewidths=0, label=named
        )
