"""The classifier two-sample test: how often a classifier tells samples from held-out rows.

Lopez-Paz & Oquab, arXiv 1610.06545, eq. 2, with a random forest: the accuracy on rows that the forest has not seen, of equally many
samples and held-out rows. For equal laws it is ½, with standard deviation `½ / √(2n)`; for laws that do not overlap, 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from sdezoo.evaluation.rows import choice, paired
from sdezoo.process.noise import mix

_CUT, _FOREST = 0, 1


def c2st(reference: ArrayLike, samples: ArrayLike, *, splits: int = 5, trees: int = 100, seed: int = 0) -> NDArray[np.bool_]:
    """For each row, `(2n,)`, whether a forest that has not seen it knows where it is from; the mean is the accuracy.

    All rows are split into `splits` parts, and each part is told apart by a forest of `trees` trees that was grown on the others. The
    longer of the two sets is cut, at random, to the `n` rows of the other.

    Raises:
        DataError: see `paired`; `splits` rows are the least.
    """
    a, b = paired(reference, samples, least=splits)
    size = min(len(a), len(b))
    rows = np.concatenate([x[choice(len(x), size, seed, _CUT)] for x in (a, b)])
    origin = np.repeat([0, 1], size)
    state = mix(seed, _FOREST) % 2**32
    forest = RandomForestClassifier(trees, random_state=state)
    folds = StratifiedKFold(splits, shuffle=True, random_state=state)
    return np.asarray(cross_val_predict(forest, rows, origin, cv=folds)) == origin
