"""Maximum mean discrepancy, the distance of mean embeddings.

    MMD²(P, Q) = E k(X, X′) + E k(Y, Y′) − 2 E k(X, Y)

The estimate is unbiased, without the diagonal (Gretton et al., JMLR 13 (2012), eq. 3). For equal distributions its mean is 0, so
about half of all estimates are negative.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from sdezoo.evaluation.rows import CHUNK, FloatArray, choice, paired

_MEDIAN_ROWS, _MEDIAN = 2000, 0

Kernel = Callable[[FloatArray, FloatArray], FloatArray]


def mmd2(reference: ArrayLike, samples: ArrayLike, *, bandwidth: float) -> float:
    """Return the unbiased `MMD²` with the Gaussian kernel `k(x, y) = exp(−‖x − y‖² / 2h²)`.

    Args:
        reference: `(n, d)`.
        samples: `(m, d)`.
        bandwidth: `h`, in the units of the rows.

    Raises:
        DataError: see `paired`.
    """
    gamma = 1 / (2 * bandwidth**2)
    return _unbiased(lambda a, b: rbf_kernel(a, b, gamma=gamma), reference, samples)


def kid(reference: ArrayLike, samples: ArrayLike) -> float:
    """Return the kernel distance of features: the unbiased `MMD²` with `k(x, y) = (xᵀy/d + 1)³`.

    Bińkowski, Sutherland, Arbel & Gretton, arXiv 1801.01401, section 4.

    Args:
        reference: features, `(n, d)`.
        samples: features, `(m, d)`.

    Raises:
        DataError: see `paired`.
    """
    return _unbiased(lambda a, b: polynomial_kernel(a, b, degree=3, coef0=1), reference, samples)


def median_distance(rows: ArrayLike, *, seed: int = 0) -> float:
    """Return the median Euclidean distance between two rows, a common bandwidth; 1 if it is 0.

    Compute it from the reference alone, so that samples and real rows are compared by the same kernel.

    Args:
        rows: `(n, d)`; of more than 2000 a random subset is used.
        seed: random seed of that subset.
    """
    found, _ = paired(rows, rows)
    distance = float(np.median(pdist(found[choice(len(found), _MEDIAN_ROWS, seed, _MEDIAN)])))
    return distance or 1.0


def _unbiased(kernel: Kernel, reference: ArrayLike, samples: ArrayLike) -> float:
    a, b = paired(reference, samples)
    return _inside(kernel, a) + _inside(kernel, b) - 2 * _sum(kernel, a, b) / (len(a) * len(b))


def _inside(kernel: Kernel, a: FloatArray) -> float:
    diagonal = sum(float(np.trace(kernel(a[i : i + 64], a[i : i + 64]))) for i in range(0, len(a), 64))
    return (_sum(kernel, a, a) - diagonal) / (len(a) * (len(a) - 1))


def _sum(kernel: Kernel, a: FloatArray, b: FloatArray) -> float:
    height = max(1, CHUNK // len(b))
    return sum(float(kernel(a[i : i + height], b).sum()) for i in range(0, len(a), height))
