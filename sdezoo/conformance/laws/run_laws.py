"""Laws of every run of a sampler: shapes, seeds, rows, evaluations, times, precision, support."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from sdezoo.conformance.bank.cases import variants
from sdezoo.conformance.bank.noise_doubles import Forbidden, keyed
from sdezoo.conformance.bank.problems import gaussian
from sdezoo.conformance.bank.sampler_problems import WIDE, Problem, atoms_of, drive, enough, no_problem, problems, reference_problems
from sdezoo.conformance.evidence import close
from sdezoo.conformance.law import LawError, Suite, falsify
from sdezoo.conformance.laws.configuration import configuration_laws
from sdezoo.errors import SupportError
from sdezoo.learning.model import Model
from sdezoo.process.bridge import Bridge
from sdezoo.process.columns import count_outside
from sdezoo.process.noise import KeyedNoise, Noise
from sdezoo.process.process import Denoised
from sdezoo.sampling.folding import FOLDS
from sdezoo.sampling.sampler import Sampler
from sdezoo.sampling.start import AtRows

_MANY = 64


class _Rounded(Model[Any]):
    """A model whose score is rounded to bfloat16, as by a network in bfloat16."""

    def __init__(self, base: Model[Any]) -> None:
        self.base, self.sde = base, base.sde

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        return self.base.score(z, t).bfloat16().to(z)

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:
        return self.base.denoise(z, t).bfloat16().to(z) if isinstance(self.sde, Denoised | Bridge) else super().denoise(z, t)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.base.prior(shape, noise, like)


class _From(Model[Any]):
    """A model whose prior always returns a given state."""

    def __init__(self, base: Model[Any], state: Tensor) -> None:
        self.base, self.sde, self.state = base, base.sde, state

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        return self.base.score(z, t)

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:
        return self.base.denoise(z, t)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.state


@dataclass(frozen=True)
class Run:
    """A sampler, a problem and the settings of one run: the case of most laws."""

    sampler: Sampler
    """The sampler."""
    problem: Problem
    """The model to sample from."""
    rows: int = 3
    """Number of samples."""
    steps: int = 4
    """Number of steps."""
    dtype: torch.dtype = torch.float64
    """Of the samples."""
    rounded: bool = False
    """If True, round the score to bfloat16."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the samples."""
        return (self.rows, *self.problem.event)

    def __call__(self, seed: int = 0, **options: Any) -> Tensor:
        """Sample.

        Args:
            seed: Of the noise.
            options: Passed to `Sampler.sample`.
        """
        model = _Rounded(self.problem.model) if self.rounded else self.problem.model
        FOLDS.forget()  # so that no run depends on what an earlier one has cached
        return self.sampler.sample(model, self.shape, self.steps, seed, like=torch.empty((), dtype=self.dtype), **options)

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        rounded = ", the score rounded to bfloat16" if self.rounded else ""
        return f"{self.sampler.spec} on {self.problem.model.sde.spec}, data {self.shape} {dtype}, {self.steps} steps{rounded}"


def _runs(sampler: Sampler, steps: int = 4) -> list[Run]:
    return [Run(sampler, problem, steps=enough(sampler, steps)) for problem in problems(sampler, gaussian)]


def _computed(sampler: Sampler) -> list[Any]:
    """The samples, evaluations and times of short runs."""
    found: list[Any] = []
    for run in _runs(sampler):
        found += [run(), sampler.evaluations(run.steps), sampler.grid(sampler.view(run.problem.model), run.steps)]
    return found


RUN_LAWS: Suite[Sampler] = Suite(configuration_laws(Sampler, _computed))


def _affordable(sampler: Sampler, steps: int) -> int:
    """`steps`, or fewer if they cost more than a thousand evaluations."""
    return max(1, min(steps, 1000 * steps // max(sampler.evaluations(steps), 1)))


def _smallest(sampler: Sampler) -> st.SearchStrategy[Run]:
    shaped = [Problem(a, event, a) for event in ((1,), (2, 3), (1, 2, 2)) for a in atoms_of(sampler, event)]
    return st.builds(
        Run,
        st.just(sampler),
        st.sampled_from([*problems(sampler, gaussian), *shaped]),
        st.integers(1, 3),
        st.integers(1, 4).map(lambda steps: enough(sampler, steps)),
        st.sampled_from([torch.float32, torch.float64]),
        st.booleans(),
    )


@RUN_LAWS.property_law(_smallest, first=True, excuses=no_problem, examples=8)
def contract(run: Run) -> None:
    """Samples and states have the requested shape, dtype and device and are finite, also if the network computes in bfloat16."""
    state = tuple(run.sampler.view(run.problem.model).sde.state_shape(run.shape))
    seen: list[Tensor] = []
    try:
        x = run(callback=lambda k, z, t: seen.append(z))
    except SupportError:
        # A correct method may overshoot so far in one or two steps that decoding overflows; it then raises this error.
        if run.sampler.preserves_support and len(seen) < run.steps:
            raise
        return
    for name, value, shape in [("The sample", x, run.shape), *((f"The state after step {k}", z, state) for k, z in enumerate(seen, 1))]:
        if tuple(value.shape) != shape:
            raise LawError(f"{name} has shape {tuple(value.shape)}, and {shape} was expected.")
        if value.dtype != run.dtype or value.device.type != "cpu":
            raise LawError(f"{name} is {value.dtype} on {value.device}, and {run.dtype} on cpu was requested.")
        if not torch.isfinite(value).all():
            raise LawError(f"{name} is not finite.")


@RUN_LAWS.law(excuses=no_problem)
def seeded(sampler: Sampler) -> None:
    """Samples depend on the seed alone: not on torch's global generator, which stays untouched, nor on runs before or at the same time."""
    for run in _runs(sampler):
        other = dataclasses.replace(run, rows=2, steps=run.steps + 3)
        state = torch.get_rng_state()
        try:
            torch.manual_seed(1)
            first = run()
            torch.manual_seed(2)
            kept = torch.get_rng_state()
            again = run()
            untouched = torch.equal(torch.get_rng_state(), kept)
        finally:
            torch.set_rng_state(state)
        if not untouched:
            raise LawError("It draws from torch's global generator.", str(run))
        if not torch.equal(first, again):
            raise LawError("Two runs with the same seed differ.", str(run))
        other(seed=5)
        if not torch.equal(first, run()):
            raise LawError("A run gives other samples after a run with another seed.", str(run))

        def meanwhile(k: int, z: Tensor, t: Tensor, other: Run = other) -> None:
            if k <= 2:
                other(seed=5)

        if not torch.equal(first, run(callback=meanwhile)):
            raise LawError("A run gives other samples if a second run is made during it.", str(run))
        states: list[list[Tensor]] = [[], []]
        for seed, seen in enumerate(states):
            run(seed=seed, callback=lambda k, z, t, seen=seen: seen.append(z))
        # A denoiser of a single point ends there from every state.
        if all(torch.equal(*pair) for pair in zip(*states, strict=True)):
            raise LawError("Runs with different seeds give the same states and samples.", str(run))


@RUN_LAWS.law(excuses=no_problem)
def rows_are_independent(sampler: Sampler) -> None:
    """A sample does not depend on its batch or its place in it, also if the batch is as large as the event."""
    for run in _runs(sampler):
        whole = dataclasses.replace(run, rows=5)()
        alone = torch.cat([dataclasses.replace(run, rows=1)(first=i) for i in range(5)])
        close("A sample in a batch of 5, compared with the same sample alone,", whole, alone, rtol=1e-9, atol=1e-10)
        for rows in (2, 3):
            close(f"A sample in a batch of {rows}", dataclasses.replace(run, rows=rows)(), whole[:rows], rtol=1e-9, atol=1e-10)
        order = [4, 2, 0, 3, 1]
        view, noise = sampler.view(run.problem.model), KeyedNoise(0, order)
        z = drive(sampler, view, view.prior((5, *run.problem.event), noise, WIDE), sampler.grid(view, run.steps), noise)
        close("A sample at another place in the batch", view.sde.decode(z), whole[order], rtol=1e-9, atol=1e-10)


def _sized(sampler: Sampler) -> st.SearchStrategy[Run]:
    def build(chosen: Sampler, exponent: float) -> Run:
        found = problems(chosen, gaussian)
        steps = _affordable(chosen, round(10**exponent))
        return Run(chosen, found[steps % len(found)], rows=1, steps=enough(chosen, steps))

    usable: list[Sampler] = [other for other in variants(sampler) if problems(other, gaussian)]  # pyright: ignore[reportArgumentType, reportAssignmentType]
    return st.builds(build, st.sampled_from(usable), st.sampled_from([0.0, 0.3, 0.5]) | st.floats(0, 3))


def _each(sampler: Sampler) -> list[Run]:
    """A short run of every variant: a choice that a search leaves out has numbers of its own."""
    every: list[Any] = variants(sampler)
    return [Run(one, found[0], rows=1, steps=enough(one, 3)) for one in every if (found := problems(one, gaussian))]


@RUN_LAWS.property_law(_sized, excuses=no_problem, also=_each, examples=6)
def evaluations(run: Run) -> None:
    """The score is evaluated as often as `evaluations` declares, or at least as often by an adaptive sampler, at 1 to 1000 steps."""
    before = run.problem.counter.evaluations
    run()
    found, declared = run.problem.counter.evaluations - before, run.sampler.evaluations(run.steps)
    if found < declared or (found > declared and not run.sampler.adaptive):
        raise LawError(f"{found} evaluations of the score, and {declared} are declared.")


@RUN_LAWS.property_law(lambda sampler: st.tuples(st.just(sampler), st.integers(1, 1000)), excuses=no_problem, examples=20)
def times(sampler_and_steps: tuple[Sampler, int]) -> None:
    """The grid has the requested number of steps, decreases strictly from `hi` to 0, and only the last step ends below `lo`."""
    sampler, steps = sampler_and_steps
    for problem in problems(sampler, gaussian):
        view = sampler.view(problem.model)
        found, (lo, hi) = sampler.grid(view, steps), view.sde.t_span
        if found.dtype != torch.float64 or found.shape != (steps + 1,):
            raise LawError(f"The grid is {found.dtype} of shape {tuple(found.shape)}; float64 of shape ({steps + 1},) was expected.")
        if float(found[0]) != hi or float(found[-1]) != 0 or not (found.diff() < 0).all() or float(found[-2]) < lo:
            ends = f"{found[:2].tolist()} … {found[-2:].tolist()}"
            raise LawError(f"The grid is {ends}; it must decrease from {hi} to no less than {lo}, and then end at 0.")


@RUN_LAWS.law(excuses=no_problem)
def start_and_callback(sampler: Sampler) -> None:
    """Data passed as `start` are encoded and used, and the callback sees every step once, with its state and its grid time."""
    for run in _runs(sampler):
        model = run.problem.model
        view = sampler.view(model)
        seen: list[tuple[int, Tensor, Tensor]] = []
        kept: list[Tensor] = []

        def watch(k: int, z: Tensor, t: Tensor, seen: Any = seen, kept: list[Tensor] = kept) -> None:
            seen.append((k, z, t))
            kept.append(z.clone())

        start = model.sde.decode(model.prior(run.shape, keyed(run.rows, 3), WIDE))
        x = run(start=AtRows(start), callback=watch)
        if any(not torch.equal(z, copy) for (_, z, _), copy in zip(seen, kept, strict=True)):
            raise LawError("A step changes the state that it is given.", str(run))
        if [k for k, _, _ in seen] != list(range(1, run.steps + 1)):
            raise LawError(f"The callback saw the steps {[k for k, _, _ in seen]}.", str(run))
        close("The times that the callback saw", torch.stack([t for _, _, t in seen]), sampler.grid(view, run.steps)[1:], rtol=0)
        close("The decoded last state", view.sde.decode(seen[-1][1]), x, rtol=0)
        if tuple(model.sde.state_shape(run.shape)) == run.shape:  # encoding adds nothing random
            given = run.problem._replace(model=_From(model, model.sde.encode(start, keyed(run.rows))))
            again = dataclasses.replace(run, problem=given)()
            close("The samples from given data, compared with those from the same data as the prior,", x, again, rtol=1e-8, atol=1e-10)
        many = dataclasses.replace(run, rows=_MANY)
        data = [model.sde.decode(model.prior(many.shape, keyed(many.rows, seed), WIDE)) for seed in (3, 4)]
        if not torch.equal(*data) and torch.equal(*(_first_state(many, rows) for rows in data)):  # a prior may be a point
            raise LawError("Different `start` data give the same states.", str(run))


def _first_state(run: Run, data: Tensor) -> Tensor:
    """The states after one step from `data`. A sampler that samples exactly may forget some rows in one step."""
    seen: list[Tensor] = []
    run(start=AtRows(data), callback=lambda k, z, t: seen.append(z))
    return seen[0]


@RUN_LAWS.law(excuses=no_problem)
def noise_free_end(sampler: Sampler) -> None:
    """The step that ends at `t = 0` uses no noise."""
    for run in _runs(sampler):
        view, noise = sampler.view(run.problem.model), keyed(run.rows)
        for steps in (1, run.steps):
            z, memory = view.prior(run.shape, noise, WIDE), None
            for t, s in pairwise(sampler.grid(view, steps).unbind()):
                z, memory = sampler.step(view, z, t, s, noise if s > 0 else Forbidden(), memory)


@RUN_LAWS.law(excuses=no_problem)
def precision(sampler: Sampler) -> None:
    """In float64 nothing passes through float32: results respond to changes of 1e-9 at the same rate as to changes of 1e-6."""
    for run in _runs(sampler, 6):
        base = _moved(run)
        for what in ("times",) if run.problem.model.sde.support.is_discrete else ("start", "times"):
            coarse, fine = ((_moved(run, **{what: h}) - base) / h for h in (1e-6, 1e-9))
            bound = 0.1 * torch.maximum(coarse.abs(), fine.abs()) + 1e-3 * (1 + base.abs().max())
            excess = (coarse - fine).abs() - bound
            if not (excess <= 0).all():
                a, b = (float(rate.flatten()[int(excess.argmax())]) for rate in (coarse, fine))
                raise LawError(f"Its rate of change with the {what} is {a:.4g} over 1e-6, and {b:.4g} over 1e-9.", str(run))


def _moved(run: Run, start: float = 0.0, times: float = 0.0) -> Tensor:
    """The last state of a run whose start, or whose times between the ends, are shifted."""
    view = run.sampler.view(run.problem.model)
    grid = run.sampler.grid(view, run.steps).clone()
    grid[1:-2] += times
    return drive(run.sampler, view, view.prior(run.shape, keyed(run.rows, 7), WIDE) + start, grid, keyed(run.rows))


@dataclass(frozen=True)
class Loud:
    """A run with a high noise level."""

    sampler: Sampler
    """The sampler."""
    sigma: float
    """Volatility of the reference processes."""
    steps: int
    """Number of steps."""
    dtype: torch.dtype = torch.float64
    """Of the samples."""
    which: int = 0
    """Index into `problems()`."""

    def problems(self) -> list[Problem]:
        """The problems on the reference processes with volatility `sigma`; if the sampler takes none, the usual problems."""
        found = reference_problems(self.sampler, gaussian, sigma=self.sigma)
        return [Problem(g.model, (2,), g.law) for g in found] or problems(self.sampler, gaussian)

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.sampler.spec} on {self.problems()[self.which].model.sde.spec}, {self.steps} steps, {dtype}"


@RUN_LAWS.law(excuses=no_problem)
def support(sampler: Sampler) -> None:
    """States are finite and samples lie in the support at any number of steps; a sampler that declares it may leave the support does so."""
    if not sampler.preserves_support:
        _leaves(sampler)
        return
    cases = st.builds(
        Loud,
        st.just(sampler),
        st.sampled_from([1.0, 3.0, 10.0]) | st.floats(0.1, 10.0),
        (st.integers(1, 12) | st.floats(0, 3).map(lambda x: round(10**x))).map(lambda steps: _affordable(sampler, steps)),
        st.sampled_from([torch.float64, torch.float32]),
        st.integers(0, len(problems(sampler, gaussian)) - 1),
    )
    # On processes of their own there is no volatility to vary.
    falsify(_stays, cases, 12 if reference_problems(sampler, gaussian) else 8)


def _stays(case: Loud) -> None:
    problem, seen = case.problems()[case.which], 0

    def watch(k: int, z: Tensor, t: Tensor) -> None:
        nonlocal seen
        seen = k
        if not torch.isfinite(z).all():
            raise LawError(f"A state is not finite after step {k}.")

    try:
        x = case.sampler.sample(problem.model, (16, *problem.event), case.steps, like=torch.empty((), dtype=case.dtype), callback=watch)
    except SupportError:
        # With few steps and much noise a method may overshoot so far that decoding overflows. It raises, and returns nothing wrong.
        if seen < case.steps:
            raise
        return
    outside = count_outside(problem.model.sde.support, x)
    if outside:
        raise LawError(f"{outside} of {x.numel()} values left the support, and `preserves_support = True` is declared.")


def _leaves(sampler: Sampler) -> None:
    for sigma in (0.8, 3.0, 10.0):
        for steps in (1, 2, 3, 5, 10):
            for problem in [*Loud(sampler, sigma, steps).problems(), *(Problem(a, (2,), a) for a in atoms_of(sampler, (2,)))]:
                try:
                    sampler.sample(problem.model, (200, *problem.event), steps, like=WIDE)
                except SupportError:
                    return
    raise LawError("`preserves_support = False` is declared, and no state left the support in 1 to 10 steps, with noise up to 10.")
