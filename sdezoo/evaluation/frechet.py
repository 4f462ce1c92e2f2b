"""The Fréchet distance of features: the Wasserstein-2 distance of two normal laws with their means and covariances.

    d² = ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a^½ Σ_b Σ_a^½)^½)

Dowson & Landau, J. Multivariate Anal. 12 (1982); of features of a classifier, Heusel et al., arXiv 1706.08500, eq. 6. It is biased
upwards, the more the fewer the rows: figures compare only at one size, and only with one feature extractor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from sdezoo.evaluation.rows import FloatArray, paired


def frechet_distance(reference: ArrayLike, samples: ArrayLike) -> float:
    """The squared distance `d²` of two sets of features, as FID is.

    Raises:
        DataError: see `paired`.
    """
    a, b = paired(reference, samples)
    moments = [(x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))) for x in (a, b)]
    return normal_distance(*moments[0], *moments[1])


def normal_distance(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """`d²` of two normal laws, from means `(d,)` and covariances `(d, d)`; these may be singular."""
    first, second = np.asarray(cov_a, dtype=np.float64), np.asarray(cov_b, dtype=np.float64)
    gap = np.asarray(mean_a, dtype=np.float64) - np.asarray(mean_b, dtype=np.float64)
    half = _root(first)
    # Of a product of roots the square root has a trace, that of its eigenvalues; rounding may take them below 0.
    cross = np.sqrt(np.maximum(eigh(half @ second @ half, eigvals_only=True), 0.0)).sum()
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * cross)


def _root(covariance: FloatArray) -> FloatArray:
    values, vectors = eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
