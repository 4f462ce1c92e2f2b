"""Tails: how fast a law falls far out.

A tail is heavy where `P(X > u)` falls like a power `u^{−a}`; `a` is its index, and moments are finite below it. Hill's estimator (Ann.
Statist. 3 (1975)) takes the `k` largest of `n` values, `X_(1) ≥ X_(2) ≥ …`::

    1/â = (1/k) Σ_{i ≤ k} ln(X_(i)/X_(k+1)),      k = ⌊2√n⌋

Beyond a threshold from where the power law holds, `2k a/â` has the law `χ²_{2k}` exactly, which gives the interval at any `n`. The
more values are taken, the less is left to chance and the more to bias: where `P(X > u) ∝ u^{−a} (1 + D u^{−b} + …)`, the mean squared
error is least at a `k` of the order `n^{2b/(2b + a)}` (Hall, J. R. Stat. Soc. B 44 (1982)), so that with `√n` bias fades beside the
interval for `b > a/2`. Pareto's law has none at any `k`; Student's with `ν` degrees of freedom has `a = ν`, `b = 2`.

Distributions that fall faster than any power (normal, log-normal) have a finite `â` too, which grows with `n`: it is the slope at the
threshold, and a figure to compare with that of as many other rows. Whether the tail is heavy at all is told by the extreme value index,
`γ = 1/a` for a power law and at most 0 else (Dekkers, Einmahl & de Haan, Ann. Statist. 17 (1989)). With the moments `M_j` of the `k`
numbers `ln(X_(i)/X_(k+1))`::

    γ̂ = M_1 + 1 − ½ / (1 − M_1²/M_2),      √k (γ̂ − γ) → N(0, 1 + γ²)    for γ ≥ 0

Equal values break this: on counts and rounded values the threshold falls on a value that many rows have, and the estimate jumps from one
such value to the next, far beyond the interval. Before anything is computed, the rows that share a value are spread evenly over its
cell, up to half of the way to the nearer of the two neighbouring values, 0 among them. Values that no two rows share stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sdezoo.evaluation.resampling import LEVEL
from sdezoo.evaluation.rows import FloatArray

ROWS = "largest entry of a row"
"""What stands for all columns together."""


_DISTINCT = 8
"""Different values that the largest ones need, for it to be known whether a tail is heavy."""


@dataclass(frozen=True)
class Tail:
    """An index and its interval; infinite where all values are the same.

    Args:
        index, low, high: the index and the ends of its interval.
        heavy: whether the extreme value index is positive beyond chance: light tails have an index too, at each number of rows.
    """

    index: float
    low: float
    high: float
    heavy: bool = True

    def heavier(self, other: Tail) -> bool:
        """Whether it is a heavy tail, and heavier than `other` beyond chance: the intervals do not meet."""
        return self.heavy and self.high < other.low


class Contrast(NamedTuple):
    """The tails of one column, or of `ROWS`: of held-out rows, samples and training rows.

    Args:
        name: of the column. data, samples, training: the tails. positive: whether no training row has a negative value there.
    """

    name: str
    data: Tail
    samples: Tail
    training: Tail
    positive: bool = False


def hill(values: ArrayLike) -> Tail | None:
    """The tail of non-negative `values` `(n,)`, from the largest `2√n` of them; None where fewer than two are positive."""
    given = np.asarray(values, dtype=np.float64)
    k = min(math.isqrt(4 * len(given)), int((given > 0).sum()) - 1)
    if k < 1:
        return None
    if np.ptp(given) == 0:
        return Tail(math.inf, math.inf, math.inf, heavy=False)
    largest = np.sort(_spread(given))[::-1][: k + 1]
    excess = np.log(largest[:k] / largest[k])
    mean, square = float(excess.mean()), float((excess**2).mean())
    ends = stats.chi2.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], 2 * k) / (2 * k)
    known = len(np.unique(np.sort(given)[-k - 1 :])) >= _DISTINCT
    return Tail(1 / mean, *(float(end) / mean for end in ends), heavy=known and _heavy(mean, square, k))


def _heavy(mean: float, square: float, k: int) -> bool:
    """Whether the extreme value index is positive beyond chance, from the two moments of `k` logarithms of excesses."""
    index = mean + 1 - 0.5 / (1 - mean**2 / square)
    return bool(index > stats.norm.ppf((1 + LEVEL) / 2) * math.sqrt((1 + index**2) / k))


def _spread(values: FloatArray) -> FloatArray:
    """Equal positive values spread evenly over their cell, `(n,)`; others as they are."""
    distinct, place, count = np.unique(values, return_inverse=True, return_counts=True)
    below = np.diff(distinct, prepend=0.0)
    width = np.where(distinct > 0, np.minimum(below, np.append(below[1:], below[-1])), 0.0)
    order = np.argsort(place, kind="stable")
    rank = np.empty(len(values))
    rank[order] = np.arange(len(values)) - (np.cumsum(count) - count)[place[order]]
    return values + width[place] * ((rank + 0.5) / count[place] - 0.5)


def contrasts(names: Sequence[str], held_out: FloatArray, samples: FloatArray, training: FloatArray) -> list[Contrast]:
    """The tails of `ROWS` and of each column, for rows `(n, d)` each; columns without a tail are left out.

    A value counts by its size: `|x|` in a column of one sign, else `|x − c|`, `c` the median of the training rows. The entries of a row are
    compared in units of their columns' median size.
    """
    both = (training.min(0) < 0) & (training.max(0) > 0)
    centre = np.where(both, np.median(training, axis=0), 0.0)
    sizes = [np.abs(part - centre) for part in (held_out, samples, training)]
    unit = np.median(sizes[2], axis=0)
    unit = np.where(unit > 0, unit, sizes[2].mean(0))
    columns = {ROWS: [(part[:, unit > 0] / unit[unit > 0]).max(1) for part in sizes]} if (unit > 0).any() else {}
    columns |= {name: [part[:, i] for part in sizes] for i, name in enumerate(names)}
    positive = dict(zip(names, training.min(0) >= 0, strict=True))
    positive = {ROWS: any(positive.values()), **positive}
    found = []
    for name, parts in columns.items():
        tails = [hill(part) for part in parts]
        known = [tail for tail in tails if tail is not None]
        if len(known) == len(tails):
            found.append(Contrast(name, *known, positive=bool(positive[name])))
    return found
