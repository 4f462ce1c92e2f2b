"""Wasserstein distances: `W_1` itself, and sliced ones, optimal transport in one dimension, averaged over directions.

In one dimension the optimal coupling joins equal quantiles, so that with directions `θ` uniform on the sphere::

    SW_p(P, Q)^p = E_θ ∫₀¹ |F⁻¹_{θᵀX}(u) − F⁻¹_{θᵀY}(u)|^p du

Rabin, Peyré, Delon & Bernot, SSVM 2011; Bonneel, Rabin, Peyré & Pfister, J. Math. Imaging Vis. 51 (2015), eq. 9. The integral is
exact for sets of any two sizes. Both distances are biased upwards, by the distance between two samples of one distribution.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from sdezoo.evaluation.rows import CHUNK, FloatArray, paired, stream

_DIRECTIONS = 0


class Sliced(NamedTuple):
    """Sliced Wasserstein distances, in the units of the rows."""

    w1: float
    """`SW_1`."""
    w2: float
    """`SW_2`."""


def sliced_wasserstein(reference: ArrayLike, samples: ArrayLike, *, directions: int = 128, seed: int = 0) -> Sliced:
    """Compute `SW_1` and `SW_2` between two sets of rows, over random directions.

    Args:
        reference: `(n, d)`.
        samples: `(m, d)`.
        directions: number of directions; they are the same for all sets of rows of one length `d`.
        seed: random seed of the directions.

    Raises:
        DataError: see `paired`.
    """
    a, b = paired(reference, samples, least=1)
    axes = stream(seed, _DIRECTIONS).standard_normal((a.shape[1], directions if a.shape[1] > 1 else 1))
    axes /= np.linalg.norm(axes, axis=0)
    weights, at_a, at_b = _coupling(len(a), len(b))
    first = second = 0.0
    width = max(1, CHUNK // (len(a) + len(b)))
    for start in range(0, axes.shape[1], width):
        block = axes[:, start : start + width]
        gaps = np.abs(np.sort(a @ block, axis=0)[at_a] - np.sort(b @ block, axis=0)[at_b])
        first += float((weights @ gaps).sum())
        second += float((weights @ gaps**2).sum())
    return Sliced(first / axes.shape[1], (second / axes.shape[1]) ** 0.5)


def wasserstein(reference: ArrayLike, samples: ArrayLike) -> float:
    """Compute `W_1` between two sets of equally many rows: the mean Euclidean distance of pairs in the best assignment.

    Args:
        reference: `(n, d)`.
        samples: `(n, d)`.

    Raises:
        DataError: see `paired`.
    """
    cost = cdist(*paired(reference, samples, least=1))
    return float(cost[linear_sum_assignment(cost)].mean())


def _coupling(n: int, m: int) -> tuple[FloatArray, NDArray[np.intp], NDArray[np.intp]]:
    """Return the pieces of [0, 1] on which both quantile functions are constant: their lengths, and the order statistics there."""
    # In multiples of 1/(n m) the ends of the pieces are whole numbers.
    ends = np.union1d(np.arange(0, n + 1) * m, np.arange(0, m + 1) * n)
    return np.diff(ends) / (n * m), ends[:-1] // m, ends[:-1] // n
