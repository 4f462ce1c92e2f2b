"""Evaluations of an exact score until the error of samples is at most twice the sampling floor.

The data are eight equal components in the plane of the coordinates (`problems.eight`). The error is the sliced Wasserstein-1 distance
of a sample to the exact distribution, over evenly spaced directions. Along each direction the distribution is again a mixture, with
known quantiles. The floor is the same distance for samples of the data. Both are means over samples of the same size. Sampling starts
from the exact distribution at `t = hi`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdezoo.bench.table import Row, Table
from sdezoo.bench.timing import Reporter, one_thread
from sdezoo.conformance.bank.problems import Mixture, eight
from sdezoo.errors import SupportError
from sdezoo.process.affine import AffineSDE
from sdezoo.sampling.sampler import Sampler
from sdezoo.verification.efficiency import distance, quantiles, steps_for
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SAMPLERS, SDES

COUNTS = (5, 10, 15, 20, 30, 50, 100, 200, 500, 1000)
"""The numbers of evaluations that are tried, in increasing order."""

_DIRECTIONS = 16
_FLOOR_DRAWS = 40
_FORMATS = {"process": "", "sampler": "", "evaluations": "d", "error_over_floor": ".2f", "note": ""}


class _Task:
    """The mean error of `draws` samples of `rows` rows each, against the exact distribution of the data."""

    def __init__(self, sde: AffineSDE, rows: int, draws: int) -> None:
        self.model, self._rows, self._draws = eight(sde), rows, draws
        angle = torch.arange(_DIRECTIONS, dtype=torch.float64) * math.pi / _DIRECTIONS
        self._axes = torch.stack([angle.cos(), angle.sin()])
        deviations = (self.model.deviations**2 @ self._axes**2).sqrt()
        self._exact = quantiles(Mixture(sde, self.model.means @ self._axes, deviations), rows)
        self.floor = self._error(self.model.clean(rows * _FLOOR_DRAWS))

    def error(self, sampler: Sampler[Any], steps: int, seed: int) -> float:
        """The error of a sampler, in units of the floor.

        Args:
            sampler: the sampler.
            steps: number of steps.
            seed: seed of the samples.

        Raises:
            SupportError: if the sampler leaves the support.
        """
        x = sampler.sample(self.model, (self._rows * self._draws, 2), steps, seed)
        return self._error(self.model.sde.encode(x.double())) / self.floor

    def _error(self, coordinates: Tensor) -> float:
        samples = (coordinates @ self._axes).split(self._rows)
        return sum(distance(sample, self._exact) for sample in samples) / len(samples)


def evaluations_to_floor(
    seed: int, report: Reporter, *, counts: Sequence[int] = COUNTS, rows: int = 2000, draws: int = 4, names: Sequence[str] | None = None
) -> Table:
    """Find the fewest evaluations at which the error is at most twice the floor, for each installed affine process and sampler.

    Args:
        seed: seed of the samples.
        report: reports progress.
        counts: numbers of evaluations to try, in increasing order.
        rows: rows of a sample.
        draws: number of samples that the error is averaged over.
        names: names of the samplers; None: every sampler that fits the process.
    """
    tasks = [sde for _, sde in defaults(SDES) if isinstance(sde, AffineSDE) and sde.state_shape((1, 2)) == (1, 2)]
    pairs = [
        (sde, sampler)
        for sde in tasks
        for name, sampler in defaults(SAMPLERS)
        if sampler.refuses(sde) is None and (names is None or name in names)
    ]
    found, task = [], None
    with one_thread():
        for k, (sde, sampler) in enumerate(pairs, start=1):
            if task is None or task.model.sde != sde:
                task = _Task(sde, rows, draws)
            found.append({"process": sde.spec, "sampler": sampler.spec, **_least(task, sampler, counts, seed)})
            report(k, len(pairs), detail=f"{sde.title()} {sampler.title()}")
    return Table(
        f"Evaluations to twice the sampling floor: exact score, eight components in the plane, sliced W1 of {rows} samples, "
        f"mean of {draws}",
        _FORMATS,
        found,
    )


def _least(task: _Task, sampler: Sampler[Any], counts: Sequence[int], seed: int) -> Row:
    error = None
    for count in counts:
        steps = steps_for(sampler, count)
        if steps is None:
            continue
        task.model.evaluations = 0
        try:
            error = task.error(sampler, steps, seed)
        except SupportError:
            continue
        if error <= 2:
            return {"evaluations": task.model.evaluations, "error_over_floor": error}
    where = f"at {counts[-1]}"
    return {"evaluations": None, "error_over_floor": error, "note": f"not reached {where}" if error else f"left the support, even {where}"}
