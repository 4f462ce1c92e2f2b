"""Precision, recall, density and coverage: fidelity and diversity measured separately.

The support of a distribution is estimated by balls around its rows, each reaching to the `k`-th nearest neighbour in the same set. A
sample is *precise* if it lies in a ball of the reference; a reference row is *recalled* if it lies in a ball of the samples
(Kynkäänniemi et al., arXiv 1904.06991, eq. 1 and 2). Their robust forms (Naeem et al., arXiv 2002.09797, eq. 3 and 4)::

    density   Σ_j 1[y_i ∈ B(x_j)] / k            for each sample y_i, 1 in the mean for equal distributions
    coverage  1[some y_j ∈ B(x_i)]               for each reference row x_i

For equal distributions and large sets of one size coverage is `1 − 2^−k`, 0.97 for `k = 5`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from sdezoo.evaluation.rows import CHUNK, FloatArray, paired


class Manifold(NamedTuple):
    """The contribution of each row; the measures are the means."""

    precision: FloatArray
    """Whether each sample is precise, 0 or 1, `(m,)`."""
    recall: FloatArray
    """Whether each reference row is recalled, 0 or 1, `(n,)`."""
    density: FloatArray
    """Number of balls of the reference that hold each sample, divided by `k`, `(m,)`."""
    coverage: FloatArray
    """Whether the ball of each reference row holds a sample, 0 or 1, `(n,)`."""


def manifold(reference: ArrayLike, samples: ArrayLike, *, k: int = 5) -> Manifold:
    """Compute precision, recall, density and coverage of samples, by Euclidean distance.

    Args:
        reference: `(n, d)`.
        samples: `(m, d)`.
        k: balls reach to the `k`-th nearest neighbour.

    Raises:
        DataError: see `paired`; each set needs at least `k + 1` rows.
    """
    a, b = paired(reference, samples, least=k + 1)
    around_a, around_b = _radii(a, k), _radii(b, k)
    inside, recalled, covered = np.empty(len(b)), np.zeros(len(a), bool), np.zeros(len(a), bool)
    height = max(1, CHUNK // len(a))
    for i in range(0, len(b), height):
        part = slice(i, i + height)
        distances = pairwise_distances(b[part], a)
        inside[part] = (distances <= around_a).sum(1)
        recalled |= (distances <= around_b[part, None]).any(0)
        covered |= (distances <= around_a).any(0)
    return Manifold((inside > 0).astype(float), recalled.astype(float), inside / k, covered.astype(float))


def _radii(rows: FloatArray, k: int) -> FloatArray:
    """Return the distance of each row to its `k`-th nearest neighbour, itself not counted."""
    return NearestNeighbors(n_neighbors=k).fit(rows).kneighbors()[0][:, -1]
