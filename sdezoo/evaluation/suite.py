"""The measures that fit a kind of data, each with its error and its floor.

Each compares `n` samples with `n` held-out rows. The *floor* of a figure is its value for `n` training rows in place of the samples:
what rows from the data distribution itself reach. All sizes are equal, since most figures depend on them.
Errors are those of `sdezoo.evaluation.resampling`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdezoo.errors import DataError
from sdezoo.evaluation.measures.columns import correlation_error
from sdezoo.evaluation.measures.frechet import frechet_distance
from sdezoo.evaluation.measures.kernels import kid, median_distance, mmd2
from sdezoo.evaluation.measures.manifold import manifold
from sdezoo.evaluation.measures.neighbours import NEAR, copying
from sdezoo.evaluation.measures.stylized import Fact
from sdezoo.evaluation.measures.tails import ROWS, Contrast
from sdezoo.evaluation.measures.transport import sliced_wasserstein
from sdezoo.evaluation.measures.two_sample import c2st
from sdezoo.evaluation.mixed import total_variation
from sdezoo.evaluation.resampling import bootstrap, halves
from sdezoo.evaluation.rows import FloatArray, stream

LEAST = 20
"""Minimum number of rows of each kind; for a table with fewer held-out rows, of all rows together."""

MANIFOLD, TAIL = 20, 64
"""Minimum number of rows for balls to the fifth neighbour, and for tails, to cover a small part of the rows and not most of them."""

SIGNIFICANT = 0.01
"""p-value below which a column counts as different."""

TWO_SAMPLE = "C2ST, random forest"
"""Name of the two-sample test by a classifier."""

_SPLIT = 0


class Sets(NamedTuple):
    """Three sets of `n` rows."""

    reference: FloatArray
    """Held-out rows, `(n, d)`."""
    samples: FloatArray
    """Samples, `(n, d)`."""
    training: FloatArray
    """Training rows, `(n, d)`, for the floor."""


@dataclass(frozen=True)
class Measured:
    """One line of the table.

    Args:
        group: what is compared, such as pixels or features.
        name: name of the measure.
        value: value of the samples.
        interval: 95 % confidence interval, or None.
        error: how the interval was computed; None without one.
        floor: value of real rows of the same number, or None if there is none.
        best: value for equal distributions, in the limit of many rows; for a tail index and for privacy, that of the held-out rows.
    """

    group: str
    name: str
    value: float
    interval: tuple[float, float] | None
    error: Literal["bootstrap", "halves", "exact"] | None
    floor: float | None
    best: float


def distances(group: str, sets: Sets, *, seed: int = 0) -> list[Measured]:
    """Compute sliced Wasserstein distances, MMD² and the two-sample test by a random forest.

    Args:
        group: what is compared, for the table.
        sets: the rows.
        seed: random seed.
    """
    bandwidth = median_distance(sets.reference, seed=seed)
    drawn, real = (c2st(sets.reference, rows, seed=seed) for rows in (sets.samples, sets.training))
    (low, high), *_ = bootstrap(np.mean, (drawn,), seed=seed)
    return [
        *_halved(group, {"sliced W1": 0, "sliced W2": 0}, lambda a, b: sliced_wasserstein(a, b, seed=seed), sets, seed),
        *_halved(group, {"MMD², Gaussian kernel": 0}, lambda a, b: [mmd2(a, b, bandwidth=bandwidth)], sets, seed),
        Measured(group, TWO_SAMPLE, float(drawn.mean()), (float(low), float(high)), "bootstrap", float(real.mean()), 0.5),
    ]


def transport(group: str, sets: Sets, *, seed: int = 0) -> list[Measured]:
    """Compute the sliced Wasserstein distance `SW_1`.

    Args:
        group: what is compared, for the table.
        sets: the rows.
        seed: random seed.
    """
    return _halved(group, {"sliced W1": 0}, lambda a, b: [sliced_wasserstein(a, b, seed=seed).w1], sets, seed)


def fidelity(group: str, sets: Sets, *, seed: int = 0) -> list[Measured]:
    """Compute precision, recall, density and coverage.

    Args:
        group: what is compared, for the table.
        sets: the rows.
        seed: random seed.
    """
    names = {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    return _halved(group, names, lambda a, b: [rows.mean() for rows in manifold(a, b)], sets, seed)


def marginals(group: str, p_values: FloatArray, floor: FloatArray) -> list[Measured]:
    """Return the share of columns that pass the Kolmogorov–Smirnov test.

    Args:
        group: what is compared, for the table.
        p_values: of samples, one a column.
        floor: of training rows.
    """
    if not len(p_values):
        return []
    drawn, real = (float((p > SIGNIFICANT).mean()) for p in (p_values, floor))
    return [Measured(group, f"columns with KS p > {SIGNIFICANT}", drawn, None, None, real, 1 - SIGNIFICANT)]


def shares(group: str, sets: Sets, *, seed: int = 0) -> list[Measured]:
    """Compute the largest total variation distance of a column of categories, or of marks of missing values.

    Args:
        group: what is compared, for the table.
        sets: codes of the categories, see `sdezoo.evaluation.mixed.Mixed.classes`.
        seed: random seed.
    """
    return _halved(group, {"shares, largest error": 0}, lambda a, b: [total_variation(a, b).max()], sets, seed)


def correlations(group: str, sets: Sets, *, seed: int = 0) -> list[Measured]:
    """Compute the errors of correlations; none for a single column.

    Args:
        group: what is compared, for the table.
        sets: the rows.
        seed: random seed.
    """
    if sets.reference.shape[1] == 1:
        return []
    names = {"correlations, RMS error": 0, "correlations, largest error": 0, "rank correlations, RMS error": 0}
    names["rank correlations, largest error"] = 0
    return _halved(group, names, correlation_error, sets, seed)


def tails(group: str, found: Sequence[Contrast]) -> list[Measured]:
    """Return the line for the tail index of the largest entries of rows.

    Args:
        group: what is compared, for the table.
        found: tails of columns and of rows, see `contrasts`.
    """
    return [
        Measured(group, f"tail index, {c.name}", c.samples.index, (c.samples.low, c.samples.high), "exact", c.training.index, c.data.index)
        for c in found
        if c.name == ROWS and all(math.isfinite(tail.index) for tail in (c.data, c.samples, c.training))
    ]


def facts(group: str, found: Sequence[tuple[Fact, Fact, Fact]]) -> list[Measured]:
    """Return the lines of stylized facts.

    Args:
        group: what is compared, for the table.
        found: each fact of held-out rows, samples and training rows; those that cannot be measured are left out.
    """
    return [
        Measured(group, data.name, drawn.value, (drawn.low, drawn.high), "bootstrap", training.value, data.value)
        for data, drawn, training in found
        if all(math.isfinite(fact.value) for fact in (data, drawn, training))
    ]


def features(group: str, sets: Sets, *, seed: int = 0) -> list[Measured]:
    """Compute FID, KID, precision, recall, density and coverage of features.

    Args:
        group: what is compared, for the table.
        sets: features as rows.
        seed: random seed.
    """
    measured = _halved(group, {"FID": 0, "KID": 0}, lambda a, b: [frechet_distance(a, b), kid(a, b)], sets, seed)
    return measured + fidelity(group, sets, seed=seed)


def copies(group: str, held_out: FloatArray, samples: FloatArray, *, seed: int = 0) -> list[Measured]:
    """Measure whether samples are copies. The floor compares halves of the held-out rows.

    Args:
        group: what is compared, for the table.
        held_out: distances of held-out rows to the nearest training row, `(n,)`.
        samples: distances of samples to the nearest training row, `(m,)`.
        seed: random seed.

    Raises:
        DataError: see `copying`.
    """
    low, high = bootstrap(copying, (held_out, samples), seed=seed).T
    shuffled = stream(seed, _SPLIT).permutation(held_out)
    value, floor = copying(held_out, samples), copying(shuffled[::2], shuffled[1::2])
    names = {"distance to training rows, over held-out": 1.0, f"nearer than {1 - NEAR:.0%} of held-out": NEAR}
    return [
        Measured(group, name, value[i], (float(low[i]), float(high[i])), "bootstrap", floor[i], best)
        for i, (name, best) in enumerate(names.items())
    ]


def class_shares(group: str, shares: FloatArray, held_out: NDArray[np.intp], samples: NDArray[np.intp], *, seed: int = 0) -> list[Measured]:
    """Return the largest difference between a class's share of the data and its share of samples.

    The floor is that of the held-out rows, which includes the classifier's mistakes.

    Args:
        group: what is compared, for the table.
        shares: share of each class in the data, `(c,)`.
        held_out: classes that the classifier predicts for held-out rows, `(n,)`.
        samples: classes that it predicts for samples, `(m,)`.
        seed: random seed.
    """
    value, floor = (np.abs(shares_of(classes, len(shares)) - shares).max() for classes in (samples, held_out))
    ((low, high),) = halves(lambda classes: np.abs(shares_of(classes, len(shares)) - shares).max(), (samples,), seed=seed)
    return [Measured(group, "class shares, largest error", float(value), (float(low), float(high)), "halves", float(floor), 0)]


def shares_of(classes: NDArray[np.intp], count: int) -> FloatArray:
    """Return the share of each class, `(count,)`.

    Args:
        classes: classes from 0, `(n,)`.
        count: number of classes.
    """
    return np.bincount(classes, minlength=count)[:count] / len(classes)


def check_sizes(rows: Mapping[str, int], remedy: str = "Hold out more of the data, or take more samples.") -> None:
    """Check that there are enough rows of every kind.

    Args:
        rows: number of rows by name of their kind.
        remedy: what to do if there are not.

    Raises:
        DataError: if a kind has too few rows; the message names it.
    """
    for name, count in rows.items():
        if count < LEAST:
            raise DataError(f"There are {count} {name}; at least {LEAST} are needed.", remedy)


def _halved(
    group: str, names: Mapping[str, float], statistic: Callable[[FloatArray, FloatArray], FloatArray | list | tuple], sets: Sets, seed: int
) -> list[Measured]:
    values, floors = statistic(sets.reference, sets.samples), statistic(sets.reference, sets.training)
    intervals = halves(statistic, (sets.reference, sets.samples), seed=seed)
    return [
        Measured(group, name, float(values[i]), (float(low), float(high)), "halves", float(floors[i]), best)
        for i, ((name, best), (low, high)) in enumerate(zip(names.items(), intervals, strict=True))
    ]
