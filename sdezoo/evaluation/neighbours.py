"""Nearest neighbours in the training data: whether samples are copies.

Held-out rows are as far from the training rows as new rows are. What copies is nearer::

    ratio = median_i min_j ‖y_i − t_j‖ / median_i min_j ‖x_i − t_j‖        y samples, x held-out, t training rows

is 1 for new rows, 0 for copies, and above 1 for samples that are off. A median does not see that a few are copied: the share of
samples nearer to a training row than all but 5 % of the held-out rows are is 5 % for new rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import pairwise_distances_argmin_min

from sdezoo.errors import DataError
from sdezoo.evaluation.rows import CHUNK, FloatArray, paired

NEAR = 0.05
"""The share of held-out rows that counts as near."""


class Nearest(NamedTuple):
    """Of each row, `(n,)`: the distance to the nearest training row, and its number."""

    distance: FloatArray
    row: NDArray[Any]


def nearest(rows: ArrayLike, training: ArrayLike) -> Nearest:
    """The training row that is nearest to each row, by Euclidean distance.

    Args:
        rows: `(n, d)`.
        training: `(m, d)` of any dtype; widened to float64 a part at a time.
    """
    x, t = np.asarray(rows, dtype=np.float64), np.asarray(training)
    best = Nearest(np.full(len(x), np.inf), np.zeros(len(x), dtype=np.intp))
    height = max(1, CHUNK // t.shape[1])
    for i in range(0, len(t), height):
        index, distance = pairwise_distances_argmin_min(x, t[i : i + height].astype(np.float64))
        nearer = distance < best.distance
        best.distance[nearer], best.row[nearer] = distance[nearer], index[nearer] + i
    return best


class Copying(NamedTuple):
    """The ratio of medians, and the share of samples that are near."""

    ratio: float
    near: float


def copying(reference: ArrayLike, samples: ArrayLike) -> Copying:
    """Both, from the distances of held-out rows and of samples to their nearest training rows, `(n,)` and `(m,)`.

    Raises:
        DataError: where half of the held-out rows are training rows, which leaves nothing to compare with.
    """
    held, drawn = (x[:, 0] for x in paired(np.reshape(reference, (-1, 1)), np.reshape(samples, (-1, 1))))
    if not np.median(held):
        raise DataError("Half of the held-out rows are training rows, so copies cannot be told.", "Hold out rows that are not repeated.")
    return Copying(float(np.median(drawn) / np.median(held)), float((drawn < np.quantile(held, NEAR)).mean()))
