"""The Fréchet distance of features: the Wasserstein-2 distance of two normal distributions with their means and covariances.

    d² = ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a^½ Σ_b Σ_a^½)^½)

Dowson & Landau, J. Multivariate Anal. 12 (1982); for features of a classifier, Heusel et al., arXiv 1706.08500, eq. 6. It is biased
upwards, the more so the fewer the rows: compare figures only at the same size and with the same feature extractor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from sdezoo.evaluation.rows import FloatArray, paired


def frechet_distance(reference: ArrayLike, samples: ArrayLike) -> float:
    """Return the squared distance `d²` of two sets of features, as FID does.

    Args:
        reference: features, `(n, d)`.
        samples: features, `(m, d)`.

    Raises:
        DataError: see `paired`.
    """
    a, b = paired(reference, samples)
    moments = [(x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))) for x in (a, b)]
    return normal_distance(*moments[0], *moments[1])


def normal_distance(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """Return `d²` of two normal distributions; the covariances may be singular.

    Args:
        mean_a: `μ_a`, `(d,)`.
        cov_a: `Σ_a`, `(d, d)`.
        mean_b: `μ_b`, `(d,)`.
        cov_b: `Σ_b`, `(d, d)`.
    """
    first, second = np.asarray(cov_a, dtype=np.float64), np.asarray(cov_b, dtype=np.float64)
    gap = np.asarray(mean_a, dtype=np.float64) - np.asarray(mean_b, dtype=np.float64)
    half = _root(first)
    # The trace of the square root is the sum of the roots of the eigenvalues; rounding may take these below 0.
    cross = np.sqrt(np.maximum(eigh(half @ second @ half, eigvals_only=True), 0.0)).sum()
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * cross)


def _root(covariance: FloatArray) -> FloatArray:
    values, vectors = eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
