"""Privacy of samples: whether they repeat training rows.

*Distance to the closest training row* and the *ratio* of that distance to the second closest measure how near samples are. Both are
compared with those of new rows, against the same training rows. If 100 rows or more are held out, these are the new rows. If fewer
are, training rows stand in for them, by cross-fitting: row `t_i` leaves the training rows and a held-out row `h` takes its place::

    d(t_i) = min(min_{j ≠ i} ‖t_i − t_j‖, ‖t_i − h‖)

For rows of one distribution, this has exactly the distribution of the distance of a new row to as many training rows. Two training
rows that are each other's nearest share their distance, so such rows count half in every interval.

*Membership inference* is the attack of someone who has the samples and asks whether a given row was trained on: the nearer the closest
sample, the more likely the row is a member (Hayes et al., arXiv 1705.07663; Chen et al., arXiv 1909.03935, section 4). Members are
training rows, the others held-out rows. The area under the ROC curve (AUC) is the probability that a member is nearer to the samples
than another row, ties counted half: 0.5 if the samples reveal nothing, 1 if they reveal every member.

Warnings follow from ratios, copies and membership, and never from distances alone: samples that crowd in the middle of the data, as
those of an undertrained model may, are near to training rows and repeat none. Where values are rounded, such samples equal training rows
more often than new rows do, and held-out rows too. So ratios and copies count only if samples repeat training rows rather than held-out
rows: of all real rows that are repeated, more are training rows than a random choice would have (Fisher's exact test). This test has its
level for any distribution of samples. It is left out for exact copies if no new row is one, and if fewer than 100 rows are held out and so
few are repeated that it could not reject.

Distances are rounded to 1e-9, so that equal distances of rounded data are ties.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from scipy.optimize import root_scalar
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors

from sdezoo.evaluation.resampling import LEVEL
from sdezoo.evaluation.rows import FloatArray, choice, paired, stream
from sdezoo.evaluation.suite import Measured

GROUP = "privacy"
"""Heading of the privacy figures in the table."""

FEW = 100
"""Number of held-out rows below which training rows stand in for new ones."""

MOST = 1000
"""Maximum number of rows of each kind to compute distances for; of more, a random subset. The search covers all training rows."""

NEAR = 1 / 3
"""A near copy is closer to its closest training row than this fraction of the distance to the second closest."""

ALARM = 0.99
"""Level of the intervals and tests that warnings are based on."""

Interval = tuple[float, float]

_MEMBERS, _NEW, _HELD, _FLOOR = range(4)
_DIGITS = 9

_MEANING = {
    "distance to training rows, over held-out": "median distance to the closest training row, divided by that of new rows: 1 if samples "
    "are as far as those, 0 if half are copies. Samples that crowd in the middle of the data are below 1 too.",
    "5th percentile of it, over held-out": "the same for the nearest samples: a median does not detect a few copies.",
    "nearest-neighbour distance ratio": "median ratio of the distances to the closest and the second closest training row: below that of "
    "real rows if samples sit at single training rows.",
    "exact copies": "share of samples that equal a training row in every column. New rows do too if values are rounded.",
    "near copies": "share of samples that are less than a third as far from the closest training row as from the second closest.",
    "membership inference, AUC": "how often a training row is nearer to the samples than a held-out row: 0.5 if samples do not reveal "
    "which rows were trained on, 1 if they reveal all.",
}


class Records(NamedTuple):
    """Rows `(·, d)`, scaled so that Euclidean distances are meaningful."""

    training: FloatArray
    """All training rows."""
    held_out: FloatArray
    """All held-out rows."""
    samples: FloatArray
    """Samples."""


class Closest(NamedTuple):
    """Distances of rows to the two closest training rows."""

    first: FloatArray
    """Distance to the closest, `(n,)`."""
    second: FloatArray
    """Distance to the second closest, `(n,)`."""

    @property
    def ratio(self) -> FloatArray:
        """`first / second`, `(n,)`; 1 if both are 0, as for a copy of a repeated training row."""
        return np.divide(self.first, self.second, out=np.ones_like(self.first), where=self.second > 0)

    @property
    def exact(self) -> NDArray[np.bool_]:
        """Which rows are exact copies, `(n,)`."""
        return self.first == 0

    @property
    def near(self) -> NDArray[np.bool_]:
        """Which rows are near copies, `(n,)`."""
        return self.ratio < NEAR


class Privacy(NamedTuple):
    """The privacy figures of samples."""

    measured: list[Measured]
    """Lines of the table."""
    notes: list[str]
    """Notes below the table."""
    alarms: list[str]
    """Names of the figures by which samples repeat training rows."""
    distances: tuple[FloatArray, FloatArray]
    """Distances to the closest training row, of new rows and of samples, `(n,)` each."""


def privacy(records: Records, *, seed: int = 0) -> Privacy:
    """Compute all privacy figures.

    Args:
        records: the rows; at least one held-out row and two training rows.
        seed: random seed of the choices of rows.

    Raises:
        DataError: if rows are too few or not finite.
    """
    for rows in (records.held_out, records.samples):
        paired(records.training, rows, least=1)
    training, held_out = records.training, records.held_out
    with config_context(assume_finite=True, skip_parameter_validation=True):  # the rows are checked
        samples = closest(records.samples[choice(len(records.samples), MOST, seed, _HELD)], training)
        new, weight = _new_rows(records, seed)
        parts = [_distance_ratios(new, samples, weight, seed), _shares(new, samples, weight, records), _membership(records, seed)]
    measured = [line for lines, _, _ in parts for line in lines]
    notes = [note for _, left_out, _ in parts for note in left_out]
    notes += [f"Privacy: {len(samples.first)} samples, {len(training)} training rows, {len(held_out)} held-out rows."]
    if weight < 1:
        notes.append(
            f"With fewer than {FEW} held-out rows, training rows stand in for them in turn, each with a held-out row in its place "
            f"({len(new.first)} rows). Only membership inference needs rows that were never trained on: few of them make its interval wide."
        )
    notes += [f"  {line.name}: {_MEANING[line.name]}" for line in measured]
    found = [name for _, _, alarms in parts for name in alarms]
    if found:
        notes.append(
            f"Warning: samples repeat training rows, by {', '.join(found)}. Train with fewer --steps, or do not call them private."
        )
    return Privacy(measured, notes, found, (new.first, samples.first))


def closest(rows: FloatArray, training: FloatArray, own: NDArray[np.intp] | None = None) -> Closest:
    """Return the distances of rows to the two closest training rows.

    Args:
        rows: `(n, d)`.
        training: `(m, d)`.
        own: `(n,)`, if `rows` are training rows: the index of each, which is left out.
    """
    count = 2 if own is None else 3
    index = NearestNeighbors(n_neighbors=count).fit(training).kneighbors(rows, return_distance=False)
    # The search may round; these distances are exact for equal rows.
    found = np.stack([np.linalg.norm(rows - training[index[:, k]], axis=1) for k in range(count)], 1)
    if own is not None:
        found[index == own[:, None]] = np.inf  # of more than three equal rows, none need be the row itself
    found = np.sort(np.round(found, _DIGITS), 1).astype(np.float64)
    return Closest(found[:, 0], found[:, 1])


def quantile_interval(values: FloatArray, q: float, *, weight: float = 1.0, level: float = LEVEL) -> Interval:
    """Return the interval of a quantile, by order statistics: exact for independent values of any distribution, ties included.

    Args:
        values: `(n,)`.
        q: level of the quantile, in (0, 1).
        weight: how much a value counts; below 1 if values are not independent.
        level: confidence level.

    Returns:
        The two ends; −∞ or ∞ if there are too few values for one.
    """
    size = max(1, int(weight * len(values)))
    low, high = _ranks(size, q, level)
    ordered = np.sort(values)
    first, last = math.floor(low / size * len(values)) - 1, math.ceil((high + 1) / size * len(values)) - 1
    return (float(ordered[first]) if first >= 0 else -math.inf, float(ordered[last]) if last < len(values) else math.inf)


@lru_cache(maxsize=256)
def _ranks(size: int, q: float, level: float) -> Interval:
    """The interval of the number of values, of `size`, below their quantile `q`."""
    low, high = stats.binom.ppf([(1 - level) / 2, (1 + level) / 2], size, q)
    return float(low), float(high)


def ratio_interval(over: FloatArray, under: FloatArray, q: float, *, weight: float = 1.0, level: float = LEVEL) -> Interval | None:
    """Return the interval of a ratio of two quantiles of distances, from the interval of each, on a log scale.

    Zou & Donner, Stat. Med. 27 (2008). If an end is 0, the ends are divided instead, which is wider.

    Args:
        over: distances in the numerator, `(n,)`.
        under: distances in the denominator, `(m,)`.
        q: level of the quantiles, in (0, 1).
        weight: how much a value of `under` counts.
        level: confidence level.

    Returns:
        The two ends; None if there are too few values, or the quantile of `under` may be 0.
    """
    (low, high), (least, most) = quantile_interval(over, q, level=level), quantile_interval(under, q, weight=weight, level=level)
    a, b = float(np.quantile(over, q)), float(np.quantile(under, q))
    if least <= 0 or not math.isfinite(low + high + most):
        return None
    if low == 0 or a == 0:
        return low / most, high / least
    middle = math.log(a / b)
    below, above = math.hypot(math.log(a / low), math.log(most / b)), math.hypot(math.log(high / a), math.log(b / least))
    return math.exp(middle - below), math.exp(middle + above)


def area(members: FloatArray, others: FloatArray) -> float:
    """Return the probability that a member's distance is less than another's, ties counted half: Mann & Whitney's.

    Args:
        members: distances of members, `(n,)`.
        others: distances of the others, `(m,)`.
    """
    ranks = stats.rankdata(np.concatenate([members, others]))
    size = len(members)
    above = float(ranks[:size].sum()) - size * (size + 1) / 2
    return 1 - above / (size * len(others))


def area_interval(value: float, members: int, others: int, *, level: float = LEVEL) -> Interval:
    """Return the interval of an AUC: `(A − θ)² = z² V(θ)`, solved for `θ`.

    Newcombe, Stat. Med. 25 (2006), part 2, method 5. At `θ = ½` the variance is that of Mann & Whitney's test without ties, so ½ is
    outside as often as that test rejects; with ties, less often.

    Args:
        value: the AUC `A`.
        members: number of members.
        others: number of the others.
        level: confidence level.
    """
    z, size = float(stats.norm.ppf((1 + level) / 2)), (members + others) / 2 - 1

    def gap(theta: float, value: float) -> float:
        pairs = 1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return value - theta - z * math.sqrt(theta * (1 - theta) * pairs / (members * others))

    def lower(value: float) -> float:
        # At 1 the variance is 0, so 1 solves the equation as well as the end of the interval does.
        return float(root_scalar(gap, args=(value,), bracket=(0.0, min(value, 1 - 1e-12))).root) if value > 0 else 0.0

    return lower(value), 1 - lower(1 - value)


_Part = tuple[list[Measured], list[str], list[str]]
"""Lines, notes on what is left out, and the names of the figures that raise an alarm."""


def _new_rows(records: Records, seed: int) -> tuple[Closest, float]:
    """Return the distances of new rows to as many training rows as there are, and how much each counts."""
    training, held_out = records.training, records.held_out
    fresh = closest(held_out[choice(len(held_out), MOST, seed, _HELD)], training)
    if len(held_out) >= FEW:
        return fresh, 1.0
    own = choice(len(training), MOST - len(held_out), seed, _NEW)
    others = closest(training[own], training, own)
    guest = np.round(np.linalg.norm(training[own] - held_out[np.arange(len(own)) % len(held_out)], axis=1), _DIGITS)
    found = np.sort(np.stack([*others, guest], 1), 1)
    return Closest(np.append(fresh.first, found[:, 0]), np.append(fresh.second, found[:, 1])), 0.5


def _distance_ratios(new: Closest, samples: Closest, weight: float, seed: int) -> _Part:
    shuffled = stream(seed, _FLOOR).permutation(new.first)
    lines, notes = [], []
    for name, q in (("distance to training rows, over held-out", 0.5), ("5th percentile of it, over held-out", 0.05)):
        low, high = quantile_interval(new.first, q, weight=weight)
        values = [float(np.quantile(rows, q)) for rows in (samples.first, new.first, shuffled[::2], shuffled[1::2])]
        if not min(values[1:]):
            share = "Half" if q == 0.5 else "Some 5 %"
            notes.append(f"{share} of the held-out rows are training rows, so the ratio of distances is left out at that quantile.")
        elif not math.isfinite(low + high + sum(quantile_interval(samples.first, q))):
            notes.append("The 5th percentile of distances is left out: it has no interval from so few rows.")
        else:
            interval = ratio_interval(samples.first, new.first, q, weight=weight)
            lines.append(Measured(GROUP, name, values[0] / values[1], interval, "exact", values[2] / values[3], 1.0))
    return lines, notes, []


def _shares(new: Closest, samples: Closest, weight: float, records: Records) -> _Part:
    real, name = float(np.median(new.ratio)), "nearest-neighbour distance ratio"
    interval = quantile_interval(samples.ratio, 0.5)
    lines = [Measured(GROUP, name, float(np.median(samples.ratio)), interval, "exact", real, real)]
    strict = ratio_interval(samples.ratio, new.ratio, 0.5, weight=weight, level=ALARM)
    alarms = [name] if strict is not None and strict[1] < 1 else []
    for name, drawn, held in (("exact copies", samples.exact, new.exact), ("near copies", samples.near, new.near)):
        interval = share_interval(int(drawn.sum()), len(drawn))
        share = float(held.mean())
        lines.append(Measured(GROUP, name, float(drawn.mean()), interval, "exact", share, share))
        alarms += [name] if _more(int(drawn.sum()), len(drawn), math.ceil(weight * int(held.sum())), int(weight * len(held))) else []
    certain = [name for name in alarms if name == "exact copies" and not new.exact.any()]
    unsure = [name for name in alarms if name not in certain]
    return lines, [], certain + (_of_members(unsure, records) if unsure else [])


def _of_members(alarms: list[str], records: Records) -> list[str]:
    """Return the alarms, without those for which samples repeat held-out rows as often as training rows, by Fisher's exact test."""
    real = np.concatenate([records.training, records.held_out])
    index = NearestNeighbors(n_neighbors=2).fit(real).kneighbors(records.samples, return_distance=False)
    near = np.stack([np.linalg.norm(records.samples - real[index[:, k]], axis=1) for k in range(2)], 1)
    order = np.argsort(near, 1)
    first, second = np.round(np.take_along_axis(near, order, 1), _DIGITS).T
    ratio = np.divide(first, second, out=np.ones_like(first), where=second > 0)
    row = np.take_along_axis(index, order, 1)[:, 0]
    seen = {sample.tobytes() for sample in np.round(records.samples, _DIGITS) + 0.0}
    repeated = {
        "nearest-neighbour distance ratio": row[ratio <= np.median(ratio)],
        "exact copies": [i for i, each in enumerate(np.round(real, _DIGITS) + 0.0) if each.tobytes() in seen],
        "near copies": row[ratio < NEAR],
    }
    members, found = len(records.training), []
    for name in alarms:
        rows = np.unique(repeated[name])
        value, least = (stats.hypergeom.sf(k - 1, len(real), members, len(rows)) for k in ((rows < members).sum(), min(len(rows), members)))
        found += [name] if value < 1 - ALARM or (len(records.held_out) < FEW and least >= 1 - ALARM) else []
    return found


def share_interval(found: int, size: int, *, level: float = LEVEL) -> Interval:
    """Return the exact interval of a share (Clopper & Pearson, Biometrika 26, 1934).

    Args:
        found: number of rows that have it.
        size: number of rows, at least 1.
        level: confidence level.
    """
    low = special.betaincinv(found, size - found + 1, (1 - level) / 2) if found else 0.0
    high = special.betaincinv(found + 1, size - found, (1 + level) / 2) if found < size else 1.0
    return float(low), float(high)


def _more(drawn: int, of_drawn: int, held: int, of_held: int) -> bool:
    """Return whether copies are more frequent among samples than among new rows, by Fisher's exact test."""
    return bool(stats.hypergeom.sf(drawn - 1, of_drawn + of_held, drawn + held, of_drawn) < (1 - ALARM) / 2)


def _membership(records: Records, seed: int) -> _Part:
    search = NearestNeighbors(n_neighbors=1).fit(records.samples)
    distances = []
    for every, key in ((records.training, _MEMBERS), (records.held_out, _HELD)):
        rows = every[choice(len(every), MOST, seed, key)]
        index = search.kneighbors(rows, return_distance=False)[:, 0]
        distances.append(np.round(np.linalg.norm(rows - records.samples[index], axis=1), _DIGITS))
    sizes = len(distances[0]), len(distances[1])
    value, name = area(*distances), "membership inference, AUC"
    line = Measured(GROUP, name, value, area_interval(value, *sizes), "exact", None, 0.5)
    return [line], [], [name] if area_interval(value, *sizes, level=ALARM)[0] > 0.5 else []
