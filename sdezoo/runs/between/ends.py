"""Evaluation of a bridge: where each direction carries held-out rows, what the coupling costs, and whether both directions agree.

For each direction, held-out rows of the first snapshot on its way are carried along, and compared with held-out rows of every later one.
The cost of the coupling is the mean squared distance between a start and its end, with each column in units of its standard deviation over
both ends. It lies between that of optimal transport and that of random pairs. At the Schrödinger bridge both directions have the same
pairs of ends, so that pairs of one are compared with pairs of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from sdezoo.bridging.curves import Curves
from sdezoo.data.dataset import Snapshot
from sdezoo.errors import CompositionError
from sdezoo.evaluation.comparison import Comparison, EvaluationProgress, Parts, columns
from sdezoo.evaluation.rows import FloatArray, choice, flat
from sdezoo.evaluation.sizes import Sizes, compared_rows, sizes
from sdezoo.evaluation.suite import Measured, Sets, distances
from sdezoo.evaluation.table import number
from sdezoo.evaluation.verdict import verdict
from sdezoo.generation.samples import SampleIndices, choose_sampler
from sdezoo.process.bridge import Bridge
from sdezoo.store.restoring import Trained

_ASSIGNED = 500  # rows between which optimal transport is computed
_COST, _OTHERS = 5, 6  # random streams for choosing rows


@dataclass(frozen=True)
class Asked:
    """What is asked of an evaluation.

    Args:
        n: largest number of rows of each kind.
        steps: sampler steps, in each span.
        seed: random seed.
        sampler: spec string of the sampler; None: the preferred one.
        device: device of the models.
    """

    n: int
    steps: int
    seed: int
    sampler: str | None
    device: torch.device


@dataclass(frozen=True, eq=False)
class BridgeFound:
    """The result.

    Args:
        sizes: numbers of rows compared.
        measured: lines of the table.
        notes: notes below it.
        facts: further entries of the record.
        verdict: the answer for each direction, and the cost.
        last: the comparison at the end of the last direction, for its picture.
    """

    sizes: Sizes
    measured: list[Measured]
    notes: list[str]
    facts: dict[str, Any]
    verdict: str
    last: Comparison


def compare_ends(
    models: Mapping[str, Trained], snapshots: Sequence[Snapshot], names: Sequence[str], asked: Asked, progress: EvaluationProgress
) -> BridgeFound:
    """Compare where a bridge carries rows with the snapshots there.

    Args:
        models: the model of each direction.
        snapshots: the snapshots, in order of time, in the codes of the models.
        names: names of the columns; may be empty.
        asked: what is asked.
        progress: called during the computation.

    Raises:
        CompositionError: if rows are not points or rows of a table.
        DataError: if there are too few rows.
    """
    if snapshots[0].train.ndim != 2:
        raise CompositionError("The evaluation of a bridge is for points and tables.", "Look at samples instead: sdezoo sample.")
    train, held = (min(len(getattr(at, part)) for at in snapshots) for part in ("train", "test"))
    size = sizes(min(asked.n, max(train, held)), training=train, held_out=held, image=False)
    size = size._replace(samples=size.compared)
    parts = [compared_rows(at.train, at.test, size, asked.seed) for at in snapshots]
    unit = np.concatenate([flat(at.train) for at in (snapshots[0], snapshots[-1])]).std(0)
    unit = np.where(unit > 0, unit, 1.0)
    measured: list[Measured] = []
    notes, answers, facts, last, pairs = list(size.notes), [], {}, None, {}
    for name, trained in models.items():
        assert isinstance(trained.model.sde, Bridge), "the model of a bridge"
        order = list(range(len(snapshots))) if trained.model.sde.forward else list(range(len(snapshots)))[::-1]
        progress(0, 1, f"carrying rows {name}")
        curves = _carried(trained, parts[order[0]][0], [at.time for at in snapshots], asked)
        for k in order[1:]:
            group = name if len(snapshots) == 2 else f"{name}, time {snapshots[k].time:g}"
            compared = Parts(curves[:, k], *parts[k], snapshots[k].train)
            last = columns(compared, group, names=names, seed=asked.seed, progress=progress)
            measured += [replace(line, group=f"{group}: {line.group}") for line in last.measured]
            notes += [f"{group}: {note}" for note in last.notes if not note.startswith("  ")]
            answers.append(f"{group.capitalize()}: {verdict(last.measured, size.compared, last.tests, last.copies)}")
        start, end = flat(curves[:, order[0]]) / unit, flat(curves[:, order[-1]]) / unit
        cost = _costs(start, end, flat(parts[order[-1]][0]) / unit, asked.seed)
        measured.append(cost.line(f"{name}: coupling"))
        facts[name] = cost.record
        answers.append(f"Squared distance of a row {name} is {number(cost.pairs)}, of random pairs {number(cost.random)}, "
                       f"of optimal transport {number(cost.optimal)}.")  # fmt: skip
        pairs[name] = np.concatenate([curves[:, 0].double().numpy() / unit, curves[:, -1].double().numpy() / unit], 1)
    if len(models) == 2:
        forward, backward = (pairs[name] for name in ("forward", "backward"))
        half = np.random.default_rng(asked.seed + _OTHERS).permutation(len(forward))
        one, other = half[: len(half) // 2], half[len(half) // 2 : 2 * (len(half) // 2)]
        measured += distances("pairs: backward against forward", Sets(forward[one], backward[one], forward[other]), seed=asked.seed)
    assert last is not None, "a bridge has two snapshots or more"
    notes += [note for note in last.notes if note.startswith("  ")]  # what privacy figures are
    return BridgeFound(size, measured, notes, {"coupling": facts}, " ".join(answers), last)


def _carried(trained: Trained, rows: Tensor, times: Sequence[float], asked: Asked) -> Tensor:
    """Curves of rows at the times of all snapshots, `(n, T, d)`."""
    trained.model.to(asked.device)
    sampler, x = choose_sampler(trained, asked.sampler), trained.encoding.encode(rows)
    at = torch.tensor(times, dtype=torch.float64)
    return torch.cat([*Curves(trained, sampler, x, at, SampleIndices.first(len(x)), asked.steps, asked.seed, asked.device).parts()])


@dataclass(frozen=True)
class _Costs:
    pairs: float
    random: float
    optimal: float

    def line(self, group: str) -> Measured:
        """The line of the table: the floor is that of random pairs, and the best that of optimal transport."""
        return Measured(group, "squared distance (real rows: random pairs)", self.pairs, None, None, self.random, self.optimal)

    @property
    def record(self) -> dict[str, float]:
        return {"squared_distance": self.pairs, "random_pairs": self.random, "optimal_transport": self.optimal}


def _costs(start: FloatArray, end: FloatArray, real: FloatArray, seed: int) -> _Costs:
    """Costs of pairs, and of random and optimal pairs of starts with real rows of the end."""
    chosen = choice(len(start), _ASSIGNED, seed, _COST)
    squared = cdist(start[chosen], real[chosen], "sqeuclidean")
    optimal = squared[linear_sum_assignment(squared)].mean()
    return _Costs(float(((end - start) ** 2).sum(1).mean()), float(squared.mean()), float(optimal))
