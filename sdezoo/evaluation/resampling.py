"""Errors of figures from the rows at hand: two ways, for two kinds of figures.

A mean over rows, or anything smooth in such means, has the *bootstrap*: rows are drawn anew with replacement, and the interval is
that of the percentiles (Efron & Tibshirani 1993, chapter 13).

A distance between two sets must not: repeated rows look like a law of their own, and every resample is further away than the
figure is. Such figures have *halves*: both sets are halved at random, without replacement, and the figure is taken of the halves.
Half of the rows vary around all rows as all rows vary around the law::

    Var(mean of a half | all rows) = σ² / n = Var(mean of all rows)

(the delete-d jackknife with d = n/2: Shao & Wu, Ann. Statist. 17 (1989)). Halves are further away too, all by about the same: the
interval is that of their deviations from their own mean, around the figure. For degenerate figures, such as MMD² between equal
laws, it is too wide, by up to √3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdezoo.evaluation.rows import FloatArray, stream

LEVEL = 0.95
"""Of all intervals."""

Statistic = Callable[..., ArrayLike]
"""Figures `(k,)`, or a single one, of one or more sets of rows."""

_BOOTSTRAP, _HALVES = 0, 1


def bootstrap(statistic: Statistic, parts: Sequence[NDArray[Any]], *, resamples: int = 200, seed: int = 0) -> FloatArray:
    """The percentile interval of each figure, `(k, 2)`; the rows of each part are drawn independently of the others."""
    rng = stream(seed, _BOOTSTRAP)
    drawn = [[part[rng.integers(len(part), size=len(part))] for part in parts] for _ in range(resamples)]
    return _interval(np.stack([np.atleast_1d(statistic(*parts)) for parts in drawn]))


def halves(statistic: Statistic, parts: Sequence[NDArray[Any]], *, repeats: int = 100, seed: int = 0) -> FloatArray:
    """The interval of each figure, `(k, 2)`, from its deviations in random halves of all parts."""
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
