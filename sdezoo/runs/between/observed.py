"""Evaluation of an SDE that was learned from paths, on held-out paths: see `sdezoo.evaluation.observed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.dataset import Data
from sdezoo.errors import ParameterError
from sdezoo.evaluation.comparison import EvaluationProgress
from sdezoo.evaluation.measures.transitions import DRAWS, transforms
from sdezoo.evaluation.observed import ObservedPaths, paths, verdict_of
from sdezoo.evaluation.rows import FloatArray, choice
from sdezoo.evaluation.sizes import compared_rows, sizes
from sdezoo.evaluation.verdict import difference
from sdezoo.generation.samples import choose_sampler, steps_for
from sdezoo.learning.paths.simulated import SimulatedModel
from sdezoo.process.noise import Noise, mix
from sdezoo.runs.between.asked import Asked, Found, count_outside_range
from sdezoo.runs.given_rows import read_samples
from sdezoo.sampling.simulation import simulated
from sdezoo.store.restoring import Trained

_FORECAST, _SIMULATED, _JUDGED, _GIVEN = 9, 10, 11, 12  # random streams
_TRANSITIONS, _AT_ONCE = 2000, 2**15  # transitions judged, at most if paths are shorter; forecasts drawn at a time


def compare_paths(run: Path, trained: Trained, data: Data, asked: Asked, samples: Path | None, progress: EvaluationProgress) -> Found:
    """Compare a learned SDE with held-out paths.

    Args:
        run: the run folder, for words.
        trained: the model.
        data: the data of the run.
        asked: what is asked.
        samples: file of paths to compare in place of simulated ones; transitions are those of the model in any case; None: none.
        progress: called during the computation.

    Raises:
        CompositionError: if a sampler is asked for.
        ParameterError: if there are samples, and paths have times of their own.
        DataError: if there are too few paths, or the samples are not paths of this run.
    """
    assert isinstance(trained.model, SimulatedModel), "a model of paths"
    assert data.times is not None, "paths have times"
    model, common = trained.model.to(asked.device), data.times.ndim == 1
    if samples and not common:
        raise ParameterError("Paths with times of their own are not compared with those of a file.", "Leave out --samples.")
    given = None if samples is None else read_samples(samples, trained).double()
    steps = asked.steps or steps_for(trained, choose_sampler(trained, asked.sampler))
    x = torch.cat([data.train, data.test]).double()
    test_times = data.times if data.test_times is None else data.test_times
    every = [times.expand(len(part), -1) for times, part in ((data.times, data.train), (test_times, data.test))]
    times, origin = torch.cat(every), float(data.times.min())
    size = sizes(min(asked.n, asked.n if given is None else len(given)), training=len(data.train), held_out=len(data.test), image=False)
    size = size._replace(samples=size.compared)
    numbers = torch.arange(len(x))
    held, floor = compared_rows(numbers[: len(data.train)], numbers[len(data.train) :], size, asked.seed)

    def part(rows: Tensor, values: Tensor | None = None) -> ObservedPaths:
        values = x[rows] if values is None else values
        return ObservedPaths(values.numpy(), model.coordinates(values).numpy(), times[rows].numpy())

    progress(0, 1, "simulating paths")
    if given is None:
        noise = Noise.seeded(asked.seed, _SIMULATED)
        drawn = _simulated(model, x[floor, 0], times[floor] - origin, steps, noise, asked.device)
    else:
        drawn = given[choice(len(given), size.compared, asked.seed, _GIVEN)]
    counts, words = count_outside_range(drawn.float(), trained)
    source = str(samples) if samples else f"{run} by simulation, {steps} {'step' if steps == 1 else 'steps'} between observations"
    u = None
    if model.markov:
        judged = len(data.train) + choice(len(data.test), max(1, _TRANSITIONS // (x.shape[1] - 1)), asked.seed, _JUDGED)
        u = _transforms(model, x[judged], times[judged] - origin, steps, asked, progress)
    title, names = f"{source}, {size.compared} paths", data.columns
    found, forecasts = paths(
        (part(held), part(floor, drawn), part(floor)), u, title, names=names, common=common, seed=asked.seed, progress=progress
    )
    apart = difference(found.measured, size.compared, found.tests, "held-out paths" if size.held_out else "paths of the data")
    facts = {"samples": str(samples)} if samples else {"steps": steps}
    answer = f"{verdict_of(forecasts, names)} {apart}" if forecasts else apart
    notes = [words, *size.notes, *found.notes]
    return Found(source, size, found.measured, notes, {**facts, **counts, **found.facts}, answer, found.picture)


def _simulated(model: SimulatedModel[Any], x: Tensor, times: Tensor, steps: int, noise: Noise, device: torch.device) -> Tensor:
    """Paths from values `(n, d)` at times of their own, `(n, T, d)`."""
    with torch.no_grad():
        return model.sde.decode(simulated(model.sde, model.states_at(x.to(device), noise), times, steps, noise)).cpu()


def _transforms(model: SimulatedModel[Any], x: Tensor, times: Tensor, steps: int, asked: Asked, progress: EvaluationProgress) -> FloatArray:
    """Transforms of all transitions of paths, `(n, T − 1, d)`, each among draws of its forecast."""
    n, length, d = x.shape
    start, end = x[:, :-1].reshape(-1, d), x[:, 1:].reshape(-1, d)
    spans = torch.stack([times[:, :-1], times[:, 1:]], -1).reshape(-1, 2)
    found, size = [], max(1, _AT_ONCE // DRAWS)
    for first in range(0, len(start), size):
        progress(first, len(start), "forecasting one step")
        rows = slice(first, first + size)
        count = len(start[rows])
        noise = Noise.seeded(mix(asked.seed, _FORECAST), first)
        many = (start[rows].repeat(DRAWS, 1), spans[rows].repeat(DRAWS, 1))
        ends = _simulated(model, *many, steps, noise, asked.device)[:, -1].reshape(DRAWS, count, d)
        found.append(transforms(np.asarray(ends), np.asarray(end[rows]), seed=mix(asked.seed, first)))
    return np.concatenate(found).reshape(n, length - 1, d)
