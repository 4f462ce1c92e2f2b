"""The measures that fit a kind of data, each with its error and its floor.

All compare `n` samples with `n` held-out rows. The *floor* of a figure is what `n` training rows get in the place of the samples:
what is reached by rows that really are from the law of the data. Sizes are equal throughout because most figures depend on them.
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
from sdezoo.evaluation.columns import correlation_error, kolmogorov_smirnov
from sdezoo.evaluation.frechet import frechet_distance
from sdezoo.evaluation.kernels import kid, median_distance, mmd2
from sdezoo.evaluation.manifold import manifold
from sdezoo.evaluation.neighbours import NEAR, copying
from sdezoo.evaluation.resampling import bootstrap, halves
from sdezoo.evaluation.rows import FloatArray, stream
from sdezoo.evaluation.tails import ROWS, Contrast
from sdezoo.evaluation.transport import sliced_wasserstein
from sdezoo.evaluation.two_sample import c2st

LEAST = 20
"""Rows that an evaluation needs of each kind."""

SIGNIFICANT = 0.01
"""The p-value below which a column counts as different."""

_SPLIT = 0


class Sets(NamedTuple):
    """`n` rows each: held-out ones, samples, and training ones for the floor."""

    reference: FloatArray
    samples: FloatArray
    training: FloatArray


@dataclass(frozen=True)
class Measured:
    """One line of the table.

    Args:
        group: what was compared, such as pixels or features. name: of the measure.
        value: of the samples. interval: 95 %, or None. error: how the interval was found.
        floor: of real rows, at the same size.
        best: what equal laws have in the limit of many rows; of a tail index, that of the held-out rows.
    """

    group: str
    name: str
    value: float
    interval: tuple[float, float] | None
    error: Literal["bootstrap", "halves", "exact"] | None
    floor: float
    best: float


def distances(group: str, sets: Sets, *, seed: int = 0) -> list[Measured]:
    """Sliced Wasserstein distances, MMD², and the two-sample test by a random forest."""
    bandwidth = median_distance(sets.reference, seed=seed)
    drawn, real = (c2st(sets.reference, rows, seed=seed) for rows in (sets.samples, sets.training))
    (low, high), *_ = bootstrap(np.mean, (drawn,), seed=seed)
    return [
        *_halved(group, {"sliced W1": 0, "sliced W2": 0}, lambda a, b: sliced_wasserstein(a, b, seed=seed), sets, seed),
        *_halved(group, {"MMD², Gaussian kernel": 0}, lambda a, b: [mmd2(a, b, bandwidth=bandwidth)], sets, seed),
        Measured(group, "C2ST, random forest", float(drawn.mean()), (float(low), float(high)), "bootstrap", float(real.mean()), 0.5),
    ]


def fidelity(group: str, sets: Sets, *, seed: int = 0) -> list[Measured]:
    """Precision, recall, density and coverage."""
    names = {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    return _halved(group, names, lambda a, b: [rows.mean() for rows in manifold(a, b)], sets, seed)


def marginals(group: str, sets: Sets, *, seed: int = 0) -> list[Measured]:
    """The share of columns that the Kolmogorov–Smirnov test lets pass, and of two columns or more the errors of correlations."""
    drawn, real = (float((kolmogorov_smirnov(sets.reference, x).p > SIGNIFICANT).mean()) for x in (sets.samples, sets.training))
    passed = Measured(group, f"columns with KS p > {SIGNIFICANT}", drawn, None, None, real, 1 - SIGNIFICANT)
    if sets.reference.shape[1] == 1:
        return [passed]
    names = {"correlations, RMS error": 0, "correlations, largest error": 0, "rank correlations, RMS error": 0}
    names["rank correlations, largest error"] = 0
    return [passed, *_halved(group, names, correlation_error, sets, seed)]


def tails(group: str, found: Sequence[Contrast]) -> list[Measured]:
    """The tail index of the largest entries of rows."""
    return [
        Measured(group, f"tail index, {c.name}", c.samples.index, (c.samples.low, c.samples.high), "exact", c.training.index, c.data.index)
        for c in found
        if c.name == ROWS and all(math.isfinite(tail.index) for tail in (c.data, c.samples, c.training))
    ]


def features(group: str, sets: Sets, *, seed: int = 0) -> list[Measured]:
    """Fréchet and kernel distance, precision, recall, density and coverage, of features."""
    measured = _halved(group, {"FID": 0, "KID": 0}, lambda a, b: [frechet_distance(a, b), kid(a, b)], sets, seed)
    return measured + fidelity(group, sets, seed=seed)


def copies(group: str, held_out: FloatArray, samples: FloatArray, *, seed: int = 0) -> list[Measured]:
    """Whether samples are copies, from distances `(n,)` to the nearest training row. The floor compares halves of the held-out rows.

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
    """The largest difference between a class's share `(c,)` of the data and its share of samples, from the classes `(n,)` that a
    classifier sees in held-out rows and in samples. The floor is that of the held-out rows, with the classifier's mistakes."""
    value, floor = (np.abs(shares_of(classes, len(shares)) - shares).max() for classes in (samples, held_out))
    ((low, high),) = halves(lambda classes: np.abs(shares_of(classes, len(shares)) - shares).max(), (samples,), seed=seed)
    return [Measured(group, "class shares, largest error", float(value), (float(low), float(high)), "halves", float(floor), 0)]


def shares_of(classes: NDArray[np.intp], count: int) -> FloatArray:
    """The share of each of `count` classes, `(count,)`."""
    return np.bincount(classes, minlength=count)[:count] / len(classes)


def check_sizes(rows: Mapping[str, int]) -> None:
    """Refuse too few rows of any kind, from their numbers by name.

    Raises:
        DataError: naming the kind.
    """
    for name, count in rows.items():
        if count < LEAST:
            raise DataError(f"There are {count} {name}, where {LEAST} is the least.", "Hold out more of the data, or take more samples.")


def _halved(
    group: str, names: Mapping[str, float], statistic: Callable[[FloatArray, FloatArray], FloatArray | list | tuple], sets: Sets, seed: int
) -> list[Measured]:
    values, floors = statistic(sets.reference, sets.samples), statistic(sets.reference, sets.training)
    intervals = halves(statistic, (sets.reference, sets.samples), seed=seed)
    return [
        Measured(group, name, float(values[i]), (float(low), float(high)), "halves", float(floors[i]), best)
        for i, ((name, best), (low, high)) in enumerate(zip(names.items(), intervals, strict=True))
    ]
