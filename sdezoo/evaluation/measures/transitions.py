"""Calibration of forecasts one step ahead: where an observation falls among draws of its forecast.

With `r` of `K` draws below the observation, and `V` uniform on [0, 1], the probability integral transform is `u = (r + V)/(K + 1)`. If the
forecast is the conditional distribution given everything before, then all `u` of a path are independent and uniform (Rosenblatt, Annals of
Mathematical Statistics 23 (1952); Diebold, Gunther & Tay, International Economic Review 39 (1998)). So their distribution is compared with
the uniform one by Kolmogorov and Smirnov; `|u − ½| < p/2` has probability `p`: the coverage of central intervals; and the normal scores
`Φ⁻¹(u)` have deviation 1, and no correlation with the score before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sdezoo.evaluation.resampling import bootstrap
from sdezoo.evaluation.rows import FloatArray, stream

LEVELS = (0.5, 0.9)
"""Probabilities of the central intervals."""

DRAWS = 99
"""Number of draws of a forecast: with 100 places, the central intervals of `LEVELS` have exactly their probabilities."""

_TIES = 8  # stream of the uniform numbers


class Calibration(NamedTuple):
    """How forecasts of one column are calibrated."""

    cover: tuple[float, ...]
    """Share of observations in each central interval of `LEVELS`."""
    cover_interval: FloatArray
    """95 % intervals of these shares, `(2, 2)`."""
    scores: tuple[float, ...]
    """Deviation of normal scores, and correlation of each with the one before; NaN if a path has one transition."""
    scores_interval: FloatArray
    """95 % intervals of both, `(2, 2)`."""
    statistic: float
    """Largest difference from the uniform distribution function."""
    p: float
    """Its p-value."""


def transforms(drawn: ArrayLike, observed: ArrayLike, *, seed: int = 0) -> FloatArray:
    """Compute the probability integral transforms of observations.

    Args:
        drawn: draws of the forecast of each, `(K, …)`.
        observed: the observations, of the shape of a draw.
        seed: random seed of `V`.

    Returns:
        `u`, in the shape of the observations.
    """
    draws, truth = np.asarray(drawn, np.float64), np.asarray(observed, np.float64)
    return ((draws < truth).sum(0) + stream(seed, _TIES).random(truth.shape)) / (len(draws) + 1)


def calibration(u: FloatArray, *, seed: int = 0) -> Calibration:
    """Judge the forecasts of one column.

    Args:
        u: transforms of successive transitions of each path, `(paths, transitions)`.
        seed: random seed of the intervals.
    """
    scores = stats.norm.ppf(np.clip(u, 1e-12, 1 - 1e-12))
    pairs = np.stack([scores[:, :-1].ravel(), scores[:, 1:].ravel()], 1)
    inside = np.stack([np.abs(u.ravel() - 0.5) < level / 2 for level in LEVELS], 1)
    width = bootstrap(np.std, (scores.ravel(),), seed=seed)
    both = bootstrap(_correlation, (pairs,), seed=seed) if len(pairs) > 1 else np.full((1, 2), np.nan)
    test = stats.kstest(u.ravel(), "uniform")
    return Calibration(
        tuple(map(float, inside.mean(0))),
        bootstrap(lambda rows: rows.mean(0), (inside,), seed=seed),
        (float(scores.std()), _correlation(pairs) if len(pairs) > 1 else float("nan")),
        np.concatenate([width, both]),
        float(test.statistic),
        float(test.pvalue),
    )


def _correlation(pairs: FloatArray) -> float:
    return float(np.atleast_2d(np.corrcoef(pairs.T))[0, 1])
