"""Evaluation of a bridge: where each direction carries held-out rows, what the coupling costs, and whether both directions agree.

For each direction, held-out rows of the first snapshot on its way are carried along, and compared with held-out rows of every later one.
The cost of the coupling is the mean squared distance between a start and its end, with each column in units of its standard deviation over
both ends; of images, the sum over pixels. Beside it stand that of random pairs, and that of optimal transport between up to 500 rows, which
in many dimensions overstates that between the distributions. At the Schrödinger bridge both directions have the same pairs of ends, so that
pairs of one are compared with pairs of the other.

Images are compared as those of a score model, in pixels and in features. The classifier tells the two ends apart: its features need no
labels, and it says which share of the images that are carried are taken for the end. Images on a lattice of grey values are clipped and
rounded to it before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from sdezoo.data.dataset import Data
from sdezoo.evaluation.comparison import Comparison, EvaluationProgress, Extractor, Parts, columns, images
from sdezoo.evaluation.measures.classifier import Judge, classifier
from sdezoo.evaluation.rows import FloatArray, choice, flat
from sdezoo.evaluation.sizes import compared_rows, sizes
from sdezoo.evaluation.suite import Measured, Sets, distances
from sdezoo.evaluation.table import number
from sdezoo.evaluation.verdict import verdict
from sdezoo.generation.samples import choose_sampler, steps_for
from sdezoo.process.bridge import Bridge
from sdezoo.runs.between.asked import Asked, Found, count_outside_range
from sdezoo.runs.between.carried import carried
from sdezoo.runs.between.left_out import compare_left_out
from sdezoo.store.restoring import Trained

_ASSIGNED = 500  # rows between which optimal transport is computed
_COST, _OTHERS = 5, 6  # random streams for choosing rows


def compare_ends(
    run: Path, models: Mapping[str, Trained], data: Data, asked: Asked, extractor: Extractor | None, progress: EvaluationProgress
) -> Found:
    """Compare where a bridge carries rows with the snapshots there.

    Args:
        run: the run folder; a classifier of images is kept in its `evaluation/`.
        models: the model of each direction.
        data: the data of the run, in the codes of the models.
        asked: what is asked.
        extractor: features of images; None: those of the classifier of the ends.
        progress: called during the computation.

    Raises:
        DataError: if there are too few rows.
    """
    snapshots, image = data.snapshots, data.kind == "image"
    train, held = (min(len(getattr(at, part)) for at in snapshots) for part in ("train", "test"))
    size = sizes(min(asked.n, max(train, held)), training=train, held_out=held, image=image)
    size = size._replace(samples=size.compared)
    parts = [compared_rows(at.train, at.test, size, asked.seed) for at in snapshots]
    unit = np.concatenate([flat(at.train) for at in (snapshots[0], snapshots[-1])]).std(0)
    unit = np.ones_like(unit) if image else np.where(unit > 0, unit, 1.0)
    judge = _judge_of_ends(run / "evaluation", data, progress) if image else None
    extractor = extractor or (None if judge is None else Extractor("the classifier of the ends", judge.net.features))
    measured: list[Measured] = []
    notes, answers, facts, last, pairs = list(size.notes), [], {}, None, {}
    for name, trained in models.items():
        assert isinstance(trained.model.sde, Bridge), "the model of a bridge"
        order = list(range(len(snapshots))) if trained.model.sde.forward else list(range(len(snapshots)))[::-1]
        progress(0, 1, f"carrying rows {name}")
        curves = carried(trained, parts[order[0]][0], [at.time for at in snapshots], asked)
        counts, words = count_outside_range(curves[:, order[1:]].flatten(0, 1), trained)
        notes.append(f"{name}: {words}")
        curves = trained.state.bounds.final(curves)
        for k in order[1:]:
            group = name if len(snapshots) == 2 else f"{name}, time {snapshots[k].time:g}"
            compared = Parts(curves[:, k], *parts[k], snapshots[k].train)
            last = _compared(compared, group, k, data, judge, extractor, asked.seed, progress)
            measured += [replace(line, group=f"{group}: {line.group}") for line in last.measured]
            notes += [f"{group}: {note}" for note in last.notes if not note.startswith("  ") and (judge is None or note != judge.words)]
            answers.append(f"{group.capitalize()}: {verdict(last.measured, size.compared, last.tests, last.copies)}")
            if judge is not None:
                facts[f"taken_for_the_end, {name}"] = share = last.facts["classes"]["samples"][k]
                real = float((judge.net.predict(parts[k][0]) == k).double().mean())
                answers.append(f"A classifier of the two ends takes {share:.1%} of them for the end, and {real:.1%} of real ones.")
        start, end = flat(curves[:, order[0]]) / unit, flat(curves[:, order[-1]]) / unit
        cost = _costs(start, end, flat(parts[order[-1]][0]) / unit, asked.seed)
        measured.append(cost.line(f"{name}: coupling"))
        facts[name] = cost.record | counts
        answers.append(f"Squared distance of a row {name} is {number(cost.pairs)}, of random pairs {number(cost.random)}, "
                       f"of optimal transport {number(cost.optimal)}.")  # fmt: skip
        pairs[name] = np.concatenate([flat(curves[:, 0]) / unit, flat(curves[:, -1]) / unit], 1)
    if len(models) == 2:
        forward, backward = (pairs[name] for name in ("forward", "backward"))
        half = np.random.default_rng(asked.seed + _OTHERS).permutation(len(forward))
        one, other = half[: len(half) // 2], half[len(half) // 2 : 2 * (len(half) // 2)]
        measured += distances("pairs: backward against forward", Sets(forward[one], backward[one], forward[other]), seed=asked.seed)
    assert last is not None, "a bridge has two snapshots or more"
    notes += [note for note in last.notes if note.startswith("  ")]  # what privacy figures are
    notes += [] if judge is None else [f"The ends are told apart by a classifier. {judge.words}"]
    left_out = compare_left_out(models, data, unit, asked, progress)
    record = {"coupling": facts} | ({"left_out": left_out.facts} if data.left_out else {})
    newest = list(models.values())[-1]
    steps = asked.steps or steps_for(newest, choose_sampler(newest, asked.sampler))
    answer = " ".join([*left_out.answers, *answers])
    found = [*measured, *left_out.measured]
    return Found(f"{run} in {steps} steps", size, found, [*notes, *left_out.notes], {"steps": steps, **record}, answer, last.picture)


def _compared(
    parts: Parts,
    title: str,
    end: int,
    data: Data,
    judge: Judge | None,
    extractor: Extractor | None,
    seed: int,
    progress: EvaluationProgress,
) -> Comparison:
    """Compare rows that were carried to snapshot `end` with those there."""
    if data.kind != "image":
        return columns(parts, title, names=data.columns, seed=seed, progress=progress)
    labels = torch.full((len(parts.every),), end)
    options = {"levels": data.levels, "extractor": extractor, "seed": seed, "progress": progress}
    return images(parts, title, judge=judge, labels=labels, **options)


def _judge_of_ends(folder: Path, data: Data, progress: EvaluationProgress) -> Judge:
    """A classifier of images of the two ends: 0 and 1."""
    progress(0, 1, "training a classifier of the ends")
    both = [(torch.cat([getattr(at, part) for at in data.snapshots]), _which(data, part)) for part in ("train", "test")]
    return classifier(folder, *both[0], *both[1])


def _which(data: Data, part: str) -> torch.Tensor:
    """The snapshot of each of its rows, int64."""
    return torch.cat([torch.full((len(getattr(at, part)),), k) for k, at in enumerate(data.snapshots)])


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
