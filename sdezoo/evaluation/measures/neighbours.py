"""Nearest neighbours in the training data: whether samples are copies.

Held-out rows are as far from the training rows as new rows are. Copies are nearer::

    ratio = median_i min_j ‖y_i − t_j‖ / median_i min_j ‖x_i − t_j‖        y samples, x held-out, t training rows

is 1 for new rows, 0 for copies, and above 1 for samples off the data. A median does not detect a few copies. The second figure does:
the share of samples nearer to a training row than the nearest 5 % of the held-out rows are, which is 5 % for new rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import pairwise_distances_argmin_min

from sdezoo.errors import DataError
from sdezoo.evaluation.rows import CHUNK, FloatArray, paired

NEAR = 0.05
"""Share of held-out rows that counts as near."""


class Nearest(NamedTuple):
    """The nearest training row of each row."""

    distance: FloatArray
    """Distance to the nearest training row, `(n,)`."""
    row: NDArray[Any]
    """Index of the nearest training row, `(n,)`."""


def nearest(rows: ArrayLike, training: ArrayLike) -> Nearest:
    """Find the training row nearest to each row, by Euclidean distance.

    Args:
        rows: `(n, d)`.
        training: `(m, d)` of any dtype; converted to float64 in chunks.
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
    """Two figures that reveal copies."""

    ratio: float
    """Median distance of samples to the nearest training row, divided by that of held-out rows."""
    near: float
    """Share of samples nearer to a training row than the nearest 5 % of held-out rows."""


def copying(reference: ArrayLike, samples: ArrayLike) -> Copying:
    """Compute both figures from distances to the nearest training row.

    Args:
        reference: distances of held-out rows, `(n,)`.
        samples: distances of samples, `(m,)`.

    Raises:
        DataError: if half of the held-out rows are training rows, so that there is nothing to compare with.
    """
    held, drawn = (x[:, 0] for x in paired(np.reshape(reference, (-1, 1)), np.reshape(samples, (-1, 1))))
    if not np.median(held):
        raise DataError(
            "Half of the held-out rows are training rows, so copies cannot be detected.", "Hold out rows that are not repeated."
        )
    return Copying(float(np.median(drawn) / np.median(held)), float((drawn < np.quantile(held, NEAR)).mean()))
