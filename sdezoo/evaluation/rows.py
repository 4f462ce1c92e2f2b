"""Rows: what every measure compares.

A measure takes two sets of rows, first the reference (held-out data), then the samples: arrays `(n, d)` and `(m, d)` in whatever
units they are to be compared in. It computes in float64, and draws random numbers from a stream that (seed, purpose) keys.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sdezoo.errors import DataError
from sdezoo.process.noise import mix

FloatArray = NDArray[np.float64]
"""Rows `(n, d)`, or a statistic of them."""

CHUNK = 2**22
"""Numbers that a block of a distance or kernel matrix holds at most: 32 MiB."""


def flat(x: Tensor) -> FloatArray:
    """The events of `x` `(n, *event)` as rows `(n, d)`, float64 on the CPU."""
    return x.detach().cpu().double().reshape(len(x), -1).numpy()


def paired(reference: ArrayLike, samples: ArrayLike, least: int = 2) -> tuple[FloatArray, FloatArray]:
    """Both sets of rows as float64.

    Raises:
        DataError: where they are no rows of one length, where either has fewer than `least`, or a value is not finite.
    """
    pair = tuple(np.asarray(rows, dtype=np.float64) for rows in (reference, samples))
    shapes = " and ".join(str(rows.shape) for rows in pair)
    if any(rows.ndim != 2 for rows in pair) or pair[0].shape[1] != pair[1].shape[1] or not pair[0].shape[1]:
        raise DataError(f"Rows of shape {shapes} cannot be compared.", "Give two arrays (n, d) and (m, d).")
    if min(map(len, pair)) < least:
        raise DataError(f"Rows of shape {shapes} are too few to be compared.", f"Give {least} of each at least.")
    if not all(np.isfinite(rows).all() for rows in pair):
        raise DataError("Rows with values that are not finite cannot be compared.", "Remove them.")
    return pair[0], pair[1]


def stream(*key: int) -> np.random.Generator:
    """A generator that depends on nothing but `key`."""
    return np.random.default_rng(mix(*key))


def choice(count: int, most: int, *key: int) -> NDArray[Any]:
    """`most` of the indices below `count`, chosen at random and in order; all of them where there are no more."""
    if count <= most:
        return np.arange(count)
    return np.sort(stream(*key).permutation(count)[:most])
