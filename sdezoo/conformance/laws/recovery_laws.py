"""Laws of what a sampler ends in: the distribution of the data, with the orders of convergence that it declares.

They apply to samplers that declare a weak order. `sdezoo.conformance.bank.orders` measures the orders, without sampling
error if possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.orders import (
    END,
    Error,
    ReferencePaths,
    affine_error,
    draws_noise,
    falls,
    flow_error,
    normal_end,
    order_problems,
)
from sdezoo.conformance.bank.problems import Atoms, Mixture, eight, gaussian
from sdezoo.conformance.bank.sampler_problems import (
    COARSE,
    FINE,
    WIDE,
    ReferenceProblem,
    atoms_of,
    drive,
    enough,
    no_problem,
    reference_problems,
)
from sdezoo.conformance.bank.step_problems import NormalEnds, matrix_problem
from sdezoo.conformance.evidence import bounded_moments, mean_is_zero, together
from sdezoo.conformance.law import LEVEL, LawError, Suite
from sdezoo.errors import CompositionError
from sdezoo.process.affine import AffineSDE
from sdezoo.process.bridge import Bridge
from sdezoo.process.noise import Noise, mix
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SDES

RECOVERY_LAWS: Suite[Sampler] = Suite()

_STEPS = (32, 128)
_PATHS = 4096
_WORST = 0.25
_MANY = 128
_COSTLY = 1280
_DRAWS = 1024
_FINER = 8


def _one(sde: AffineSDE) -> Mixture:
    return gaussian(sde, (0.3,), (0.5,))


def _unequal(sde: AffineSDE) -> Mixture:
    return Mixture(sde, torch.tensor([[-0.8], [0.9]]), torch.tensor([[0.5], [0.3]]), torch.tensor([0.8, 0.2]))


def _asymmetric(sde: AffineSDE) -> Mixture:
    return Mixture(sde, torch.tensor([[-0.8, 0.3], [0.9, -0.2]]), torch.tensor([[0.5, 0.2], [0.2, 0.6]]), torch.tensor([0.8, 0.2]))


def _no_law(sampler: Sampler) -> str | None:
    return no_problem(sampler) or ("It declares no weak order." if sampler.weak_order is None else None)


def _no_reference_problem(sampler: Sampler) -> str | None:
    if reference_problems(sampler, gaussian):
        return None
    return "It takes none of the reference processes, whose distributions are known at every time."


def _no_weak_order(sampler: Sampler) -> str | None:
    return _no_law(sampler) or _no_reference_problem(sampler)


def _not_affine(sampler: Sampler) -> str | None:
    if any(affine_error(sampler, problem, 2, whole=True) is not None for problem in reference_problems(sampler, gaussian)):
        return _no_weak_order(sampler)
    return _no_weak_order(sampler) or "Its steps are not affine in the state and the noise on any reference process."


def _no_measure(sampler: Sampler) -> str | None:
    if any(_measurable(sampler, k, problem) for k, problem in enumerate(order_problems(sampler, gaussian, COARSE))):
        return _no_weak_order(sampler)
    return _no_weak_order(sampler) or "Its noise is not one normal number per entry and step, so steps of different size share no path."


def _measurable(sampler: Sampler, k: int, problem: ReferenceProblem) -> bool:
    if affine_error(sampler, problem, 2) is not None or not draws_noise(sampler, problem):
        return True
    return ReferencePaths.of(order_problems(sampler, _one, COARSE)[k], COARSE, 1).ends(sampler, 2) is not None


def _no_strong_order(sampler: Sampler) -> str | None:
    return "It declares no strong order." if sampler.strong_order is None else _no_reference_problem(sampler)


@dataclass(frozen=True)
class Place:
    """A sampler and normal data in one coordinate: the case of `far-out`."""

    sampler: Sampler
    """The sampler."""
    mean: float
    """Mean of the coordinate."""
    width: float
    """Its standard deviation."""
    which: int = 0
    """Index into the reference processes that the sampler takes."""

    def __str__(self) -> str:
        return f"{self.sampler.spec}, coordinates around {self.mean:g} of width {self.width:g}"


def _places(sampler: Sampler) -> st.SearchStrategy[Place]:
    return st.builds(
        Place,
        st.just(sampler),
        st.sampled_from([0.0, -6.0, 6.0]) | st.floats(-6, 6),
        st.sampled_from([1.0, 0.01, 3.0]) | st.floats(0.01, 3),
        st.integers(0, len(reference_problems(sampler, gaussian)) - 1),
    )


@RECOVERY_LAWS.property_law(_places, excuses=_no_weak_order, examples=8)
def far_out(place: Place) -> None:
    """Samples have the median and spread of the data, also if these are far from the origin, narrow or wide."""
    steps = 2 * enough(place.sampler, 32)
    try:
        _found_out_there(place, steps)
    except LawError:  # a method that is stiff may need more steps
        _found_out_there(place, _FINER * steps)


def _found_out_there(place: Place, steps: int) -> None:
    tried = reference_problems(place.sampler, gaussian)[place.which].model
    # A grid, in particular one of equal steps in time, does not resolve data narrower than the noise two steps before its end.
    resolved = float(tried.sde.scale(place.sampler.grid(place.sampler.view(tried), steps)[-3]))
    mean, width = place.mean, max(place.width, resolved)
    problem = reference_problems(place.sampler, lambda sde: gaussian(sde, (mean,), (width,)))[place.which]
    z = problem.coordinates(place.sampler.sample(problem.model, (256, 1), steps, like=WIDE))
    low, centre, high = (float(torch.quantile(z, q)) for q in (0.25, 0.5, 0.75))
    spread = (high - low) / 1.349
    if not abs(centre - mean) <= 0.1 + 0.6 * width:
        raise LawError(f"The median of the coordinates is {centre:.3g} on {problem.title}, and {mean:.3g} was expected.")
    if not width / 2 < spread + 0.05 < 2 * width + 0.1:
        raise LawError(f"The spread of the coordinates is {spread:.3g} on {problem.title}, and {width:.3g} was expected.")


@RECOVERY_LAWS.law(excuses=_no_measure)
def weak_order(sampler: Sampler) -> None:
    """The errors of expectations decrease with the step size at least at the order `weak_order`, on normal and bimodal data."""
    for k, problem in enumerate(order_problems(sampler, gaussian, COARSE)):
        # Few methods need the second: a bias that fades towards t = 0, such as a corrector's, shows if times begin far from 0.
        reasons = [_normal(sampler, k, COARSE) and _normal(sampler, k, FINE)]
        if not draws_noise(sampler, problem):
            reasons.append(_bimodal(sampler, k))
        for reason in filter(None, reasons):
            raise LawError(f"On {problem.title} {reason}.")


def _normal(sampler: Sampler, k: int, lo: float) -> str | None:
    assert sampler.weak_order is not None
    problem = order_problems(sampler, gaussian, lo)[k]
    if affine_error(sampler, problem, 2) is not None:
        return falls(lambda n: _known(affine_error(sampler, problem, n)), sampler.weak_order, _counts(sampler))
    if not draws_noise(sampler, problem):
        return None
    paths = ReferencePaths.of(order_problems(sampler, _one, COARSE)[k], COARSE, _PATHS)
    if paths.ends(sampler, 2) is None:
        return None
    return falls(lambda n: _known(paths.error(sampler, n)), sampler.weak_order, _counts(sampler))


def _bimodal(sampler: Sampler, k: int) -> str | None:
    assert sampler.weak_order is not None
    problem = order_problems(sampler, _unequal, COARSE)[k]
    return falls(lambda n: flow_error(sampler, problem, n), sampler.weak_order, _counts(sampler))


def _counts(sampler: Sampler) -> tuple[int, int]:
    """Numbers of steps at which weak orders are measured: half of them if a step takes many evaluations."""
    few, many = _STEPS
    return (few, many) if sampler.evaluations(many) <= _COSTLY else (few // 2, many // 2)


def _known(error: Error | None) -> Error:
    assert error is not None
    return error


def _no_bridge(sampler: Sampler) -> str | None:
    if sampler.weak_order is None:
        return no_problem(sampler) or "It declares no weak order."
    return None if _bridges(sampler) else "It takes no installed bridge."


def _bridges(sampler: Sampler) -> list[Bridge]:
    return [sde for _, sde in defaults(SDES) if isinstance(sde, Bridge) and len(sde.knots) == 2 and sampler.refuses(sde) is None]


@RECOVERY_LAWS.law(excuses=_no_bridge)
def weak_order_between_data(sampler: Sampler) -> None:
    """Between two normal distributions, the errors of mean and variance on the way decrease at the order `weak_order`."""
    assert sampler.weak_order is not None
    for bridge in _bridges(sampler)[:1]:
        reason = falls(partial(_between, sampler, NormalEnds(bridge)), sampler.weak_order, _STEPS)
        if reason:
            raise LawError(f"On {bridge.spec} {reason}.")


def _between(sampler: Sampler, model: NormalEnds, steps: int) -> Error:
    """Error of mean and variance, from 1 to `COARSE` in equal ratios of the time."""
    view, times = sampler.view(model), COARSE ** torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    (m1, v1), (m0, v0) = (tuple(part.reshape(1) for part in model.moments(t)) for t in (times[0], times[-1]))
    found = normal_end(lambda start, noise: drive(sampler, view, start, times, noise), m1, v1)
    if found is None:
        raise LawError("Its steps are not affine in the state and the noise, though the denoiser is.", model.sde.spec)
    return Error.exact(torch.cat([(found.mean - m0) / v0.sqrt(), found.covariance[0] / v0 - 1]))


@RECOVERY_LAWS.law(excuses=_not_affine)
def refinement(sampler: Sampler) -> None:
    """On the sampler's own grid down to `t = 0`, more steps are not worse, and 128 steps come close to the data."""
    counts = [n for n in (8, 32, _MANY) if sampler.evaluations(n) <= _COSTLY]
    for problem in reference_problems(sampler, gaussian):
        if affine_error(sampler, problem, 2, whole=True) is None:
            continue
        errors = {n: _known(affine_error(sampler, problem, n, whole=True)).size for n in counts}
        if errors.get(_MANY, 0.0) > _WORST:
            raise LawError(f"On {problem.title} mean and covariance are off by {errors[_MANY]:.3g} standard deviations in {_MANY} steps.")
        for n, more in pairwise(counts):
            if errors[more] > 1.05 * errors[n] + 0.01:
                found = f"{errors[n]:.3g} standard deviations in {n} steps and by {errors[more]:.3g} in {more}"
                raise LawError(f"On {problem.title} mean and covariance are off by {found}.")


@RECOVERY_LAWS.law(excuses=_no_strong_order)
def strong_order(sampler: Sampler) -> None:
    """The distance to the reverse process on the same Brownian path decreases at least at the order `strong_order`."""
    assert sampler.strong_order is not None
    for problem in order_problems(sampler, _one):
        paths = ReferencePaths.of(problem, END, 256)
        distances = [paths.distance(sampler, n) for n in _STEPS]
        if distances[0] is None or distances[1] is None:
            raise LawError("It declares a strong order, but does not draw exactly one normal number per entry and step.")
        measured = math.log(distances[0] / max(distances[1], 1e-12), _STEPS[1] / _STEPS[0])
        if not measured >= sampler.strong_order - 0.15:
            raise LawError(
                f"On {problem.title} paths are off by {distances[0]:.3g} in {_STEPS[0]} steps and {distances[1]:.3g} in {_STEPS[1]}: "
                f"order {measured:.2f}, and {sampler.strong_order:g} is declared."
            )


class Bank(NamedTuple):
    """A distribution that a sampler has to recover."""

    draw: Callable[[int, int], Tensor]
    """Takes a count and a seed; returns that many exact samples, as rows."""
    sample: Callable[[int, int], Tensor]
    """Takes a number of steps and a seed; returns samples of the sampler, as rows."""


def _banks(sampler: Sampler) -> list[Bank]:
    usable = [*reference_problems(sampler, eight, COARSE)[:1], *reference_problems(sampler, _asymmetric, COARSE)[-2:]]
    found = [Bank(partial(_drawn, problem), partial(_sampled, sampler, problem)) for problem in usable]
    return found or [
        Bank(partial(_noised, atoms), partial(_driven, sampler, atoms)) for atoms in atoms_of(sampler) if isinstance(atoms, Atoms)
    ]


def _drawn(problem: ReferenceProblem, count: int, seed: int) -> Tensor:
    return problem.draw(count, COARSE, seed)


def _sampled(sampler: Sampler, problem: ReferenceProblem, steps: int, seed: int) -> Tensor:
    states: list[Tensor] = []
    sampler.sample(problem.model, (_DRAWS, 2), steps + 1, seed, like=WIDE, callback=lambda k, z, t: states.append(z))
    return problem.coordinates(sampler.view(problem.model).sde.decode(states[-2]))


def _quarter(atoms: Atoms) -> Tensor:
    # Closer to the points, a few dozen steps need not be small: an installed process has a time scale of its own.
    return torch.tensor(atoms.sde.t_span[1] / 4, dtype=torch.float64)


def _noised(atoms: Atoms, count: int, seed: int) -> Tensor:
    noise = Noise.seeded(seed)
    return atoms.sde.decode(atoms.sde.perturb(atoms.clean(count, noise), _quarter(atoms), noise)).flatten(1)


def _driven(sampler: Sampler, atoms: Atoms, steps: int, seed: int) -> Tensor:
    noise, view = keyed(_DRAWS, seed), sampler.view(atoms)
    times = torch.linspace(view.sde.t_span[1], float(_quarter(atoms)), steps + 1, dtype=torch.float64)
    z = view.prior((_DRAWS, *atoms.points.shape[1:]), noise, WIDE)
    return view.sde.decode(drive(sampler, view, z, times, noise)).flatten(1)


class Waves:
    """Bounded test functions of rows: moments, and waves in a few directions, about as long as the rows spread.

    Args:
        rows: Points to fit to, `(N, n)`.
    """

    def __init__(self, rows: Tensor) -> None:
        low, self.centre, high = torch.quantile(rows, torch.tensor([0.16, 0.5, 0.84], dtype=rows.dtype), 0)
        self.width = ((high - low) / 2).clamp_min(1e-9)
        generator = torch.Generator().manual_seed(0)
        self.directions = 1.5 * torch.randn(rows.shape[1], 5, generator=generator, dtype=rows.dtype)

    def __call__(self, rows: Tensor) -> Tensor:
        """Their values at `rows` `(N, n)`, `(N, …)`."""
        phase = (rows - self.centre) / self.width @ self.directions
        return torch.cat([bounded_moments(rows, self.centre, self.width), phase.cos(), phase.sin()], 1)


@RECOVERY_LAWS.monte_carlo_law(excuses=_no_law)
def law_recovered(sampler: Sampler, seed: int) -> float:
    """Samples follow the distribution of the data, after extrapolation to step size 0 with the declared weak order."""
    return _recovered(sampler, _banks(sampler), seed)


def _no_matrix(sampler: Sampler) -> str | None:
    problem = matrix_problem(sampler, gaussian)
    if reason := _no_law(sampler) or (None if problem else "It takes no process whose noise is a matrix."):
        return reason
    try:
        sampler.sample(problem.model, (2, 2), 2, like=WIDE)  # pyright: ignore[reportOptionalMemberAccess]
    except CompositionError as refusal:
        return f"It does not take noise that is a matrix: {refusal.problem}"
    return None


@RECOVERY_LAWS.monte_carlo_law(excuses=_no_matrix)
def matrix_noise_recovered(sampler: Sampler, seed: int) -> float:
    """The same for a process whose noise is a matrix that depends on the state."""
    problem = matrix_problem(sampler, _asymmetric, COARSE)
    assert problem is not None
    return _recovered(sampler, [Bank(partial(_drawn, problem), partial(_sampled, sampler, problem))], seed)


def _recovered(sampler: Sampler, banks: list[Bank], seed: int) -> float:
    steps = enough(sampler, 32)
    found = _extrapolated(sampler, banks, seed, steps)
    # A method that is stiff may not be in its asymptotic range yet. What it ends in shows with more steps.
    return found if found >= LEVEL else _extrapolated(sampler, banks, seed, _FINER * steps)


def _extrapolated(sampler: Sampler, banks: list[Bank], seed: int, steps: int) -> float:
    assert sampler.weak_order is not None
    gain, p_values = 2.0**sampler.weak_order, []
    for k, bank in enumerate(banks):
        own = mix(seed, k) % 2**40
        waves = Waves(bank.draw(4 * _DRAWS, 0))
        coarse, fine = (waves(bank.sample(n, own)) for n in (steps, 2 * steps))
        exact = waves(bank.draw(4 * _DRAWS, own + 1))
        exact = exact.reshape(_DRAWS, 4, exact.shape[1]).mean(1)
        p_values.append(mean_is_zero((gain * fine - coarse) / (gain - 1) - exact))
    return together(p_values)
