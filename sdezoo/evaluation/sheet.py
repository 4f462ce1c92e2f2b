"""The picture of an evaluation: samples beside data, and beside their nearest training rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdezoo.evaluation.measures.columns import correlations
from sdezoo.evaluation.rows import FloatArray
from sdezoo.plots import Axes, Figure, SubFigure, label, plain

DATA, SAMPLES = "0.45", "tab:blue"

_NAMED, _SHORT = 30, 14  # columns whose names stand at a matrix, and characters of a name
_PAIRS, _ACROSS, _COLUMNS, _BINS, _GAP = 50, 5, 25, 30, 0.5
_LINES = 32  # most paths in a panel, and lags


Distances = tuple[FloatArray, FloatArray]
"""Distances to the nearest training row, `(n,)` each: of held-out rows and of samples."""


@dataclass(frozen=True)
class Shares:
    """Shares of the classes."""

    data: FloatArray
    """In the data, `(c,)`."""
    samples: FloatArray
    """In the samples, `(c,)`."""


@plain()
def images(title: str, samples: NDArray, neighbours: NDArray, distances: Distances, shares: Shares | None) -> Figure:
    """Draw samples, each left of its nearest training image, distances, and class shares if given.

    Args:
        title: title of the figure.
        samples: images, `(n, C, H, W)`, in [0, 1].
        neighbours: nearest training image of each sample, `(n, C, H, W)`.
        distances: distances to the nearest training image.
        shares: class shares, or None.
    """
    figure = Figure(figsize=(11, 6.4), dpi=110, layout="constrained")
    figure.suptitle(label(title))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(7, 4))[0]
    axes = left.subplots()
    grid = _pairs(samples[:_PAIRS], neighbours[:_PAIRS])
    axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title("samples, each left of its nearest training image", fontsize=9)
    panels = right.subplots(1 if shares is None else 2, 1, squeeze=False)[:, 0]
    _distances(panels[0], distances)
    if shares is not None:
        places = np.arange(len(shares.data))
        panels[1].bar(places - 0.2, shares.data, 0.4, color=DATA, label="data")
        panels[1].bar(places + 0.2, shares.samples, 0.4, color=SAMPLES, label="samples")
        panels[1].set_title("shares of the classes", fontsize=9)
        panels[1].legend(fontsize=7)
    return figure


@plain()
def columns(title: str, names: Sequence[str], held_out: FloatArray, samples: FloatArray, distances: Distances) -> Figure:
    """Draw each column's distribution in held-out rows and samples, correlations (or the points if `d = 2`), and distances.

    Args:
        title: title of the figure.
        names: names of the columns, `d` of them.
        held_out: `(n, d)`.
        samples: `(m, d)`.
        distances: distances to the nearest training row.
    """
    shown = min(len(names), _COLUMNS)
    across = min(shown, math.ceil(math.sqrt(2 * shown)))
    down = math.ceil(shown / across)
    figure = Figure(figsize=(11, 3.4 + 1.5 * down), dpi=110, layout="constrained")
    figure.suptitle(label(title) + (f" (the first {shown} of {len(names)} columns)" if shown < len(names) else ""))
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(3, 1.5 * down))[:, 0]
    if len(names) == 2:
        _plane(above, names, held_out, samples, distances)
    else:
        _matrices(above, names, held_out, samples, distances)
    panels = below.subplots(down, across, squeeze=False).ravel()
    for k, axes in enumerate(panels):
        if k < shown:
            _column(axes, held_out[:, k], samples[:, k])
            axes.set_title(label(names[k]), fontsize=7)
        else:
            axes.set_axis_off()
    panels[0].legend(fontsize=6)
    return figure


@plain()
def series(title: str, name: str, samples: NDArray, held_out: NDArray, drawn: FloatArray, real: FloatArray) -> Figure:
    """Draw paths of one column, the distribution of its returns, and autocorrelations of absolute returns.

    Args:
        title: title of the figure.
        name: name of the column.
        samples: windows `(n, T)`.
        held_out: windows `(m, T)`.
        drawn: returns of samples, `(n, L)`.
        real: returns of held-out windows, `(k, L)`.
    """
    figure = Figure(figsize=(11, 6), dpi=110, layout="constrained")
    figure.suptitle(label(title))
    panels = figure.subplots(2, 2, squeeze=False)
    low, high = np.quantile(np.concatenate([samples, held_out]), [0.001, 0.999])
    for axes, paths, what in zip(panels[0], (held_out, samples), ("held-out", "samples"), strict=True):
        axes.plot(paths[:_LINES].T, linewidth=0.6, alpha=0.6)
        axes.set(ylabel=label(name), ylim=(low, high))
        axes.set_title(f"{what}: {min(len(paths), _LINES)} windows", fontsize=9)
    sizes = [np.abs(r - r.mean()) for r in (real, drawn)]
    for size, what in zip(sizes, ("held-out", "samples"), strict=True):
        values = np.sort(size.ravel())[::-1]
        panels[1, 0].loglog(values, np.arange(1, len(values) + 1) / len(values), label=what)
        centred = size - size.mean()
        lags = range(1, max(2, min(_LINES, size.shape[1] // 2)))
        spread = max(float((centred**2).mean()), 1e-300)
        panels[1, 1].plot(lags, [(centred[:, :-lag] * centred[:, lag:]).mean() / spread for lag in lags], label=what)
    panels[1, 0].set_title("share of returns that are larger in size", fontsize=9)
    panels[1, 1].set_title("autocorrelation of |returns| by lag", fontsize=9)
    panels[1, 1].axhline(0, color="grey", linewidth=0.6)
    panels[1, 0].legend(fontsize=7)
    return figure


@plain()
def paths(
    title: str, name: str, held_out: FloatArray, samples: FloatArray, times: FloatArray | None, transforms: FloatArray | None
) -> Figure:
    """Draw paths of one column, its mean and deviation by time, and where observations fall in forecasts one step ahead.

    Args:
        title: title of the figure.
        name: name of the column.
        held_out: held-out paths `(n, T)`.
        samples: simulated paths `(n, T)`.
        times: times of the paths, `(n, T)`, the same for all; None: each has its own.
        transforms: probability integral transforms `(m, T − 1)`; None: the values of all observations are drawn instead.
    """
    figure = Figure(figsize=(11, 6), dpi=110, layout="constrained")
    figure.suptitle(label(title))
    panels = figure.subplots(2, 2, squeeze=False)
    at = np.arange(held_out.shape[1]) if times is None else times[0]
    low, high = np.quantile(np.concatenate([samples, held_out]), [0.001, 0.999])
    for axes, part, what in zip(panels[0], (held_out, samples), ("held-out", "samples"), strict=True):
        axes.plot(at, part[:_LINES].T, linewidth=0.6, alpha=0.6)
        axes.set(ylabel=label(name), ylim=(low, high))
        axes.set_title(f"{what}: {min(len(part), _LINES)} paths", fontsize=9)
    for part, what, colour in ((held_out, "held-out", DATA), (samples, "samples", SAMPLES)):
        panels[1, 0].plot(at, part.mean(0), color=colour, label=f"{what}, mean")
        panels[1, 0].plot(at, part.std(0), color=colour, linestyle="--", label=f"{what}, deviation")
    panels[1, 0].set(xlabel="time" if times is not None else "observation")
    panels[1, 0].legend(fontsize=7)
    if transforms is None:
        _column(panels[1, 1], held_out.ravel(), samples.ravel())
        panels[1, 1].set_title("values of all observations", fontsize=9)
        return figure
    panels[1, 1].hist(transforms.ravel(), bins=20, range=(0, 1), density=True, color=SAMPLES, alpha=0.7)
    panels[1, 1].axhline(1, color="grey", linewidth=0.6)
    panels[1, 1].set_title("where observations fall in their forecast (level: calibrated)", fontsize=9)
    return figure


def _pairs(samples: NDArray, neighbours: NDArray) -> NDArray:
    """Return all pairs in one picture, `(H', W')` or `(H', W', 3 or 4)`; for other numbers of channels only the first is drawn."""
    count, channels, height, width = samples.shape
    kept = channels if channels in (1, 3, 4) else 1
    across = min(_ACROSS, count)
    down = math.ceil(count / across)
    grid = np.ones((kept, down * (height + 2), across * (2 * width + 4)))
    for k in range(count):
        top, left = k // across * (height + 2), k % across * (2 * width + 4)
        grid[:, top : top + height, left : left + 2 * width + 1] = _GAP
        grid[:, top : top + height, left : left + width] = np.clip(samples[k, :kept], 0, 1)
        grid[:, top : top + height, left + width + 1 : left + 2 * width + 1] = np.clip(neighbours[k, :kept], 0, 1)
    return grid[0] if kept == 1 else grid.transpose(1, 2, 0)


def _distances(axes: Axes, distances: Distances) -> None:
    held_out, samples = distances
    bins = np.linspace(0, max(np.quantile(held_out, 0.99), np.quantile(samples, 0.99)) or 1.0, _BINS)
    _histograms(axes, held_out, samples, bins, ("held out", "samples"))
    axes.set_title("distance to the nearest training row", fontsize=9)
    axes.legend(fontsize=7)


def _column(axes: Axes, held_out: FloatArray, samples: FloatArray) -> None:
    low, high = np.quantile(held_out, [0.001, 0.999])
    # Values beyond the range are counted in the outermost bins.
    bins = np.linspace(low, high, _BINS) if high > low else np.linspace(low - 0.5, low + 0.5, _BINS)
    _histograms(axes, np.clip(held_out, bins[0], bins[-1]), np.clip(samples, bins[0], bins[-1]), bins, ("data", "samples"))
    axes.tick_params(labelsize=6)


def _histograms(axes: Axes, held_out: FloatArray, samples: FloatArray, bins: FloatArray, labels: tuple[str, str]) -> None:
    axes.hist(held_out, bins=bins.tolist(), density=True, color=DATA, alpha=0.5, label=labels[0])
    axes.hist(samples, bins=bins.tolist(), density=True, histtype="step", color=SAMPLES, label=labels[1])
    axes.set_yticks([])


def _matrices(part: SubFigure, names: Sequence[str], held_out: FloatArray, samples: FloatArray, distances: Distances) -> None:
    panels = part.subplots(1, 4)
    found = [correlations(rows) for rows in (held_out, samples)]
    named = {"correlations, data": found[0], "correlations, samples": found[1], "difference": found[1] - found[0]}
    for axes, (name, matrix) in zip(panels, named.items(), strict=False):
        axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(name, fontsize=9)
        axes.set(xticks=[], yticks=[])
        if len(names) <= _NAMED:
            places, words = range(len(names)), [label(name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…") for name in names]
            axes.set_xticks(places, words, rotation=90, fontsize=6)
            axes.set_yticks(places, words if axes is panels[0] else [""] * len(names), fontsize=6)
    part.colorbar(panels[2].images[0], ax=panels[2], shrink=0.8)
    _distances(panels[3], distances)


def _plane(part: SubFigure, names: Sequence[str], held_out: FloatArray, samples: FloatArray, distances: Distances) -> None:
    panels = part.subplots(1, 3)
    for axes, rows, name, colour in ((panels[0], held_out, "data", DATA), (panels[1], samples, "samples", SAMPLES)):
        axes.scatter(rows[:, 0], rows[:, 1], s=6, alpha=0.6, linewidths=0, color=colour)
        axes.set(xlabel=label(names[0]), ylabel=label(names[1]), title=name)
    span = [np.quantile(held_out[:, k], [0.0, 1.0]) for k in (0, 1)]
    margins = [0.1 * (high - low) or 1.0 for low, high in span]
    for axes in panels[:2]:
        axes.set(xlim=(span[0][0] - margins[0], span[0][1] + margins[0]), ylim=(span[1][0] - margins[1], span[1][1] + margins[1]))
    _distances(panels[2], distances)
