"""Preview of a trained model: a few samples drawn at the end of training, in the run's `samples/`."""

from __future__ import annotations

from pathlib import Path

import torch

from sdezoo.generation.export import write
from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler, together
from sdezoo.learning.observed import is_simulated
from sdezoo.store.restoring import restore

_SAMPLES = 64


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
    steps = sampler.usual_steps
    made = together(Draw(trained, sampler, SampleIndices.first(_SAMPLES), steps, device=device, label=label).batches())
    ending = {"table": "csv", "paths": "npz"}.get(state.kind, "png")
    path = run / "samples" / f"step-{state.step}.{ending}"
    times = trained.model.times if is_simulated(trained.model) else None
    write(made.x, path, kind=state.kind, columns=state.columns, levels=state.levels, types=trained.encoding.types, times=times)
    return path
