"""Baselines: record the errors of a sampler at fixed cost on the bank of problems, and compare later versions with them.

The error is the sliced Wasserstein-1 distance between samples and exact samples, in the coordinates of the process and in
units of the distribution's standard deviation. Its standard error is that of the mean over independent batches. Each batch
starts from scrambled Sobol points of `p(z_1)`, which leaves little but the sampler's own noise and error. Seeds are fixed,
so a sampler whose step has not changed has the same errors, to rounding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.problems import Atoms, Mixture, eight, gaussian
from sdezoo.conformance.bank.sampler_problems import WIDE, ReferenceProblem, atoms_of, reference_problems
from sdezoo.errors import SdezooError, SupportError
from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler
from sdezoo.sampling.start import AtRows
from sdezoo.store.files import atomic_write

FORMAT = 1
COSTS = (5, 10, 20, 40)
"""Numbers of evaluations at which errors are recorded; a sampler takes the largest number of steps that they allow."""

_BATCHES, _ROWS, _DIRECTIONS, _EXACT = 8, 256, 16, 64
_FAR = 10.0
_SIGNIFICANT = 3.0

Baseline = dict[str, Any]
"""JSON object with `format`, `sdezoo`, `sampler`, and `errors[problem][evaluations]`, a pair (mean, standard error) or null."""


@dataclass(frozen=True)
class Worse:
    """A problem on which the error increased by more than three standard errors."""

    problem: str
    """Name of the problem."""
    evaluations: int
    """Number of evaluations."""
    before: list[float]
    """Mean and standard error in the baseline."""
    now: list[float] | None
    """Mean and standard error now; None if sampling now leaves the support."""

    def __str__(self) -> str:
        now = "it leaves the support" if self.now is None else f"{self.now[0]:.4f} ± {self.now[1]:.4f}"
        return f"{self.problem}, {self.evaluations} evaluations: error {self.before[0]:.4f} ± {self.before[1]:.4f} before, now {now}"


def record(sampler: Sampler) -> Baseline:
    """Measure the errors of a sampler on every problem of the bank that it takes.

    Raises:
        SdezooError: It takes none.
    """
    bank = _bank(sampler)
    if not bank:
        raise SdezooError(
            f"'{sampler.title()}' takes no process on which an exact score is known.",
            "Record a sampler that takes an affine process, or install a process with a conditional score that it takes.",
        )
    errors = {trial.name: {str(cost): _error(sampler, trial, cost) for cost in COSTS} for trial in bank}
    return {"format": FORMAT, "sdezoo": version("sdezoo"), "sampler": sampler.spec, "errors": errors}


def compare(sampler: Sampler, baseline: Baseline) -> list[Worse]:
    """The problems on which a sampler is now worse than its baseline by more than three combined standard errors.

    Args:
        sampler: The sampler.
        baseline: Its baseline.

    Raises:
        SdezooError: The baseline is malformed, belongs to another sampler, or has no problem in common with the bank.
    """
    _validate(baseline)
    if baseline["sampler"] != sampler.spec:
        raise SdezooError(
            f"The baseline is of '{baseline['sampler']}', not of '{sampler.spec}'.", "Compare each sampler with its own baseline."
        )
    trials = {trial.name: trial for trial in _bank(sampler)}
    shared = [name for name in baseline["errors"] if name in trials]
    if not shared:
        raise SdezooError("The baseline and today's bank have no problem in common.", "Record a new baseline.")
    worse = []
    for name in shared:
        for cost, before in baseline["errors"][name].items():
            if before is None:
                continue
            now = _error(sampler, trials[name], int(cost))
            if now is None or now[0] - before[0] > _SIGNIFICANT * math.hypot(now[1], before[1]):
                worse.append(Worse(name, int(cost), before, now))
    return worse


def write(path: Path, baseline: Baseline) -> None:
    """Write a baseline as JSON.

    Args:
        path: File to write.
        baseline: The baseline.
    """
    with atomic_write(path, "Give --record another place.") as file:
        file.write((json.dumps(baseline, indent=1, ensure_ascii=False) + "\n").encode())


def read(path: Path) -> Baseline:
    """Read a baseline that `write` wrote.

    Args:
        path: File to read.

    Raises:
        SdezooError: The file is missing, or is not a baseline.
    """
    try:
        baseline = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SdezooError(f"There is no file '{path}'.", "Record a baseline first: sdezoo check NAME --record FILE.") from None
    except (OSError, ValueError) as error:
        raise SdezooError(f"'{path}' is not a baseline: {error}.", _RECORD) from None
    _validate(baseline)
    return baseline


_RECORD = "Give a file that `sdezoo check NAME --record FILE` wrote."


def _validate(baseline: object) -> None:
    match baseline:
        case {"format": int(number)} if number != FORMAT:
            raise SdezooError(f"The baseline has format {number}, and this version reads format {FORMAT}.", "Record a new one.")
        case {"format": int(), "sampler": str(), "errors": dict(errors)} if errors and all(_is_row(row) for row in errors.values()):
            return
    raise SdezooError("This is not a baseline.", _RECORD)


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and all(str(cost).isdecimal() and int(cost) > 0 and _is_error(error) for cost, error in row.items())


def _is_error(error: object) -> bool:
    return error is None or (isinstance(error, list | tuple) and len(error) == 2 and all(isinstance(x, int | float) for x in error))


@dataclass(eq=False)
class _Trial:
    """One problem of the bank."""

    name: str
    model: Model[Any]
    event: tuple[int, ...]
    start: Tensor | None
    """Data to start from at `t = 1`; None: start from the prior."""
    draw: Callable[[int], Tensor]
    """Takes a count; returns that many exact samples, as rows."""
    rows: Callable[[Tensor], Tensor]
    """Maps data to rows."""

    @cached_property
    def spread(self) -> Tensor:
        """Standard deviation of each coordinate."""
        return self._exact.std(0).clamp_min(1e-3)

    def distance(self, rows: Tensor) -> Tensor:
        """Sliced Wasserstein-1 distance of rows in units of the spread, averaged over random directions."""
        # A method far outside its stability region may return anything.
        return (torch.sort(rows @ self._axes, 0)[0] - self._quantiles).abs().clamp(max=_FAR).mean()

    @cached_property
    def _exact(self) -> Tensor:
        return self.draw(_ROWS * _EXACT)

    @cached_property
    def _axes(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        axes = torch.randn(self._exact.shape[1], _DIRECTIONS, generator=generator, dtype=torch.float64)
        return axes / axes.norm(dim=0)

    @cached_property
    def _quantiles(self) -> Tensor:
        return torch.sort(self._exact / self.spread @ self._axes, 0)[0].reshape(_ROWS, _EXACT, _DIRECTIONS).mean(1)


def _bank(sampler: Sampler) -> list[_Trial]:
    # Use the preferred reference process of each distribution if the sampler takes it, so that wide and narrow data are log-normal.
    found = []
    for name, law, preferred in _LAWS:
        usable = reference_problems(sampler, law)
        if usable:
            problem = usable[min(preferred, len(usable) - 1)]
            found.append(_reference(f"{name} on {problem.title}", problem))
    for problem in reference_problems(sampler, _atoms)[:2]:
        found.append(_reference(f"atoms on {problem.title}", problem))
    return found or [_elsewhere(atoms) for atoms in atoms_of(sampler) if isinstance(atoms, Atoms)]


def _reference(name: str, problem: ReferenceProblem) -> _Trial:
    mean, variance = problem.moments(problem.model.sde.t_span[1])
    batches = []
    for k in range(_BATCHES):
        u = torch.quasirandom.SobolEngine(1 + mean.shape[1], scramble=True, seed=k).draw(_ROWS, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        which = torch.searchsorted(problem.law.weights.cumsum(0), u[:, 0].contiguous()).clamp(max=len(mean) - 1)
        batches.append(mean[which] + variance[which].sqrt() * torch.special.ndtri(u[:, 1:]))
    return _Trial(name, problem.model, (2,), problem.data(torch.cat(batches)), lambda n: problem.draw(n, 0.0, 1), problem.coordinates)


def _elsewhere(atoms: Atoms) -> _Trial:
    event = tuple(atoms.points.shape[1:])
    return _Trial(f"atoms on {atoms.sde.spec}", atoms, event, None, lambda n: _points(atoms, n), lambda x: x.flatten(1))


def _points(atoms: Atoms, count: int) -> Tensor:
    return atoms.clean(count, Noise.seeded(1)).double().flatten(1)


def _normal(sde: AffineSDE) -> Mixture:
    return gaussian(sde)


def _two(sde: AffineSDE) -> Mixture:
    return Mixture(sde, torch.tensor([[-0.8, 0.3], [0.9, -0.2]]), torch.tensor([[0.5, 0.2], [0.2, 0.6]]), torch.tensor([0.8, 0.2]))


def _wide(sde: AffineSDE) -> Mixture:
    return gaussian(sde, (0.5, -0.5), (1.5, 1.0))


def _narrow(sde: AffineSDE) -> Mixture:
    return gaussian(sde, (0.5, -0.5), (0.1, 0.05))


def _atoms(sde: AffineSDE) -> Mixture:
    return Mixture(sde, torch.tensor([[-0.8, 0.3], [0.9, -0.2], [0.1, 0.8]]), 1e-6, torch.tensor([0.5, 0.3, 0.2]))


_LAWS: tuple[tuple[str, Callable[[AffineSDE], Mixture], int], ...] = (
    ("normal", _normal, 0),
    ("eight components", eight, 0),
    ("two components", _two, 0),
    ("wide", _wide, 1),
    ("narrow", _narrow, 1),
    ("two components", _two, 2),
)


def _error(sampler: Sampler, trial: _Trial, cost: int) -> list[float] | None:
    """Mean and standard error of the distance at `cost` evaluations; None if sampling leaves the support."""
    steps = max((n for n in range(1, cost + 1) if sampler.evaluations(n) <= cost), default=1)
    try:
        x = sampler.sample(
            trial.model, (_BATCHES * _ROWS, *trial.event), steps, start=None if trial.start is None else AtRows(trial.start), like=WIDE
        )
    except SupportError:
        return None
    rows = (trial.rows(x) / trial.spread).reshape(_BATCHES, _ROWS, -1)
    distances = torch.stack([trial.distance(batch) for batch in rows])
    return [float(distances.mean()), float(distances.std()) / math.sqrt(_BATCHES)]
