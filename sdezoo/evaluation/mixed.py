"""Rows of a table with categories and missing values, as vectors that can be compared.

Numbers are divided by the standard deviation of the training rows. A category is a corner of a simplex, at distance 1 from every other,
and a missing number is the mean with a mark beside it, at distance 1 from a known one (Gower's idea, Biometrics 27, 1971). A table of
numbers without missing values is only divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdezoo.evaluation.rows import FloatArray


@dataclass(frozen=True, eq=False)
class Mixed:
    """How rows of a table are compared.

    Args:
        units: standard deviation of each column in the training rows, 1 for a constant one, `(d,)`.
        means: mean of each column, `(d,)`.
        values: the categories of the columns that hold some, by column.
        gaps: columns of numbers with missing values.
    """

    units: FloatArray
    means: FloatArray
    values: dict[int, FloatArray]
    gaps: Sequence[int]

    @classmethod
    def fit(cls, training: FloatArray, others: Sequence[FloatArray] = (), categories: Sequence[int] = ()) -> Mixed:
        """Measure training rows.

        Args:
            training: all training rows, `(N, d)`, NaN where a value is missing.
            others: further rows that will be compared; they may have other categories, and missing values.
            categories: columns that hold categories.
        """
        every = [training, *others]
        missing = np.any([np.isnan(rows).any(axis=0) for rows in every], axis=0)
        means, spread = np.zeros(training.shape[1]), np.std(training, axis=0)
        for i in np.flatnonzero(missing):
            known = training[~np.isnan(training[:, i]), i]
            means[i], spread[i] = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
        values = {i: np.unique(np.concatenate([_codes(rows[:, i]) for rows in every])) for i in categories}
        gaps = [int(i) for i in np.flatnonzero(missing) if i not in values]
        return cls(np.where(spread > 0, spread, 1.0), means, values, gaps)

    @property
    def plain(self) -> bool:
        """Whether rows are numbers without missing values."""
        return not self.values and not self.gaps

    @property
    def numbers(self) -> list[int]:
        """The columns of numbers."""
        return [i for i in range(len(self.units)) if i not in self.values]

    def vectors(self, rows: FloatArray) -> FloatArray:
        """Convert rows to vectors.

        Args:
            rows: `(n, d)`.

        Returns:
            `(n, D)`: numbers, then marks of missing ones, then categories.
        """
        scaled = self.filled(rows) / self.units
        if self.plain:
            return scaled
        marks = np.isnan(rows[:, self.gaps]).astype(np.float64)
        corners = [(_codes(rows[:, i])[:, None] == values).astype(np.float64) / np.sqrt(2) for i, values in self.values.items()]
        return np.concatenate([scaled[:, self.numbers], marks, *corners], axis=1)

    def filled(self, rows: FloatArray) -> FloatArray:
        """Put the mean where a value is missing.

        Args:
            rows: `(n, d)`.
        """
        return np.where(np.isnan(rows), self.means, rows) if not self.plain else rows

    def classes(self, rows: FloatArray) -> FloatArray:
        """The categories, and whether numbers are missing, as codes: `(n, k)`.

        Args:
            rows: `(n, d)`.
        """
        marks = np.isnan(rows[:, self.gaps]).astype(np.float64)
        return np.concatenate([marks, *(_codes(rows[:, i])[:, None] for i in self.values)], axis=1)

    def class_names(self, names: Sequence[str]) -> list[str]:
        """The names of the columns of `classes`.

        Args:
            names: names of the columns.
        """
        return [*(f"{names[i]} is missing" for i in self.gaps), *(names[i] for i in self.values)]


def total_variation(reference: FloatArray, samples: FloatArray) -> FloatArray:
    """Return the total variation distance of each column, `½ Σ_v |p(v) − q(v)|`, `(k,)`.

    Args:
        reference: codes `(n, k)`.
        samples: codes `(m, k)`.
    """
    found = []
    for a, b in zip(reference.T, samples.T, strict=True):
        values = np.union1d(a, b)
        shares = [np.bincount(np.searchsorted(values, column), minlength=len(values)) / max(len(column), 1) for column in (a, b)]
        found.append(0.5 * np.abs(shares[0] - shares[1]).sum())
    return np.array(found)


def _codes(column: FloatArray) -> FloatArray:
    """A missing category is one of its own, −1."""
    return np.where(np.isnan(column), -1.0, column)
