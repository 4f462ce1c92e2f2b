"""A bridge at snapshots that its training has not seen: beside linear interpolation, and the snapshots before and after.

Rows of the neighbouring snapshots are carried to the time of the one left out, and compared with half of its rows. The other half gives
the floor. Linear interpolation joins rows of both neighbours, in independent pairs, or in those of optimal transport.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from sdezoo.data.dataset import Data, Snapshot
from sdezoo.evaluation.comparison import EvaluationProgress
from sdezoo.evaluation.measures.kernels import median_distance, mmd2
from sdezoo.evaluation.measures.transport import wasserstein
from sdezoo.evaluation.resampling import halves
from sdezoo.evaluation.rows import FloatArray, choice, flat, stream
from sdezoo.evaluation.suite import LEAST, Measured
from sdezoo.evaluation.table import number
from sdezoo.runs.between.asked import Asked
from sdezoo.runs.between.carried import carried
from sdezoo.store.restoring import Trained

_BEFORE, _AFTER, _SPLIT = 13, 14, 15  # random streams for choosing rows
_HALVES = 40

_PAIRED, _INDEPENDENT = "linear interpolation, optimal transport", "linear interpolation, independent pairs"
_NEIGHBOURS = ("the snapshot before", "the snapshot after")


class LeftOut(NamedTuple):
    """What is found at the snapshots left out."""

    measured: list[Measured]
    """Lines of the table."""
    notes: list[str]
    """Notes below it."""
    facts: dict[str, Any]
    """W1 and MMD² by time and by what is compared, as JSON values."""
    answers: list[str]
    """A sentence for each snapshot."""


def compare_left_out(models: Mapping[str, Trained], data: Data, unit: FloatArray, asked: Asked, progress: EvaluationProgress) -> LeftOut:
    """Judge a bridge at the snapshots that training left out.

    Args:
        models: the model of each direction.
        data: the data of the run.
        unit: what columns are divided by.
        asked: what is asked.
        progress: called during the computation.
    """
    found = LeftOut([], [], {}, [])
    for at in data.left_out:
        before = [other for other in data.snapshots if other.time < at.time]
        after = [other for other in data.snapshots if other.time > at.time]
        place = f"Time {at.time:g}, left out"
        if not before or not after:
            found.notes.append(f"{place}, lies outside the other snapshots: a bridge does not go there.")
            continue
        rows, left, right = _rows(at), _rows(before[-1]), _rows(after[0])
        n = min(asked.n, len(rows) // 2, len(left), len(right))
        if n < LEAST:
            found.notes.append(f"{place}, has too few rows to be judged, or its neighbours have: {n} for {LEAST}.")
            continue
        progress(0, 1, f"carrying rows to time {at.time:g}")
        left, right = left[choice(len(left), n, asked.seed, _BEFORE)], right[choice(len(right), n, asked.seed, _AFTER)]
        sets = {"real rows": None, **_carried(models, left, right, (before[-1], at, after[0]), asked)}
        sets |= _interpolated(left, right, (at.time - before[-1].time) / (after[0].time - before[-1].time), unit)
        order = stream(asked.seed, _SPLIT).permutation(len(rows))
        truth, sets["real rows"] = rows[order[:n]], rows[order[n : 2 * n]]
        _judge(found, at.time, flat(truth) / unit, {name: flat(x) / unit for name, x in sets.items()}, list(models), asked.seed)
    return found


def _rows(at: Snapshot) -> Tensor:
    return torch.cat([at.train, at.test])


def _carried(
    models: Mapping[str, Trained], left: Tensor, right: Tensor, around: tuple[Snapshot, Snapshot, Snapshot], asked: Asked
) -> dict[str, Any]:
    """Rows of the neighbour on the way of each direction, where it carries them."""
    before, at, after = around
    found = {}
    for name, trained in models.items():
        rows, start = (left, before) if trained.model.sde.forward else (right, after)
        found[f"bridge, {name}"] = carried(trained, rows, [at.time], asked, start.time)[:, 0]
    return found


def _interpolated(left: Tensor, right: Tensor, share: float, unit: FloatArray) -> dict[str, Any]:
    cost = cdist(flat(left) / unit, flat(right) / unit, "sqeuclidean")
    partner = right[torch.from_numpy(linear_sum_assignment(cost)[1])]
    # Rows of both were chosen apart, so that equal places are independent pairs.
    shuffled = right[torch.from_numpy(stream(0, _SPLIT).permutation(len(right)))]
    lines = {_PAIRED: (1 - share) * left + share * partner, _INDEPENDENT: (1 - share) * left + share * shuffled}
    return {**lines, **dict(zip(_NEIGHBOURS, (left, right), strict=True))}


def _judge(found: LeftOut, time: float, truth: FloatArray, sets: dict[str, FloatArray], directions: Sequence[str], seed: int) -> None:
    bandwidth = median_distance(truth, seed=seed)
    measures = {"W1": wasserstein, "MMD²": lambda a, b: mmd2(a, b, bandwidth=bandwidth)}
    record: dict[str, dict[str, float]] = {}
    for measure, of in measures.items():
        values = {name: float(of(truth, x)) for name, x in sets.items()}
        record[measure] = values
        for name in list(values)[1:]:
            ((low, high),) = halves(of, (truth, sets[name]), repeats=_HALVES, seed=seed)
            group = (
                f"time {time:g}, left out: {measure}, in standard deviations" if measure == "W1" else f"time {time:g}, left out: {measure}"
            )
            found.measured.append(Measured(group, name, values[name], (float(low), float(high)), "halves", values["real rows"], 0))
    found.facts[f"{time:g}"] = record
    w1 = record["W1"]
    bridge = " and ".join(f"{number(w1[f'bridge, {name}'])} {name}" for name in directions)
    found.answers.append(
        f"Time {time:g}, left out: the bridge is {bridge} from it in W1, real rows {number(w1['real rows'])}, linear interpolation "
        f"{number(w1[_PAIRED])} by optimal transport and {number(w1[_INDEPENDENT])} by independent pairs, the nearer snapshot "
        f"{number(min(w1[name] for name in _NEIGHBOURS))}."
    )
