"""Measures of single columns and of pairs of columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sdezoo.evaluation.rows import FloatArray, paired

_EXACT = 1000


class Kolmogorov(NamedTuple):
    """The Kolmogorov–Smirnov test of each column."""

    statistic: FloatArray
    """Largest difference of the two distribution functions, `(d,)`."""
    p: FloatArray
    """p-values under equal distributions, `(d,)`."""


def kolmogorov_smirnov(reference: ArrayLike, samples: ArrayLike) -> Kolmogorov:
    """Run the two-sample Kolmogorov–Smirnov test on each column: `D = sup_x |F_n(x) − G_m(x)|`. Missing values are left out.

    Args:
        reference: `(n, d)`; NaN: missing.
        samples: `(m, d)`; NaN: missing.

    Raises:
        DataError: see `paired`.
    """
    pairs = [paired(*(column[~np.isnan(column)][:, None] for column in both)) for both in zip(*_columns(reference, samples), strict=True)]
    # Exact p-values of larger sets overflow, and are those of the limit.
    tests = [stats.ks_2samp(a[:, 0], b[:, 0], method="exact" if max(len(a), len(b)) <= _EXACT else "asymp") for a, b in pairs]
    return Kolmogorov(*np.array(tests, dtype=np.float64).reshape(-1, 2).T)


def _columns(reference: ArrayLike, samples: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """The columns of two sets of rows with NaN for missing values, `(d, n)` and `(d, m)`."""
    a, b = (np.asarray(rows, dtype=np.float64) for rows in (reference, samples))
    if a.ndim != 2 or (a.shape[1] and not np.isnan(a).any() and not np.isnan(b).any()):
        paired(a, b)
    return a.T, b.T


class CorrelationError(NamedTuple):
    """Differences of correlations over all pairs of columns."""

    rms: float
    """Root mean square difference of correlations of values."""
    largest: float
    """Largest difference of correlations of values."""
    rank_rms: float
    """Root mean square difference of correlations of ranks."""
    rank_largest: float
    """Largest difference of correlations of ranks."""


def correlation_error(reference: ArrayLike, samples: ArrayLike) -> CorrelationError:
    """Compare the correlations (Pearson's) and rank correlations (Spearman's) of samples with those of the reference.

    Args:
        reference: `(n, d)`.
        samples: `(m, d)`.

    Raises:
        DataError: see `paired`; also for a single column, which has no pairs.
    """
    a, b = paired(reference, samples)
    pairs = np.triu_indices(a.shape[1], 1)
    errors = []
    for first, second in ((a, b), (stats.rankdata(a, axis=0), stats.rankdata(b, axis=0))):
        gaps = np.abs(correlations(first) - correlations(second))[pairs]
        errors += [float(np.sqrt((gaps**2).mean())), float(gaps.max())]
    return CorrelationError(*errors)


def correlations(rows: ArrayLike) -> FloatArray:
    """Return the correlations of columns, `(d, d)`; a constant column has correlation 0 with all others.

    Args:
        rows: `(n, d)`.
    """
    values = np.asarray(rows, dtype=np.float64)
    centred = values - values.mean(0)
    # Rounding leaves the mean of equal values a little off.
    spread = np.where(np.ptp(values, axis=0) > 0, np.linalg.norm(centred, axis=0), np.inf)
    found = (centred / spread).T @ (centred / spread)
    np.fill_diagonal(found, 1.0)
    return found
