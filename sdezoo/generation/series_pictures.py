"""Pictures of series: paths, and fans of forecasts over what was observed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdezoo.plots import Axes, Figure, label, plain

_PATHS, _COLUMNS, _FANS = 64, 6, 6
BANDS = ((0.05, 0.95), (0.25, 0.75))
"""Quantiles between which the bands of a fan lie."""


@plain()
def series(values: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw the first 64 paths, a panel for each of the first six columns.

    Args:
        values: series `(n, T, d)`, float32, finite.
        names: the `d` column names.
    """
    shown = min(values.shape[2], _COLUMNS)
    panels = Figure(figsize=(7, 1 + 2.6 * shown), layout="constrained")
    for axes, i in zip(panels.subplots(shown, squeeze=False)[:, 0], range(shown), strict=True):
        axes.plot(values[:_PATHS, :, i].T, linewidth=0.7, alpha=0.6)
        axes.set(ylabel=label(names[i]), xlabel="step" if i + 1 == shown else "")
    if len(values) > _PATHS or shown < values.shape[2]:
        panels.suptitle(f"the first {min(len(values), _PATHS)} of {len(values)} series", fontsize=9)
    return panels


@plain()
def fans(values: np.ndarray, observed: np.ndarray, given: int, names: Sequence[str]) -> Figure:
    """Draw forecasts of the first column of six windows, evenly spaced among all: bands of quantiles, and what was observed.

    Args:
        values: series `(n, T, d)`, float32, finite; series `i` continues window `i` modulo `M`.
        observed: windows `(M, T, d)`, NaN where they are unknown.
        given: number of given steps.
        names: the `d` column names.
    """
    count = min(len(observed), _FANS, len(values))
    columns = min(count, 2)
    panels = Figure(figsize=(4.2 * columns, 2.8 * -(-count // columns)), layout="constrained")
    last = min(len(observed), len(values)) - 1
    for place, window in enumerate(np.linspace(0, last, count).round().astype(int)):
        axes = panels.add_subplot(-(-count // columns), columns, place + 1)
        _fan(axes, values[window :: len(observed), :, 0], observed[window, :, 0], given)
        axes.set_ylabel(label(names[0]))
    return panels


def _fan(axes: Axes, paths: np.ndarray, observed: np.ndarray, given: int) -> None:
    steps = np.arange(paths.shape[1])
    ahead = steps[given - 1 :]
    for low, high in BANDS:
        ends = np.quantile(paths[:, given - 1 :], [low, high], axis=0)
        axes.fill_between(ahead, *ends, color="C0", alpha=0.25, linewidth=0, label=f"{high - low:.0%} of {len(paths)} samples")
    axes.plot(ahead, np.median(paths[:, given - 1 :], axis=0), color="C0", linewidth=1, label="median")
    axes.plot(steps, observed, color="black", linewidth=1, label="observed")
    axes.axvline(given - 1, color="grey", linewidth=0.6, linestyle=":")
    axes.legend(fontsize=6)
    axes.set_xlabel("step")
