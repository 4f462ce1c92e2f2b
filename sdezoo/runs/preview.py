"""The preview of a trained model: a few samples, drawn when training has ended, in the run's `samples/`."""

from __future__ import annotations

from pathlib import Path

import torch

from sdezoo.generation.export import write
from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler, together
from sdezoo.store.restoring import restore

_SAMPLES = 64


def draw_preview(run: Path, device: torch.device) -> Path:
    """Restore the newest checkpoint, draw 64 samples by the preferred sampler, of all classes in turn, and write them.

    Args:
        run: the run folder.
        device: where to compute.

    Returns:
        The file, `samples/step-N.csv` for a table, else `.png`.

    Raises:
        CompositionError: where no sampler fits.
        SupportError: where the sampler leaves the support.
        RunError: where the checkpoint cannot be restored, or the file not be written.
    """
    trained = restore(run)
    trained.model.to(device)
    state = trained.state
    label = "each" if state.classes else None
    made = together(Draw(trained, choose_sampler(trained, None), SampleIndices.first(_SAMPLES), device=device, label=label).batches())
    path = run / "samples" / f"step-{state.step}.{'csv' if state.kind == 'table' else 'png'}"
    write(made.x, path, kind=state.kind, columns=state.columns, levels=state.levels, types=trained.encoding.types)
    return path
