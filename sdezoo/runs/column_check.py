"""The last look at a model of a table: samples beside real rows, column by column.

A network may fail on one column and be right on all others, and no loss tells. So samples of the trained model are compared with real
rows, which are the held-out ones if there are 100 of them, else all. A column is named if either test rejects at the 1 % level of all
columns together (Bonferroni):

- Kolmogorov and Smirnov's, of the whole distribution;
- Brown and Forsythe's (Levene's about the median), of the spread, if that is also more than a tenth off. Of positive columns it compares
  logarithms, which heavy tails do not disturb.

Of categories, and of missing values, the shares are compared, by Pearson's χ² test; categories of fewer than five expected rows count
as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from sdezoo.data.dataset import Data
from sdezoo.data.validation import column_name
from sdezoo.errors import shortened
from sdezoo.evaluation.comparison import copied
from sdezoo.evaluation.measures.columns import kolmogorov_smirnov
from sdezoo.generation.samples import choose_sampler, generate, steps_for
from sdezoo.store.restoring import restore

_LEVEL, _TOLERANCE = 0.01, 0.1
_ENOUGH, _FEWEST, _MOST = 100, 200, 1000
_KNOWN, _EXPECTED = 2, 5
_BATCH = 500


@dataclass(frozen=True)
class ColumnGap:
    """A column whose samples are not distributed as its real values.

    Args:
        name: of the column, or its number.
        spread: standard deviation of the samples over that of the real values, of logarithms if all are positive; None for categories.
        statistic: Kolmogorov and Smirnov's; the total variation distance for categories.
    """

    name: str
    spread: float | None
    statistic: float

    def __str__(self) -> str:
        if self.spread is None:
            return f"{self.name} (total variation distance {self.statistic:.2f})"
        return f"{self.name} (spread {self.spread:.2f} times that of the data, Kolmogorov–Smirnov {self.statistic:.2f})"


@dataclass(frozen=True)
class LastLook:
    """What samples of the trained model show.

    Args:
        gaps: columns that are not distributed as the data.
        copies: by which figures the samples repeat training rows; empty if they do not.
    """

    gaps: Sequence[ColumnGap]
    copies: Sequence[str]

    @property
    def note(self) -> str | None:
        """The sentences for the user; None if all is well."""
        found = [_note(self.gaps)] if self.gaps else []
        if self.copies:
            found.append(
                f"The samples repeat training rows, by {', '.join(self.copies)}. "
                "Train with fewer --steps or leave them to the data, and do not call the samples private."
            )
        return " ".join(found) or None

    @property
    def record(self) -> dict[str, Any]:
        """As in a line of `metrics.jsonl`: columns by name, and the figures; empty if all is well."""
        columns = {gap.name.strip("'"): _figures(gap) for gap in self.gaps}
        return ({"columns": columns} if columns else {}) | ({"copies": list(self.copies)} if self.copies else {})


def last_look(run: Path, data: Data, device: torch.device, seed: int) -> LastLook:
    """Sample from the newest checkpoint and compare the samples with real rows.

    Args:
        run: the run folder.
        data: what it was trained on, a table.
        device: where to compute.
        seed: of the samples.

    Raises:
        SdezooError: if no samples can be made.
    """
    trained = restore(run)
    real = data.test if len(data.test) >= _ENOUGH else torch.cat([data.train, data.test])
    count = min(_MOST, max(_FEWEST, len(real)))
    sampler, categories = choose_sampler(trained, None), trained.encoding.categories

    def drawn(key: int) -> Tensor:
        return generate(trained, sampler, count, steps=steps_for(trained, sampler), seed=key, batch_size=_BATCH, device=device).x

    made = drawn(seed)
    copies = copied(data.train, data.test, made, seed, categories) if len(data.test) else []
    if copies:
        # What is by chance is not found twice.
        again = copied(data.train, data.test, drawn(seed + 1), seed, categories)
        copies = [name for name in copies if name in again]
    return LastLook(column_gaps(real, made, data.columns, categories), copies)


def column_gaps(real: Tensor, samples: Tensor, names: Sequence[str] = (), categories: Sequence[int] = ()) -> list[ColumnGap]:
    """The columns whose samples are not distributed as real values, by either test.

    Args:
        real: `(n, d)`; NaN: missing.
        samples: `(m, d)`; NaN: missing.
        names: of the columns.
        categories: the columns that hold categories.
    """
    a, b = (rows.double().cpu().numpy() for rows in (real, samples))
    level = _LEVEL / a.shape[1]
    gaps = []
    for i in range(a.shape[1]):
        name, known, drawn = column_name(i, names), a[~np.isnan(a[:, i]), i], b[~np.isnan(b[:, i]), i]
        if i in categories or min(len(known), len(drawn)) < _KNOWN:
            gaps += _shares_apart(name, a[:, i], b[:, i], level)
            continue
        whole = kolmogorov_smirnov(known[:, None], drawn[:, None])
        spread, p = _spread(known, drawn)
        if whole.p[0] < level or (p < level and abs(spread - 1) > _TOLERANCE):
            gaps.append(ColumnGap(name, spread, float(whole.statistic[0])))
        elif len(known) < len(a) or len(drawn) < len(b):
            gaps += _shares_apart(name, np.where(np.isnan(a[:, i]), np.nan, 0), np.where(np.isnan(b[:, i]), np.nan, 0), level)
    return gaps


def _shares_apart(name: str, a: np.ndarray, b: np.ndarray, level: float) -> list[ColumnGap]:
    """The gap between the shares of categories, where NaN is one; none if the test does not reject."""
    values = np.unique(np.concatenate([a, b]))
    counts = np.array([[np.isnan(column).sum() if np.isnan(value) else (column == value).sum() for value in values] for column in (a, b)])
    apart = 0.5 * float(np.abs(counts[0] / len(a) - counts[1] / len(b)).sum())
    rare = counts.sum(0) * min(len(a), len(b)) < _EXPECTED * (len(a) + len(b))
    table = np.concatenate([counts[:, ~rare], counts[:, rare].sum(1, keepdims=True)], axis=1) if rare.any() else counts
    table = table[:, table.sum(0) > 0]
    if table.shape[1] < 2 or _p_value(table) >= level:
        return []
    return [ColumnGap(name, None, apart)]


def _p_value(table: np.ndarray) -> float:
    found: Any = stats.chi2_contingency(table, correction=False)
    return float(found.pvalue)


def _figures(gap: ColumnGap) -> dict[str, float]:
    if gap.spread is None:
        return {"apart": round(gap.statistic, 4)}
    return {"spread": round(gap.spread, 4), "ks": round(gap.statistic, 4)}


def _note(gaps: Sequence[ColumnGap]) -> str:
    named = shortened(map(str, gaps), separator="; ")
    one = len(gaps) == 1
    return (
        f"The samples of {'a column are' if one else f'{len(gaps)} columns are'} not distributed as the data: {named}. "
        f"Train longer (--steps), or choose a process that fits {'it' if one else 'them'} (--sde), and look at `sdezoo evaluate`."
    )


def _spread(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The ratio of spreads, and the p-value of equal ones; of logarithms if all values are positive."""
    if min(a.min(), b.min()) > 0:
        a, b = np.log(a), np.log(b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        same = np.ptp(a) == np.ptp(b) == 0 and a[0] == b[0]
        return (1.0, 1.0) if same else (float(np.ptp(b) > 0), 0.0)
    return float(b.std() / a.std()), float(stats.levene(a, b, center="median").pvalue)
