"""The classifier two-sample test: how well a classifier separates samples from held-out rows.

Lopez-Paz & Oquab, arXiv 1610.06545, eq. 2, with a random forest: the accuracy on rows that the forest was not trained on, of equally
many samples and held-out rows. For equal distributions it is ½, with standard deviation `½ / √(2n)`; for disjoint ones, 1.
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
    """Return for each row, `(2n,)`, whether a forest not trained on it classifies it correctly; the mean is the accuracy.

    The longer of the two sets is cut, at random, to the `n` rows of the other. All rows are split into `splits` parts, and each part is
    classified by a forest trained on the others.

    Args:
        reference: `(n, d)`.
        samples: `(m, d)`.
        splits: number of cross-validation folds.
        trees: number of trees in each forest.
        seed: random seed.

    Raises:
        DataError: see `paired`; each set needs at least `splits` rows.
    """
    a, b = paired(reference, samples, least=splits)
    size = min(len(a), len(b))
    rows = np.concatenate([x[choice(len(x), size, seed, _CUT)] for x in (a, b)])
    origin = np.repeat([0, 1], size)
    state = mix(seed, _FOREST) % 2**32
    forest = RandomForestClassifier(trees, random_state=state)
    folds = StratifiedKFold(splits, shuffle=True, random_state=state)
    return np.asarray(cross_val_predict(forest, rows, origin, cv=folds)) == origin
