"""Tails: how fast a law falls far out.

A tail is heavy where `P(X > u)` falls like a power `u^{−a}`; `a` is its index, and moments are finite below it. Hill's estimator (Ann.
Statist. 3 (1975)) takes the `k` largest of `n` values, `X_(1) ≥ X_(2) ≥ …`::

    1/â = (1/k) Σ_{i ≤ k} ln(X_(i)/X_(k+1)),      k = ⌊2√n⌋

Beyond a threshold from where the power law holds, `2k a/â` has the law `χ²_{2k}` exactly, which gives the interval at any `n`. The
more values are taken, the less is left to chance and the more to bias: where `P(X > u) ∝ u^{−a} (1 + D u^{−b} + …)`, the mean squared
error is least at a `k` of the order `n^{2b/(2b + a)}` (Hall, J. R. Stat. Soc. B 44 (1982)), so that with `√n` bias fades beside the
interval for `b > a/2`. Pareto's law has none at any `k`; Student's with `ν` degrees of freedom has `a = ν`, `b = 2`.

Laws that fall faster than any power (normal, log-normal) have a finite `â` too, which grows with `n`: it is the slope at the
threshold, and a figure to compare with that of as many other rows.
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


@dataclass(frozen=True)
class Tail:
    """An index and its interval; infinite where the largest values are all the same."""

    index: float
    low: float
    high: float

    def heavier(self, other: Tail) -> bool:
        """Whether it is heavier than `other` beyond chance: the intervals do not meet."""
        return self.high < other.low


class Contrast(NamedTuple):
    """The tails of one column, or of `ROWS`: of held-out rows, samples and training rows."""

    name: str
    data: Tail
    samples: Tail
    training: Tail


def hill(values: ArrayLike) -> Tail | None:
    """The tail of non-negative `values` `(n,)`, from the largest `2√n` of them; None where fewer than two are positive."""
    x = np.sort(np.asarray(values, dtype=np.float64))[::-1]
    k = min(math.isqrt(4 * len(x)), int((x > 0).sum()) - 1)
    if k < 1:
        return None
    mean = float(np.log(x[:k] / x[k]).mean())
    if mean == 0:
        return Tail(math.inf, math.inf, math.inf)
    ends = stats.chi2.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], 2 * k) / (2 * k)
    return Tail(1 / mean, *(float(end) / mean for end in ends))


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
    found = []
    for name, parts in columns.items():
        tails = [hill(part) for part in parts]
        known = [tail for tail in tails if tail is not None]
        if len(known) == len(tails):
            found.append(Contrast(name, *known))
    return found
