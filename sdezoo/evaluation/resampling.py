"""Confidence intervals by resampling rows: two methods, for two kinds of figures.

For a mean over rows, or any smooth function of such means, use the *bootstrap*: rows are resampled with replacement, and the interval
is that of the percentiles (Efron & Tibshirani 1993, chapter 13).

Do not bootstrap a distance between two sets: repeated rows look like a distribution of their own, and every resample is further away
than the figure is. For such figures use *halves*: both sets are halved at random, without replacement, and the figure is computed on
the halves. Half of the rows vary around all rows as all rows vary around the distribution::

    Var(mean of a half | all rows) = σ² / n = Var(mean of all rows)

(the delete-d jackknife with d = n/2: Shao & Wu, Ann. Statist. 17 (1989)). Halves are further away too, all by about the same amount:
the interval is that of their deviations from their own mean, centred on the figure. For degenerate figures, such as MMD² between equal
distributions, it is too wide, by up to √3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdezoo.evaluation.rows import FloatArray, stream

LEVEL = 0.95
"""Confidence level of all intervals."""

Statistic = Callable[..., ArrayLike]
"""A function of one or more sets of rows that returns figures `(k,)`, or a single one."""

_BOOTSTRAP, _HALVES = 0, 1


def bootstrap(statistic: Statistic, parts: Sequence[NDArray[Any]], *, resamples: int = 200, seed: int = 0) -> FloatArray:
    """Return the percentile interval of each figure.

    Args:
        statistic: the figures, as a function of `parts`.
        parts: sets of rows; the rows of each are resampled independently of the others.
        resamples: number of resamples.
        seed: random seed.

    Returns:
        Lower and upper ends, `(k, 2)`.
    """
    rng = stream(seed, _BOOTSTRAP)
    drawn = [[part[rng.integers(len(part), size=len(part))] for part in parts] for _ in range(resamples)]
    return _interval(np.stack([np.atleast_1d(statistic(*parts)) for parts in drawn]))


def halves(statistic: Statistic, parts: Sequence[NDArray[Any]], *, repeats: int = 100, seed: int = 0) -> FloatArray:
    """Return the interval of each figure, from its deviations in random halves of all parts.

    Args:
        statistic: the figures, as a function of `parts`.
        parts: sets of rows; each is halved independently of the others.
        repeats: number of random halves.
        seed: random seed.

    Returns:
        Lower and upper ends, `(k, 2)`.
    """
    rng = stream(seed, _HALVES)
    figures = []
    for _ in range(repeats):
        drawn = [part[rng.permutation(len(part))[: len(part) // 2]] for part in parts]
        figures.append(np.atleast_1d(statistic(*drawn)))
    found = np.stack(figures)
    return np.atleast_1d(statistic(*parts))[:, None] + _interval(found - found.mean(0))


def _interval(figures: FloatArray) -> FloatArray:
    tail = (1 - LEVEL) / 2
    return np.quantile(figures, [tail, 1 - tail], axis=0).T
