"""Samples compared with data, whole: the measures that fit, what a reader has to know, and the picture.

Rows are compared as the user has them, with two exceptions. Columns are divided by the standard deviation of the training rows: else
distances are those of the column with the largest unit. Images on a lattice of grey values are put on it, clipped and rounded: real
pixels lie there, and what does not is told apart by that alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from sdezoo.errors import DataError
from sdezoo.evaluation import sheet, suite
from sdezoo.evaluation.classifier import Judge
from sdezoo.evaluation.columns import kolmogorov_smirnov
from sdezoo.evaluation.neighbours import Nearest, nearest
from sdezoo.evaluation.rows import FloatArray, flat
from sdezoo.evaluation.suite import Measured, Sets, shares_of
from sdezoo.evaluation.table import number
from sdezoo.evaluation.tails import ROWS, Contrast, Tail, contrasts

_NAMED = 5

EvaluationProgress = Callable[[float, int, str], None]
"""Called with how much is done, of how much, and what it is."""


class Parts(NamedTuple):
    """`n` rows `(n, *event)` each, in the user's units: samples, held-out rows, training rows; and all training rows."""

    samples: Tensor
    held_out: Tensor
    training: Tensor
    every: Tensor


class Extractor(NamedTuple):
    """Features `(n, d)` of images `(n, C, H, W)`, and whose they are."""

    name: str
    features: Callable[[Tensor], FloatArray]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The table, notes below it, what JSON holds beside it, the picture, and the tails of columns."""

    measured: list[Measured]
    notes: list[str]
    facts: dict[str, Any]
    picture: Figure
    tails: Sequence[Contrast] = ()


def images(
    parts: Parts,
    title: str,
    *,
    levels: int | None,
    extractor: Extractor | None,
    judge: Judge | None,
    labels: Tensor | None,
    seed: int,
    progress: EvaluationProgress,
) -> Comparison:
    """Compare images: pixels, features where there is an extractor, classes where there is a classifier.

    Args:
        title: of the picture. levels: the data's lattice. judge: the classifier, trained on the images `parts.every` with `labels`.
        seed: of whatever a measure draws.
    """
    x = parts.samples if levels is None else (parts.samples.clamp(0, 1) * levels).round() / levels
    compared = (parts.held_out, x, parts.training)
    pixels = Sets(*map(flat, compared))
    near = _near(pixels, parts.every.flatten(1).numpy(), progress)
    notes: list[str] = []
    measures = [lambda: suite.distances("pixels", pixels, seed=seed), lambda: _copies("pixels", near, notes, seed)]
    facts, shares = {}, None
    if extractor is None:
        measures.append(lambda: suite.fidelity("pixels", pixels, seed=seed))
        notes.append("FID and KID need features: training images with labels, or --features inception.")
    else:
        sets = Sets(*map(extractor.features, compared))
        measures.append(lambda: suite.features(f"features of {extractor.name}", sets, seed=seed))
        facts["features"] = extractor.name
    if judge is not None and labels is not None:
        held_out, drawn = (judge.net.predict(part).numpy() for part in (parts.held_out, x))
        shares = sheet.Shares(*(shares_of(classes, judge.facts.classes) for classes in (labels.numpy(), drawn)))
        measures.append(lambda: suite.class_shares("classes", shares.data, held_out, drawn, seed=seed))
        notes.append(judge.words)
        facts |= judge.record | {"classes": {"data": shares.data.tolist(), "samples": shares.samples.tolist()}}
    measured = _each(measures, progress)
    picture = sheet.images(title, x.numpy(), parts.every[near.samples.row].numpy(), near.distances, shares)
    return Comparison(measured, notes, facts, picture)


def columns(parts: Parts, title: str, *, names: Sequence[str], seed: int, progress: EvaluationProgress) -> Comparison:
    """Compare tables and points: rows, single columns, pairs of columns.

    Args:
        title: of the picture. names: of the columns, or none. seed: of whatever a measure draws.
    """
    names = list(names) or [f"x{i}" for i in range(parts.every.shape[1])]
    spread = np.std(flat(parts.every), axis=0)
    unit = np.where(spread > 0, spread, 1.0)
    sets = Sets(*(flat(part) / unit for part in (parts.held_out, parts.samples, parts.training)))
    near = _near(sets, flat(parts.every) / unit, progress)
    tests = kolmogorov_smirnov(sets.reference, sets.samples)
    tails = contrasts(names, *sets)
    notes: list[str] = []
    measured = _each(
        [
            lambda: suite.distances("rows, in standard deviations", sets, seed=seed),
            lambda: suite.fidelity("rows, in standard deviations", sets, seed=seed),
            lambda: _copies("rows, in standard deviations", near, notes, seed),
            lambda: suite.marginals("columns", sets, seed=seed),
            lambda: suite.tails("columns", tails),
        ],
        progress,
    )
    worst = [i for i in np.argsort(tests.p) if tests.p[i] <= suite.SIGNIFICANT]
    if worst:
        named = ", ".join(f"{names[i]} (D {number(float(tests.statistic[i]))}, p {tests.p[i]:.1e})" for i in worst[:_NAMED])
        notes.append(f"Columns that the KS test tells apart: {named}{f' and {len(worst) - _NAMED} more' if len(worst) > _NAMED else ''}.")
    notes += _tails_apart(tails)
    each = zip(names, tests.statistic.tolist(), tests.p.tolist(), strict=True)
    facts = {"columns": [{"name": name, "ks": statistic, "p": p} for name, statistic, p in each]}
    facts["tails"] = [{"name": c.name, "data": _record(c.data), "samples": _record(c.samples)} for c in tails]
    picture = sheet.columns(title, names, flat(parts.held_out), flat(parts.samples), near.distances)
    return Comparison(measured, notes, facts, picture, tails)


def _tails_apart(tails: Sequence[Contrast]) -> list[str]:
    """Which columns' tails are lighter or heavier in samples than in the data."""
    sentences = []
    for word, apart in (("lighter", lambda c: c.data.heavier(c.samples)), ("heavier", lambda c: c.samples.heavier(c.data))):
        found = [c for c in tails if c.name != ROWS and apart(c)]
        named = ", ".join(f"{c.name} ({number(c.samples.index)}, data {number(c.data.index)})" for c in found[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        sentences += [f"Columns whose tails are {word} than the data's, by index: {named}{more}."] if found else []
    return sentences


def _record(tail: Tail) -> dict[str, float | None]:
    # JSON has no infinity.
    return {name: value if math.isfinite(value) else None for name, value in asdict(tail).items()}


class _Near(NamedTuple):
    held_out: Nearest
    samples: Nearest

    @property
    def distances(self) -> tuple[FloatArray, FloatArray]:
        return self.held_out.distance, self.samples.distance


def _near(sets: Sets, every: Any, progress: EvaluationProgress) -> _Near:
    progress(0, 1, "finding the nearest training rows")
    return _Near(nearest(sets.reference, every), nearest(sets.samples, every))


def _copies(group: str, near: _Near, notes: list[str], seed: int) -> list[Measured]:
    try:
        return suite.copies(group, *near.distances, seed=seed)
    except DataError as error:
        notes.append(error.problem)
        return []


def _each(measures: Sequence[Callable[[], list[Measured]]], progress: EvaluationProgress) -> list[Measured]:
    found = []
    for done, measure in enumerate(measures):
        progress(done, len(measures), "measuring")
        found += measure()
    progress(len(measures), len(measures), "measuring")
    return found
