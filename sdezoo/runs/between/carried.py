"""Where a bridge carries rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sdezoo.bridging.curves import Curves
from sdezoo.generation.samples import SampleIndices, choose_sampler, steps_for
from sdezoo.runs.between.asked import Asked
from sdezoo.store.restoring import Trained


def carried(trained: Trained, rows: Tensor, times: Sequence[float], asked: Asked, start: float | None = None) -> Tensor:
    """Carry rows along a bridge.

    Args:
        trained: the model of a direction; it is moved to the device.
        rows: rows `(n, *event)`, float32, in the user's units.
        times: increasing times to record, in the user's unit.
        asked: the sampler, its steps, the seed and the device.
        start: time of the snapshot that the rows are of; None: that where the direction starts.

    Returns:
        Curves, `(n, T, *event)`.
    """
    trained.model.to(asked.device)
    sampler, x = choose_sampler(trained, asked.sampler), trained.encoding.encode(rows)
    at, first = torch.tensor(times, dtype=torch.float64), 1.0
    if start is not None:
        first = float(trained.model.sde.own_time(torch.tensor(start, dtype=torch.float64)))
    steps, which = asked.steps or steps_for(trained, sampler), SampleIndices.first(len(x))
    return torch.cat([*Curves(trained, sampler, x, at, which, steps, asked.seed, asked.device, first).parts()])
