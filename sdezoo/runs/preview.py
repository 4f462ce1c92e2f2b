"""Preview of a trained model, made at the end of training: a few samples in the run's `samples/`, and its loss, `loss.png`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdezoo.generation.export import write
from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler, steps_for
from sdezoo.learning.paths.simulated import is_simulated
from sdezoo.plots import FIRST, GREY, SECOND, Figure, plain, save, shade, tidy
from sdezoo.store.files import atomic_write
from sdezoo.store.restoring import restore
from sdezoo.training.metrics import recorded

LOSS = "loss.png"
"""Name of the picture of the loss, in the run folder."""

_SAMPLES, _LEVELS = 64, 64


def draw_preview(run: Path, device: torch.device) -> Path:
    """Draw 64 samples from the newest checkpoint with the preferred sampler, cycling through all classes, and write them.

    Args:
        run: the run folder.
        device: device to sample on.

    Returns:
        The file, `samples/step-N.csv` for a table, `.npz` for paths, else `samples/step-N.png`.

    Raises:
        CompositionError: if no sampler fits.
        SupportError: if the sampler leaves the support.
        RunError: if the checkpoint cannot be restored, or the file cannot be written.
    """
    trained = restore(run)
    trained.model.to(device)
    state = trained.state
    label = "each" if state.classes else None
    sampler = choose_sampler(trained, None)
    steps = steps_for(trained, sampler)
    made = Draw(trained, sampler, SampleIndices.first(_SAMPLES), steps, device=device, label=label).together()
    ending = {"table": "csv", "paths": "npz"}.get(state.kind, "png")
    path = run / "samples" / f"step-{state.step}.{ending}"
    times = trained.model.times if is_simulated(trained.model) else None
    write(made.x, path, kind=state.kind, columns=state.columns, levels=state.levels, types=trained.encoding.types, times=times)
    return path


def draw_loss(run: Path) -> Path | None:
    """Write the picture of the loss, `loss.png`.

    Args:
        run: the run folder.

    Returns:
        The file; None if fewer than two losses are recorded.

    Raises:
        RunError: if it cannot be written.
    """
    figure = loss_figure(recorded(run))
    if figure is None:
        return None
    with atomic_write(run / LOSS, "Make room, or make it writable.") as file:
        save(figure, file)
    return run / LOSS


@plain()
def loss_figure(rows: Sequence[dict[str, Any]]) -> Figure | None:
    """Plot the loss, and the loss by noise level if it is recorded.

    Args:
        rows: lines of `metrics.jsonl`, see `sdezoo.training.metrics.recorded`.

    Returns:
        The figure; None if fewer than two losses are recorded.
    """
    training, held_out = _series(rows, "loss"), _series(rows, "validation_loss")
    if len(training) < 2:
        return None
    levels = _levels(rows)
    count = 1 if levels is None else 2
    figure = Figure(figsize=(4.6 * count, 3.0), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    panels[0].plot(*zip(*training, strict=True), color=FIRST, lw=1.4, label="training")
    if held_out:
        panels[0].plot(*zip(*held_out, strict=True), "o-", color=SECOND, lw=1, ms=4, label="held-out rows")
    tidy(panels[0], "loss")
    panels[0].set_xlabel("step")
    panels[0].legend(fontsize=8, frameon=False, labelcolor=GREY)
    if levels is not None:
        steps, values = levels
        for k in range(values.shape[1]):
            name = {0: "least noise", values.shape[1] - 1: "most noise"}.get(k)
            panels[1].plot(steps, values[:, k], color=shade(k, values.shape[1]), lw=1.1, label=name)
        tidy(panels[1], "loss by noise level")
        panels[1].set_xlabel("step")
        panels[1].legend(fontsize=8, frameon=False, labelcolor=GREY)
    return figure


def _series(rows: Sequence[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(row["step"], float(row[key])) for row in rows if _finite(row.get(key))]


def _levels(rows: Sequence[dict[str, Any]]) -> tuple[list[int], np.ndarray] | None:
    found = [row for row in rows if isinstance(row.get("levels"), list) and row["levels"]]
    widths = {len(row["levels"]) for row in found}
    if len(found) < 2 or len(widths) != 1 or max(widths) > _LEVELS:
        return None
    values = np.array([[float(value) if _finite(value) else math.nan for value in row["levels"]] for row in found])
    return [row["step"] for row in found], values


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30
