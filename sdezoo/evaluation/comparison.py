"""A complete comparison of samples with data: the measures that fit, notes for the reader, and the picture.

Rows are compared in the user's units, with two exceptions. Columns are divided by the standard deviation of the training rows, since
otherwise the column with the largest unit dominates all distances. If images have levels, pixels of samples that lie between them, as in
files of other programs, take the nearest level, and a note says so: anything between levels could be recognized by that alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, equal

from sdezoo.data.bounds import nearest_levels
from sdezoo.errors import DataError, shortened
from sdezoo.evaluation import sheet, suite
from sdezoo.evaluation.measures.classifier import Judge
from sdezoo.evaluation.measures.columns import kolmogorov_smirnov
from sdezoo.evaluation.measures.neighbours import Nearest, nearest
from sdezoo.evaluation.measures.stylized import SHORTEST, Fact, returns, stylized_facts
from sdezoo.evaluation.measures.tails import ROWS, Contrast, Tail, contrasts
from sdezoo.evaluation.mixed import Mixed, total_variation
from sdezoo.evaluation.privacy import Records, privacy
from sdezoo.evaluation.rows import FloatArray, flat
from sdezoo.evaluation.suite import Measured, Sets, shares_of
from sdezoo.evaluation.table import number
from sdezoo.plots import Figure

EvaluationProgress = Callable[[float, int, str], None]
"""Called with the amount done, the total amount, and a description of the work."""


_FEW = 20
"""Fewest windows without a common step for intervals by blocks."""


class Parts(NamedTuple):
    """The rows to compare, `(n, *event)` each, in the user's units."""

    samples: Tensor
    """Samples, `n` of them."""
    held_out: Tensor
    """Held-out rows, `n` of them."""
    training: Tensor
    """Training rows for the floor, `n` of them."""
    every: Tensor
    """All training rows."""


class Extractor(NamedTuple):
    """A feature extractor for images."""

    name: str
    """Name of the network."""
    features: Callable[[Tensor], FloatArray]
    """Maps images `(n, C, H, W)` to features `(n, d)`."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of a comparison."""

    measured: list[Measured]
    """Lines of the table."""
    notes: list[str]
    """Notes below the table."""
    facts: dict[str, Any]
    """Further entries of the JSON record."""
    picture: Figure
    """The picture."""
    tails: Sequence[Contrast] = ()
    """Tails of columns."""
    tests: Sequence[tuple[str, float]] = ()
    """Name and p-value of the test of each column."""
    copies: Sequence[str] | None = None
    """Figures by which samples repeat training rows; None: not judged."""


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
    """Compare images: pixels, features if there is an extractor, and classes if there is a classifier.

    Args:
        parts: the rows to compare, images `(n, C, H, W)`.
        title: title of the picture.
        levels: values of the data are multiples of 1/levels (8-bit images: 255); None if continuous.
        extractor: the feature extractor, or None.
        judge: a classifier trained on the images `parts.every` with `labels`, or None.
        labels: classes of the training images, or None.
        seed: random seed of the measures.
        progress: progress callback.
    """
    x = parts.samples if levels is None else nearest_levels(parts.samples, levels)
    compared = (parts.held_out, x, parts.training)
    pixels = Sets(*map(flat, compared))
    near = _near(pixels, parts.every.flatten(1).numpy(), progress)
    notes: list[str] = []
    measures = [lambda: suite.distances("pixels", pixels, seed=seed), lambda: _copies("pixels", near, notes, seed)]
    facts, shares = {}, None
    if extractor is None:
        measures.append(lambda: suite.fidelity("pixels", pixels, seed=seed))
        notes.append("FID and KID need features: training images with labels of several classes, or --features inception.")
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
    if levels is not None and not equal(x, parts.samples):
        notes.append(f"Pixels of the samples lie between the {levels + 1} levels of the data. Each is compared as the nearest level.")
    measured = in_turn(measures, progress)
    picture = sheet.images(title, x.numpy(), parts.every[near.samples.row].numpy(), near.distances, shares)
    return Comparison(measured, notes, facts, picture)


def columns(
    parts: Parts,
    title: str,
    *,
    names: Sequence[str],
    seed: int,
    progress: EvaluationProgress,
    private: tuple[Tensor, Tensor] | None = None,
    categories: Sequence[int] = (),
) -> Comparison:
    """Compare tables and points: rows, single columns, pairs of columns, privacy.

    Args:
        parts: the rows to compare, `(n, d)`.
        title: title of the picture.
        names: names of the columns; may be empty.
        seed: random seed of the measures.
        progress: progress callback.
        private: held-out rows and samples for the privacy figures, any number of each; default: those of `parts`.
        categories: columns that hold categories.
    """
    names = list(names) or [f"x{i}" for i in range(parts.every.shape[1])]
    held_out, samples = private or (parts.held_out, parts.samples)
    every = flat(parts.every)
    compared = Sets(*(flat(part) for part in (parts.held_out, parts.samples, parts.training)))
    mixed = Mixed.fit(every, [*compared, flat(held_out), flat(samples)], categories)
    sets = Sets(*map(mixed.vectors, compared))
    progress(0, 1, "finding the nearest training rows")
    found = privacy(Records(*(mixed.vectors(rows) for rows in (every, flat(held_out), flat(samples)))), seed=seed)
    columns_of = [i for i in mixed.numbers if i not in mixed.gaps or _known(compared, i)]
    numbers = [rows[:, columns_of] / mixed.units[columns_of] for rows in compared]
    # The test takes sets of any sizes: more samples find smaller differences.
    drawn = flat(samples)[:, columns_of] / mixed.units[columns_of] if len(samples) > len(parts.samples) else numbers[1]
    tests, floor = (kolmogorov_smirnov(numbers[0], rows) for rows in (drawn, numbers[2]))
    size = min(map(len, sets))
    whole = [k for k, i in enumerate(columns_of) if i not in mixed.gaps]
    tails = contrasts([names[columns_of[k]] for k in whole], *(rows[:, whole] for rows in numbers)) if size >= suite.TAIL and whole else []
    classes = Sets(*map(mixed.classes, compared))
    notes: list[str] = []
    measured = in_turn(
        [
            lambda: suite.distances("rows, in standard deviations", sets, seed=seed),
            lambda: suite.fidelity("rows, in standard deviations", sets, seed=seed) if size >= suite.MANIFOLD else [],
            lambda: suite.marginals("columns", tests.p, floor.p) + suite.correlations("columns", sets, seed=seed),
            lambda: [] if mixed.plain else suite.shares("columns", classes, seed=seed),
            lambda: suite.tails("columns", tails),
            lambda: found.measured,
        ],
        progress,
    )
    names_of = [names[i] for i in columns_of]
    worst = [i for i in np.argsort(tests.p) if tests.p[i] <= suite.SIGNIFICANT]
    if worst:
        named = shortened(f"{names_of[i]} (D {number(float(tests.statistic[i]))}, p {tests.p[i]:.1e})" for i in worst)
        notes.append(f"Columns that differ by the KS test: {named}.")
    notes += [*_tails_apart(tails), *found.notes, *_left_out(size)]
    each = zip(names_of, tests.statistic.tolist(), tests.p.tolist(), strict=True)
    facts = {"columns": [{"name": name, "ks": statistic, "p": p} for name, statistic, p in each]}
    if not mixed.plain:
        apart = total_variation(classes.reference, classes.samples).tolist()
        facts["shares"] = [{"name": name, "apart": value} for name, value in zip(mixed.class_names(names), apart, strict=True)]
        notes.append(
            "Tails and the KS test are of numbers only, where they are known. Categories and missing values are compared by their shares "
            "(total variation distance)."
        )
    facts["tails"] = [{"name": c.name, "data": _record(c.data), "samples": _record(c.samples)} for c in tails]
    picture = sheet.columns(title, names, mixed.filled(compared.reference), mixed.filled(compared.samples), found.distances)
    return Comparison(measured, notes, facts, picture, tails, list(zip(names_of, tests.p.tolist(), strict=True)), found.alarms)


def copied(training: Tensor, held_out: Tensor, samples: Tensor, seed: int, categories: Sequence[int] = ()) -> list[str]:
    """Return the names of the figures by which samples of a table repeat training rows; none if they do not.

    Args:
        training: all training rows, `(N, d)`.
        held_out: held-out rows, at least one.
        samples: samples.
        seed: random seed of the choices of rows.
        categories: columns that hold categories.
    """
    every = [flat(rows) for rows in (training, held_out, samples)]
    mixed = Mixed.fit(every[0], every[1:], categories)
    return privacy(Records(*map(mixed.vectors, every)), seed=seed).alarms


def _known(sets: Sets, column: int) -> bool:
    """Whether enough values of a column are known in each set."""
    return all(np.count_nonzero(~np.isnan(rows[:, column])) >= suite.LEAST for rows in sets)


def _left_out(size: int) -> list[str]:
    """Say which figures are left out because there are too few rows."""
    names = ["precision, recall, density and coverage"] if size < suite.MANIFOLD else []
    names += ["tails"] if size < suite.TAIL else []
    return [f"Left out, since {size} rows are too few: {'; '.join(names)}."] if names else []


def _tails_apart(tails: Sequence[Contrast]) -> list[str]:
    """Say which columns have lighter or heavier tails in samples than in the data."""
    sentences = []
    for word, apart in (("lighter", lambda c: c.data.heavier(c.samples)), ("heavier", lambda c: c.samples.heavier(c.data))):
        found = [c for c in tails if c.name != ROWS and apart(c)]
        named = shortened(f"{c.name} ({number(c.samples.index)}, data {number(c.data.index)})" for c in found)
        sentences += [f"Columns whose tails are {word} than the data's, by index: {named}."] if found else []
    return sentences


def series(
    parts: Parts,
    title: str,
    *,
    held_out: Tensor,
    names: Sequence[str],
    relative: bool,
    overlap: int,
    seed: int,
    progress: EvaluationProgress,
) -> Comparison:
    """Compare windows of series: their returns as rows, and the stylized facts of each column.

    Args:
        parts: the rows to compare, `(n, T, d)`.
        title: title of the picture.
        held_out: all held-out windows, in order of time.
        names: names of the columns.
        relative: whether returns are differences of logarithms.
        overlap: how many windows in a row share an observation.
        seed: random seed of the measures.
        progress: progress callback.
    """
    names = list(names) or [f"x{i}" for i in range(parts.every.shape[2])]
    drawn, real, training = (returns(part.double().numpy(), relative=relative) for part in (parts.samples, held_out, parts.every))
    unit = training.std((0, 1))
    unit = np.where(unit > 0, unit, 1.0)
    scaled = (returns(part.double().numpy(), relative=relative) / unit for part in (parts.held_out, parts.samples, parts.training))
    sets = Sets(*(part.reshape(len(part), -1) for part in scaled))
    found: list[tuple[Fact, Fact, Fact]] = []

    def facts() -> list[Measured]:
        for i, name in enumerate(names if drawn.shape[1] >= SHORTEST else []):
            each = [stylized_facts(r[..., i], overlap=n, seed=seed) for r, n in ((real, overlap), (drawn, 1), (training, overlap))]
            suffix = f" ({name})" if len(names) > 1 else ""
            named = [[fact._replace(name=fact.name + suffix) for fact in part] for part in each]
            found.extend(zip(*named, strict=True))
        return suite.facts("returns", found)

    measured = in_turn([lambda: suite.distances("returns, in standard deviations", sets, seed=seed), facts], progress)
    notes = [
        f"{data.name}: {number(sample.value)} [{number(sample.low)}, {number(sample.high)}]; held-out {number(data.value)} "
        f"[{number(data.low)}, {number(data.high)}]."
        for data, sample, _ in found
        if math.isfinite(data.value) and math.isfinite(sample.value)
    ]
    if len(held_out) < _FEW * overlap:
        notes.append(
            f"The held-out windows have as many steps as {max(1, round(len(held_out) / overlap))} that share none: the intervals of their "
            "facts are too narrow. Hold out more."
        )
    if overlap > 1:
        notes.append(
            "Windows of the data overlap: distances and C2ST see neighbours that are nearly equal, in the floor too. Facts allow for it."
        )
    record = [{"data": _finite(data), "samples": _finite(sample), "training": _finite(other)} for data, sample, other in found]
    picture = sheet.series(title, names[0], parts.samples[..., 0].numpy(), parts.held_out[..., 0].numpy(), drawn[..., 0], real[..., 0])
    return Comparison(measured, notes, {"stylized_facts": record}, picture)


def _finite(fact: Fact) -> dict[str, float | str | None]:
    """A record without NaN, which JSON does not have."""
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in fact._asdict().items()}


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


def in_turn(measures: Sequence[Callable[[], list[Measured]]], progress: EvaluationProgress) -> list[Measured]:
    """Compute measures one after another.

    Args:
        measures: each returns its lines of the table.
        progress: called before each, and after the last.
    """
    found = []
    for done, measure in enumerate(measures):
        progress(done, len(measures), "measuring")
        found += measure()
    progress(len(measures), len(measures), "measuring")
    return found
