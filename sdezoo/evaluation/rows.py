"""Rows: the input of every measure.

A measure takes two sets of rows, first the reference (held-out data), then the samples: arrays `(n, d)` and `(m, d)` in the same
units. It computes in float64 and draws random numbers from a stream keyed by (seed, purpose).
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
"""Maximum number of entries in a block of a distance or kernel matrix: 32 MiB."""


def flat(x: Tensor) -> FloatArray:
    """Return the events of `x` `(n, *event)` as rows `(n, d)`, float64 on the CPU."""
    return x.detach().cpu().double().reshape(len(x), -1).numpy()


def paired(reference: ArrayLike, samples: ArrayLike, least: int = 2) -> tuple[FloatArray, FloatArray]:
    """Check two sets of rows and convert them to float64.

    Args:
        reference: `(n, d)`.
        samples: `(m, d)`.
        least: minimum number of rows of each.

    Raises:
        DataError: if the rows are not of one length, either set has fewer than `least` rows, or a value is not finite.
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
    """Return a random generator that depends on `key` alone."""
    return np.random.default_rng(mix(*key))


def choice(count: int, most: int, *key: int) -> NDArray[Any]:
    """Return a sorted random subset of row indices.

    Args:
        count: number of rows; the indices are below it.
        most: size of the subset; all indices if there are no more.
        key: of the random generator, see `stream`.
    """
    if count <= most:
        return np.arange(count)
    return np.sort(stream(*key).permutation(count)[:most])
