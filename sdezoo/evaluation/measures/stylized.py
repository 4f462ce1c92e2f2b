"""Stylized facts of returns: what price series have in common (Cont, Quant. Finance 1 (2001), 223–236).

With `r` the returns of windows, centred by their mean over all windows:

- *tail exponent*: Hill's estimator from the largest 5 % of `|r|`; about 3 for daily returns of indices;
- *autocorrelation of returns*, at lag 1: near 0;
- *autocorrelation of absolute returns*, mean over lags 1 to 10: positive, since quiet and wild times cluster;
- *leverage*, the correlation of `r_t` and `r²_{t+l}`, mean over `l` from 1 to 10: negative, since falls are followed by wild times.

Products are averaged over pairs within windows. Intervals are those of a bootstrap of windows. If windows overlap, blocks of as many
windows as share an observation are resampled (Künsch, Ann. Statist. 17 (1989)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sdezoo.evaluation.resampling import LEVEL, bootstrap
from sdezoo.evaluation.rows import FloatArray, stream

_TAIL = 0.05
_LAGS = 10
_RESAMPLES = 200
_BLOCKS = 7  # stream of the resampled blocks
SHORTEST = 3
"""Smallest number of returns in a window."""


class Fact(NamedTuple):
    """A stylized fact of one set of windows, with the ends of its interval; NaN if returns are constant."""

    name: str
    """What it is."""
    value: float
    """Its value."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


def returns(windows: FloatArray, *, relative: bool) -> FloatArray:
    """Compute the returns of windows.

    Args:
        windows: `(n, T, d)`; positive if `relative`.
        relative: whether returns are differences of logarithms, else of values.

    Returns:
        Returns `(n, T − 1, d)`, float64.
    """
    values = np.asarray(windows, np.float64)
    return np.diff(np.log(values) if relative else values, axis=1)


def variance(r: FloatArray, *, seed: int = 0) -> Fact:
    """Measure the variance of increments.

    Args:
        r: increments of paths, `(n, L)`.
        seed: random seed of the resampling.
    """
    ((low, high),) = bootstrap(np.var, (r,), resamples=_RESAMPLES, seed=seed)
    return Fact("variance of increments", float(r.var()), float(low), float(high))


def stylized_facts(r: FloatArray, *, overlap: int = 1, seed: int = 0) -> list[Fact]:
    """Measure the stylized facts.

    Args:
        r: returns of windows in order of time, `(n, L)`, with `L` at least `SHORTEST`.
        overlap: number of consecutive windows that share an observation.
        seed: random seed of the resampling.
    """
    n, length = r.shape
    lags = range(1, min(_LAGS, length // 2) + 1)
    a = r - r.mean()
    size = np.abs(a) - np.abs(a).mean()
    square = a**2 - (a**2).mean()
    pairs = [_products(a, a, [1]), _products(size, size, lags), _products(a, square, lags)]
    scales = [np.stack([(x**2).mean(1) for x in pair]) for pair in ((a, a), (size, size), (a, square))]
    order = np.argsort(-np.abs(a), axis=None)
    largest, owner = np.abs(a).ravel()[order], order // length

    def measure(weights: FloatArray) -> list[float]:
        correlations = [
            float((weights @ found.T / n).mean() / max(np.sqrt(np.prod(scale @ weights / n)), 1e-300))
            for found, scale in zip(pairs, scales, strict=True)
        ]
        return [_hill(largest, weights[owner]), *correlations]

    if not a.any():
        drawn = np.full((1, 4), np.nan)
        value = drawn[0].tolist()
    else:
        value = measure(np.ones(n))
        drawn = np.array([measure(weights) for weights in _weights(n, max(1, min(overlap, n)), seed)])
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0, method="inverted_cdf")
    several = f"lags 1 to {lags[-1]}"
    names = ("tail exponent of returns", "autocorrelation of returns, lag 1", f"autocorrelation of |returns|, {several}")
    names = (*names, f"leverage, {several}")
    return [Fact(name, *map(float, each)) for name, *each in zip(names, value, low, high, strict=True)]


def _products(a: FloatArray, b: FloatArray, lags: Sequence[int]) -> FloatArray:
    """Mean of `a_t b_{t+l}` in each window, `(lags, n)`."""
    return np.stack([(a[:, : a.shape[1] - lag] * b[:, lag:]).mean(1) for lag in lags])


def _hill(largest: FloatArray, weights: FloatArray) -> float:
    """Hill's estimator of weighted values in decreasing order, from the largest 5 % of the weight."""
    total = np.cumsum(weights)
    k = int(np.searchsorted(total, _TAIL * total[-1])) + 1
    threshold = largest[min(k, len(largest) - 1)]
    if threshold <= 0:
        return float("nan")
    excess = np.log(largest[:k] / threshold)
    mean = float((weights[:k] * excess).sum() / weights[:k].sum())
    return 1 / mean if mean > 0 else math.inf  # the largest are equal


def _weights(n: int, block: int, seed: int) -> FloatArray:
    """How often each window occurs in resamples of blocks, on a circle, `(resamples, n)`."""
    rng = stream(seed, _BLOCKS)
    found = np.zeros((_RESAMPLES, n))
    for k in range(_RESAMPLES):
        starts = rng.integers(n, size=-(-n // block))
        places = (starts[:, None] + np.arange(block)).ravel()[:n] % n
        found[k] = np.bincount(places, minlength=n)
    return found
