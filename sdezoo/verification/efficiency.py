"""Error against evaluations: the distance of samples from the data after a given number of calls of an exact score.

The error is the Wasserstein-1 distance of each coordinate to the exact quantiles of the data, averaged over the
coordinates: `Σ_i |x_(i) − F⁻¹((i + ½)/n)| / n`. Where several states are one datum, such as a wall, each counts as the one that
`encode` gives that datum, and the quantiles are those of many draws. The floor is the same distance for samples of the data themselves; a
sampler can be below it only by chance. Sampling starts from the exact distribution at `t = hi`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import smallest_event
from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import Atoms, Mixture
from sdezoo.conformance.bank.reference_laws import model_of
from sdezoo.errors import SupportError
from sdezoo.sampling.sampler import Sampler
from sdezoo.verification.findings import Curve, Finding, Part
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SAMPLERS

ERROR, FLOOR = "error against evaluations", "floor"
COUNTS = (5, 10, 20, 50, 100, 1000)
ROWS = 2000
_DRAWS = 20
_MANY = 100


def efficiency(sde: Any, seed: int, notify: Callable[[str], None], *, counts: Sequence[int] = COUNTS, rows: int = ROWS) -> Part:
    """Measure the error of every installed sampler that takes a process, and the floor.

    Args:
        sde: The process.
        seed: Of the samples.
        notify: Called with a description of the work that comes next.
        counts: Numbers of evaluations of the score.
        rows: Number of samples for each error.
    """
    model = model_of(sde)
    if model is None:
        return Part([Finding(ERROR, "every sampler", note="no exact score is known, since its conditional score is unknown")])
    exact = quantiles(model, rows)
    draws = torch.tensor([distance(_real(model, rows, seed + k), exact) for k in range(1, _DRAWS + 1)])
    part = Part([Finding(ERROR, FLOOR, float(draws.mean()), error=float(draws.std()), note=f"{rows} samples of the data themselves")])
    part.setting[ERROR] = f"{rows} samples of data {_in_words(model)}; float32, from the exact distribution at t = {sde.t_span[1]:g}"
    for name, sampler in defaults(SAMPLERS):
        if sampler.refuses(sde) is None:
            notify(f"samples of {name}")
            part.curves.append(_curve(name, sampler, model, exact, counts, seed))
    if not part.curves:
        part.findings.append(Finding(ERROR, "every sampler", note="no installed sampler takes this process"))
    return part


def quantiles(model: Mixture | Atoms, rows: int) -> Tensor:
    """Quantiles of the data at the levels `(i + ½)/rows`.

    Args:
        model: The exact model.
        rows: Number of levels.

    Returns:
        float64 `(rows, d)`, of the coordinates for a mixture, of the data themselves for points.
    """
    levels = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    if isinstance(model, Mixture):
        if not model.sde.coordinates.bijective:
            return _of_data(model, model.clean(_MANY * rows)).sort(0)[0].reshape(rows, _MANY, -1).mean(1)
        return torch.stack([_inverse(levels, model.weights, m, d) for m, d in zip(model.means.T, model.deviations.T, strict=True)], 1)
    points = model.points.flatten(1).double()
    columns = []
    for column in points.unbind(1):
        order = column.argsort()
        ends = model.weights[order].cumsum(0)
        columns.append(column[order][torch.searchsorted(ends, levels).clamp(max=len(points) - 1)])
    return torch.stack(columns, 1)


def distance(sample: Tensor, exact: Tensor) -> float:
    """Wasserstein-1 distance of each column to its exact quantiles, averaged over the columns.

    Args:
        sample: `(rows, d)`.
        exact: Exact quantiles, float64 `(rows, d)`.
    """
    return float((sample.double().sort(0)[0] - exact).abs().mean())


def steps_for(sampler: Sampler[Any], evaluations: int) -> int | None:
    """The largest number of steps within a number of evaluations; None if a single step costs more.

    Args:
        sampler: The sampler.
        evaluations: Number of evaluations of the score.
    """
    return max((n for n in range(1, evaluations + 1) if sampler.evaluations(n) <= evaluations), default=None)


def _curve(name: str, sampler: Sampler[Any], model: Mixture | Atoms, exact: Tensor, counts: Sequence[int], seed: int) -> Curve:
    spent, errors, notes = [], [], []
    for count in counts:
        steps = steps_for(sampler, count)
        if steps is None:
            continue
        model.evaluations = 0
        try:
            x = sampler.sample(model, (len(exact), *smallest_event(model.sde)), steps, seed)
            errors.append(distance(_coordinates(model, x), exact))
        except SupportError:
            errors.append(None)
            notes.append(steps)
        spent.append(sampler.evaluations(steps))
    return Curve(ERROR, name, spent, errors, f"left the support in {', '.join(map(str, notes))} steps" if notes else "")


def _coordinates(model: Mixture | Atoms, x: Tensor) -> Tensor:
    return (model.sde.encode(x.double()) if isinstance(model, Mixture) else x).flatten(1)


def _real(model: Mixture | Atoms, rows: int, seed: int) -> Tensor:
    return _of_data(model, model.clean(rows, seed)) if isinstance(model, Mixture) else model.clean(rows, keyed(rows, seed)).flatten(1)


def _of_data(model: Mixture, z: Tensor) -> Tensor:
    """The coordinates that `encode` gives the data of coordinates `z`."""
    return z if model.sde.coordinates.bijective else _coordinates(model, model.sde.decode(z))


def _inverse(levels: Tensor, weights: Tensor, means: Tensor, deviations: Tensor) -> Tensor:
    low = (means - 10 * deviations).min().expand_as(levels)
    high = (means + 10 * deviations).max().expand_as(levels)
    for _ in range(60):
        middle = (low + high) / 2
        below = (weights * torch.special.ndtr((middle[:, None] - means) / deviations)).sum(1) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _in_words(model: Mixture | Atoms) -> str:
    if isinstance(model, Mixture):
        humps = zip(model.weights.tolist(), model.means[:, 0].tolist(), model.deviations[:, 0].tolist(), strict=True)
        return "with coordinates " + " + ".join(f"{w:.2g} N({m:.2g}, {d:.2g}²)" for w, m, d in humps)
    return "that are " + " or ".join(f"{point:.3g}" for point in model.points[..., 0].flatten().tolist())
