"""Columns: each by itself, and two at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sdezoo.evaluation.rows import FloatArray, paired


class Kolmogorov(NamedTuple):
    """Of each column, `(d,)`: the largest difference of the two distribution functions, and its p-value for equal laws."""

    statistic: FloatArray
    p: FloatArray


def kolmogorov_smirnov(reference: ArrayLike, samples: ArrayLike) -> Kolmogorov:
    """The two-sample Kolmogorov–Smirnov test of each column: `D = sup_x |F_n(x) − G_m(x)|`.

    Raises:
        DataError: see `paired`.
    """
    a, b = paired(reference, samples)
    tests = [stats.ks_2samp(a[:, i], b[:, i]) for i in range(a.shape[1])]
    return Kolmogorov(*np.array(tests, dtype=np.float64).T)


class CorrelationError(NamedTuple):
    """Differences of correlations over all pairs of columns: root mean square and largest, of values and of ranks."""

    rms: float
    largest: float
    rank_rms: float
    rank_largest: float


def correlation_error(reference: ArrayLike, samples: ArrayLike) -> CorrelationError:
    """How far the correlations (Pearson's) and rank correlations (Spearman's) of samples are from those of the reference.

    Raises:
        DataError: see `paired`; and for a single column, which has no pairs.
    """
    a, b = paired(reference, samples)
    pairs = np.triu_indices(a.shape[1], 1)
    errors = []
    for first, second in ((a, b), (stats.rankdata(a, axis=0), stats.rankdata(b, axis=0))):
        gaps = np.abs(correlations(first) - correlations(second))[pairs]
        errors += [float(np.sqrt((gaps**2).mean())), float(gaps.max())]
    return CorrelationError(*errors)


def correlations(rows: ArrayLike) -> FloatArray:
    """The correlations of columns, `(d, d)`; a constant column has correlation 0 with all others."""
    values = np.asarray(rows, dtype=np.float64)
    centred = values - values.mean(0)
    # Rounding leaves the mean of equal values a little off.
    spread = np.where(np.ptp(values, axis=0) > 0, np.linalg.norm(centred, axis=0), np.inf)
    found = (centred / spread).T @ (centred / spread)
    np.fill_diagonal(found, 1.0)
    return found
