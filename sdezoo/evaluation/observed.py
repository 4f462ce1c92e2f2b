"""The comparison of a learned SDE with held-out paths: its transitions, its paths at times of observation, and their increments.

Transitions are judged on held-out paths alone, see `sdezoo.evaluation.measures.transitions`: each observation against draws of the forecast
from the one before. Whole paths are simulated from first observations of training paths, at the times of these paths, and compared with
held-out ones. Increments are those of the coordinates of the SDE, divided by the root of the time between observations, so that those of a
Brownian motion are normal with its variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sdezoo.evaluation import sheet, suite
from sdezoo.evaluation.comparison import Comparison, EvaluationProgress, in_turn
from sdezoo.evaluation.measures.columns import kolmogorov_smirnov
from sdezoo.evaluation.measures.stylized import SHORTEST, Fact, stylized_facts, variance
from sdezoo.evaluation.measures.transitions import DRAWS, LEVELS, Calibration, calibration
from sdezoo.evaluation.rows import FloatArray
from sdezoo.evaluation.suite import Measured, Sets
from sdezoo.evaluation.table import number

_MOST = 8  # times of observation that the classifier sees

Forecasts = Sequence[Calibration]
"""The calibration of the forecasts of each column."""


class ObservedPaths(NamedTuple):
    """Paths to compare."""

    x: FloatArray
    """Values, `(n, T, d)`, in the user's units."""
    z: FloatArray
    """Coordinates of the SDE, `(n, T, d)`."""
    times: FloatArray
    """Times of each path, `(n, T)`."""

    @property
    def increments(self) -> FloatArray:
        """Increments of the coordinates over the root of time, `(n, T − 1, d)`."""
        return np.diff(self.z, axis=1) / np.sqrt(np.diff(self.times, axis=1))[..., None]


def paths(
    parts: tuple[ObservedPaths, ObservedPaths, ObservedPaths],
    u: FloatArray | None,
    title: str,
    *,
    names: Sequence[str],
    common: bool,
    seed: int,
    progress: EvaluationProgress,
) -> tuple[Comparison, Forecasts]:
    """Compare simulated paths with held-out ones, and judge the transitions.

    Args:
        parts: held-out, simulated and training paths, `n` each.
        u: transforms of transitions of held-out paths, `(m, T − 1, d)`, see `transforms`; None: the paths are no Markov chain in the model,
            and transitions are not judged.
        title: title of the picture.
        names: names of the columns; may be empty.
        common: whether all paths have the same times.
        seed: random seed of the measures.
        progress: called during the computation.

    Returns:
        The comparison, and the calibration of each column, of none without `u`.
    """
    held_out, drawn, training = parts
    names = list(names) or [f"x{i}" for i in range(held_out.x.shape[2])]
    endings = [f" ({name})" if len(names) > 1 else "" for name in names]
    forecasts = [] if u is None else [calibration(u[..., i], seed=seed) for i in range(len(names))]
    unit = training.x.std((0, 1))
    unit = np.where(unit > 0, unit, 1.0)
    last = held_out.x.shape[1] - 1
    chosen = sorted({max(1, round(last * share)) for share in (0.25, 0.5, 1)})
    places = [f"time {held_out.times[0, k]:.4g}" if common else f"observation {k + 1}" for k in chosen]
    seen = sorted({round(k) for k in np.linspace(1, last, min(last, _MOST))})
    measured = [replace(line, name=line.name + ending) for f, ending in zip(forecasts, endings, strict=False) for line in _lines(f)]
    facts: list[tuple[Fact, Fact, Fact]] = []

    def at(place: str, k: int) -> list[Measured]:
        return suite.transport(f"paths at {place}", Sets(*(part.x[:, k] / unit for part in parts)), seed=seed)

    def increments() -> list[Measured]:
        for i, ending in enumerate(endings):
            each = [_facts(part.increments[..., i], seed) for part in parts]
            facts.extend(zip(*([_named(fact, ending) for fact in part] for part in each), strict=True))
        return suite.facts("increments", facts)

    whole = Sets(*((part.x[:, seen] / unit).reshape(len(part.x), -1) for part in parts))
    measures = [lambda place=place, k=k: at(place, k) for place, k in zip(places, chosen, strict=True)]
    measured += in_turn([*measures, lambda: suite.distances("whole paths, in standard deviations", whole, seed=seed), increments], progress)
    tests = []
    for place, k in zip(places, chosen, strict=True):
        found = kolmogorov_smirnov(held_out.x[:, k], drawn.x[:, k]).p.tolist()
        tests += [(f"{name} at {place}", p) for name, p in zip(names, found, strict=True)]
    notes = [
        f"One step ahead, {name}: KS distance of the probability integral transform from uniform {number(f.statistic)}, p {f.p:.1e}."
        for name, f in zip(names, forecasts, strict=False)
    ]
    record: dict[str, Any] = {}
    if u is not None:
        notes.append(f"{u.shape[0] * u.shape[1]} transitions of {u.shape[0]} paths are judged, each against {DRAWS} draws of its forecast.")
        record = {"transitions": [{"name": name, **_record(f)} for name, f in zip(names, forecasts, strict=True)]}
    seen_first = None if u is None else u[..., 0]
    picture = sheet.paths(title, names[0], held_out.x[..., 0], drawn.x[..., 0], held_out.times if common else None, seen_first)
    return Comparison(measured, notes, record, picture, tests=tests), forecasts


def verdict_of(forecasts: Forecasts, names: Sequence[str]) -> str:
    """Say in a sentence whether transitions are calibrated: none is rejected at the 1 % level of all columns together.

    Args:
        forecasts: the calibration of each column.
        names: names of the columns; may be empty.
    """
    names = list(names) or [f"x{i}" for i in range(len(forecasts))]
    (half, most), count = np.mean([f.cover for f in forecasts], 0), len(forecasts)
    figures = f"the central 90 % of a forecast cover {number(most)} of held-out observations, and the central 50 % {number(half)}"
    worst = min(range(count), key=lambda i: forecasts[i].p)
    if forecasts[worst].p * count >= suite.SIGNIFICANT:
        return f"One step ahead the model is calibrated: {figures}."
    low, high = forecasts[worst].cover_interval[-1]
    how = "too narrow" if high < LEVELS[-1] else "too wide" if low > LEVELS[-1] else "not of the right shape"
    return f"One step ahead the forecasts of {names[worst]} are {how} (p {forecasts[worst].p:.0e}): {figures}."


def _lines(found: Calibration) -> list[Measured]:
    names = [f"central {100 * level:.0f} % covers" for level in LEVELS] + ["deviation of scores", "correlation of successive scores"]
    figures = zip(
        names,
        [*found.cover, *found.scores],
        [*found.cover_interval, *found.scores_interval],
        [*LEVELS, 1.0, 0.0],
        strict=True,
    )
    return [
        Measured("one step ahead", name, value, (float(low), float(high)), "bootstrap", None, best)
        for name, value, (low, high), best in figures
        if math.isfinite(value)
    ]


def _facts(r: FloatArray, seed: int) -> list[Fact]:
    return [variance(r, seed=seed), *(stylized_facts(r, seed=seed) if r.shape[1] >= SHORTEST else [])]


def _record(found: Calibration) -> dict[str, float | None]:
    deviation, correlation = found.scores
    figures = {f"cover_{100 * level:.0f}": share for level, share in zip(LEVELS, found.cover, strict=True)}
    known = {"correlation": correlation if math.isfinite(correlation) else None}
    return {"ks": found.statistic, "p": found.p, **figures, "deviation": deviation, **known}


def _named(fact: Fact, ending: str) -> Fact:
    return fact._replace(name=fact.name.replace("returns", "increments") + ending)
