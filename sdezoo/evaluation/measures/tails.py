"""Tails: how fast a distribution falls far out.

A tail is heavy if `P(X > u)` falls like a power `u^{−a}`; `a` is its index, and moments below it are finite. Hill's estimator (Ann.
Statist. 3 (1975)) takes the `k` largest of `n` values, `X_(1) ≥ X_(2) ≥ …`::

    1/â = (1/k) Σ_{i ≤ k} ln(X_(i)/X_(k+1)),      k = ⌊2√n⌋

Beyond a threshold above which the power law holds, `2k a/â` is distributed as `χ²_{2k}` exactly, which gives the interval at any `n`.
The more values are taken, the smaller the variance and the larger the bias: if `P(X > u) ∝ u^{−a} (1 + D u^{−b} + …)`, the mean squared
error is least at a `k` of the order `n^{2b/(2b + a)}` (Hall, J. R. Stat. Soc. B 44 (1982)), so that with `√n` the bias becomes small
against the interval for `b > a/2`. The Pareto distribution has no bias at any `k`; Student's with `ν` degrees of freedom has `a = ν`,
`b = 2`.

Distributions that fall faster than any power (normal, log-normal) have a finite `â` too, which grows with `n`: it is the slope at the
threshold, to be compared only with that of equally many rows. Whether the tail is heavy at all is decided by the extreme value index,
`γ = 1/a` for a power law and at most 0 else (Dekkers, Einmahl & de Haan, Ann. Statist. 17 (1989)). With the moments `M_j` of the `k`
numbers `ln(X_(i)/X_(k+1))`::

    γ̂ = M_1 + 1 − ½ / (1 − M_1²/M_2),      √k (γ̂ − γ) → N(0, 1 + γ²)    for γ ≥ 0

Ties break this: on counts and rounded values the threshold falls on a value that many rows share, and the estimate jumps from one
such value to the next, far beyond the interval. So before anything is computed, the rows that share a value are spread evenly over its
cell, which reaches up to halfway to the nearer of the two neighbouring values, 0 among them. Unique values stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sdezoo.evaluation.resampling import LEVEL
from sdezoo.evaluation.rows import FloatArray

ROWS = "largest entry of a row"
"""Name of the tail over all columns together."""


_DISTINCT = 8
"""Minimum number of distinct values among the largest, below which no tail counts as heavy."""


@dataclass(frozen=True)
class Tail:
    """A tail index and its interval; infinite if all values are the same.

    Args:
        index: the index `â`.
        low: lower end of its interval.
        high: upper end of its interval.
        heavy: whether the extreme value index is significantly positive. A light tail has an index too, at any number of rows.
    """

    index: float
    low: float
    high: float
    heavy: bool = True

    def heavier(self, other: Tail) -> bool:
        """Return whether this tail is heavy and significantly heavier than `other`: the intervals do not overlap."""
        return self.heavy and self.high < other.low


class Contrast(NamedTuple):
    """The tails of one column, or of `ROWS`, in three sets of rows."""

    name: str
    """Name of the column, or `ROWS`."""
    data: Tail
    """Tail of the held-out rows."""
    samples: Tail
    """Tail of the samples."""
    training: Tail
    """Tail of the training rows."""
    positive: bool = False
    """True if no training row has a negative value there."""


def hill(values: ArrayLike) -> Tail | None:
    """Estimate the tail of non-negative values, from the largest `2√n` of them.

    Args:
        values: `(n,)`, at least 0.

    Returns:
        The tail; None if fewer than two values are positive.
    """
    given = np.asarray(values, dtype=np.float64)
    k = min(math.isqrt(4 * len(given)), int((given > 0).sum()) - 1)
    if k < 1:
        return None
    if np.ptp(given) == 0:
        return Tail(math.inf, math.inf, math.inf, heavy=False)
    largest = np.sort(_spread(given))[::-1][: k + 1]
    excess = np.log(largest[:k] / largest[k])
    mean, square = float(excess.mean()), float((excess**2).mean())
    ends = special.gammaincinv(k, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) / k  # χ²_{2k}
    known = len(np.unique(np.sort(given)[-k - 1 :])) >= _DISTINCT
    return Tail(1 / mean, *(float(end) / mean for end in ends), heavy=known and _heavy(mean, square, k))


def _heavy(mean: float, square: float, k: int) -> bool:
    """Return whether the extreme value index is significantly positive, from the two moments of `k` log-excesses."""
    index = mean + 1 - 0.5 / (1 - mean**2 / square)
    return bool(index > special.ndtri((1 + LEVEL) / 2) * math.sqrt((1 + index**2) / k))


def _spread(values: FloatArray) -> FloatArray:
    """Spread equal positive values evenly over their cell, `(n,)`; leave others as they are."""
    distinct, place, count = np.unique(values, return_inverse=True, return_counts=True)
    below = np.diff(distinct, prepend=0.0)
    width = np.where(distinct > 0, np.minimum(below, np.append(below[1:], below[-1])), 0.0)
    order = np.argsort(place, kind="stable")
    rank = np.empty(len(values))
    rank[order] = np.arange(len(values)) - (np.cumsum(count) - count)[place[order]]
    return values + width[place] * ((rank + 0.5) / count[place] - 0.5)


def contrasts(names: Sequence[str], held_out: FloatArray, samples: FloatArray, training: FloatArray) -> list[Contrast]:
    """Estimate the tails of `ROWS` and of each column; columns without a tail are left out.

    A value counts by its size: `|x|` in a column of one sign, else `|x − c|`, where `c` is the median of the training rows. The entries of
    a row are compared in units of their columns' median size.

    Args:
        names: names of the columns, `d` of them.
        held_out: `(n, d)`.
        samples: `(m, d)`.
        training: `(k, d)`.
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
