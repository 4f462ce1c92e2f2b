"""Laws of the steps of a sampler: uneven grids, the last step, walls, shared noise, and samplers that claim no order.

The processes of `sdezoo.conformance.bank.step_problems` make each visible with an exact answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import equivalent, variants
from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.orders import Error, affine_error, falls, normal_end, order_problems
from sdezoo.conformance.bank.problems import Atoms, BridgeAtoms, Mixture, gaussian
from sdezoo.conformance.bank.reference_laws import named
from sdezoo.conformance.bank.sampler_problems import (
    COARSE,
    WIDE,
    ReferenceProblem,
    atoms_of,
    drive,
    enough,
    no_problem,
    problems,
    reference_problems,
)
from sdezoo.conformance.bank.step_problems import Box, Guarded, HalfStill, SharedNoise, Stops, thirds
from sdezoo.conformance.evidence import bounded_moments, close
from sdezoo.conformance.law import LawError, Suite
from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.interpolant import ScaleMixture, SelfDecomposable
from sdezoo.process.noise import Noise
from sdezoo.process.rewindable import Rewindable
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SAMPLERS, SDES

STEP_LAWS: Suite[Sampler] = Suite()

_EVEN = (32, 128)
_LEFT, _ROUNDED, _BEFORE = 0.6, 1e-4, 3
_SURE = 4.5
_ROWS = 64
_SHARED_UNTIL = 0.1
_SHARED_STEPS = 256
_WRONG = 0.2
_CROWD, _FEW_STEPS, _CLOSE, _LEAST_WIDTH = 2048, 64, 0.08, 0.02


def _point(sde: AffineSDE) -> Mixture:
    return gaussian(sde, (0.4, -0.7), (1e-6, 1e-6))


def _no_known_error(sampler: Sampler) -> str | None:
    if sampler.weak_order is None:
        return no_problem(sampler) or "It declares no weak order."
    if any(affine_error(sampler, problem, 2) is not None for problem in order_problems(sampler, gaussian, COARSE)):
        return None
    return no_problem(sampler) or "Its steps are not affine in the state and the noise on any reference process."


@STEP_LAWS.law(excuses=_no_known_error)
def weak_order_on_uneven_steps(sampler: Sampler) -> None:
    """The weak order holds on a grid whose steps alternate in size, 1 to 3."""
    assert sampler.weak_order is not None
    for problem in order_problems(sampler, gaussian, COARSE):
        if affine_error(sampler, problem, 2) is None:
            continue
        reason = falls(lambda n, problem=problem: _uneven(sampler, problem, n), sampler.weak_order, _EVEN)
        if reason:
            raise LawError(f"On {problem.title}, with steps 1 : 3 : 1 : 3, {reason}.")


def _uneven(sampler: Sampler, problem: ReferenceProblem, steps: int) -> Error:
    view = sampler.view(problem.model)
    error = affine_error(sampler, problem, steps, times=thirds(sampler.grid(view, 2 * steps + 1)[:-1]))
    assert error is not None
    return error


def _no_points(sampler: Sampler) -> str | None:
    if sampler.weak_order is None:
        return "It declares no weak order: its last step need not be one of a reverse process."
    return None if reference_problems(sampler, _point, COARSE) else "It takes none of the reference processes."


@STEP_LAWS.law(excuses=_no_points)
def last_step_denoises(sampler: Sampler) -> None:
    """The last step ends in the denoiser: with data at one point at most 0.6 of the noise stays, none if all other steps are exact."""
    for problem in reference_problems(sampler, _point, COARSE):
        model, before = problem.model, affine_error(sampler, problem, _BEFORE)
        bound = _ROUNDED if before is not None and before.size < _ROUNDED else _LEFT
        view, lo = sampler.view(model), torch.tensor(COARSE, dtype=torch.float64)
        mean, variance = (part[0] for part in problem.moments(COARSE))
        for away in (-1.0, 1.0):
            noised = problem.data((mean + away * variance.sqrt())[None])
            z = view.sde.encode(noised, keyed(1))
            z = drive(sampler, view, z, torch.stack([lo, lo.new_zeros(())]), keyed(1))
            left = (problem.coordinates(view.sde.decode_unchecked(z))[0] - problem.moments(0.0)[0][0]) / variance.sqrt()
            if not float(left.abs().max()) <= bound:
                found = f"the last step leaves {float(left.abs().max()):.2g} of one standard deviation of noise (bound {bound:g})"
                raise LawError(f"On {problem.title} {found}.")


def _no_walls(sampler: Sampler) -> str | None:
    return None if any(sampler.refuses(sde) is None for sde in (Box(), Stops())) else "It takes no process with a boundary rule."


@STEP_LAWS.law(excuses=_no_walls)
def walls_hold(sampler: Sampler) -> None:
    """No state leaves a set with walls, or one whose boundary rule refuses steps, and no score is asked for outside."""
    for sde in (Box(), Stops()):
        if sampler.refuses(sde) is not None:
            continue
        for steps, end in ((1, 0.2), (3, 0.2), (20, 0.2), (20, 1.4)):
            view = sampler.view(Guarded(sde, end))
            z, memory = sde.prior((_ROWS, 2), keyed(_ROWS), WIDE), None
            times = sampler.grid(view, steps)
            with torch.no_grad():
                for t, s in pairwise(times):
                    z, memory = sampler.step(view, z, t, s, keyed(_ROWS, int(1e6 * float(t))), memory)
                    outside = int((~sde.inside(z)).sum())
                    if outside:
                        raise LawError(f"{outside} of {_ROWS} states are outside of {sde.spec} at t = {float(s):.3g}, in {steps} steps.")


def _no_shared_noise(sampler: Sampler) -> str | None:
    return None if sampler.refuses(SharedNoise()) is None else "It takes no process whose entries share their noise."


@STEP_LAWS.law(excuses=_no_shared_noise)
def shared_noise_is_shared(sampler: Sampler) -> None:
    """If one Brownian motion drives all entries equally, their differences never change, and their mean has the right distribution."""
    sde, model = SharedNoise(), Guarded(SharedNoise())
    view = sampler.view(model)
    z = sde.prior((_ROWS, 3), keyed(_ROWS), WIDE)
    end = drive(sampler, view, z, sampler.grid(view, enough(sampler, 8)), keyed(_ROWS, 1))
    moved = ((end - end[:, :1]) - (z - z[:, :1])).abs().max()
    if not float(moved) < 1e-9:
        raise LawError(f"Entries that share their noise moved apart, by {float(moved):.3g}.")
    if torch.allclose(end, z):
        raise LawError("States do not move if entries share their noise.")
    # The guarded score is that of data whose entries have the mean 0.2. So at `t` the mean has the distribution `N(0.2, σ² t)`.
    times = torch.linspace(1.0, _SHARED_UNTIL, _SHARED_STEPS + 1, dtype=torch.float64)

    def means(start: Tensor, noise: Noise) -> Tensor:
        state = start + torch.linspace(-1, 1, 3, dtype=torch.float64)
        return drive(sampler, view, state, times, noise).mean(1, keepdim=True)

    found = normal_end(means, torch.tensor([0.2], dtype=torch.float64), torch.tensor([sde.sigma**2], dtype=torch.float64))
    if found is None:
        return
    deviation = sde.sigma * _SHARED_UNTIL**0.5
    mean, spread = (float(found.mean[0]) - 0.2) / deviation, float(found.covariance[0, 0]) / deviation**2
    if not (abs(mean) < _WRONG and abs(spread - 1) < _WRONG):
        raise LawError(
            f"The mean of entries that share their noise is off by {mean:.3g} deviations, its variance by the factor {spread:.3g}."
        )


def _no_still_entries(sampler: Sampler) -> str | None:
    return None if sampler.refuses(HalfStill()) is None else "It takes no process of which some entries have no noise."


@STEP_LAWS.law(excuses=_no_still_entries)
def entries_without_noise_have_no_score(sampler: Sampler) -> None:
    """Entries that no noise drives follow the drift alone, whatever the model says of their score."""
    sde, model = HalfStill(), Guarded(HalfStill())
    view = sampler.view(model)
    z = sde.prior((_ROWS, 4), keyed(_ROWS), WIDE)
    end = drive(sampler, view, z, sampler.grid(view, enough(sampler, 8)), keyed(_ROWS, 1))
    moved = (end - z).abs()[:, ~sde.moves(z)].max()
    if not float(moved) < 1e-9:
        raise LawError(f"Entries without drift and noise moved, by {float(moved):.3g}.")


def _claims_an_order(sampler: Sampler) -> str | None:
    if sampler.weak_order is not None:
        return "It declares a weak order, which is tested."
    return None if reference_problems(sampler, gaussian) else no_problem(sampler) or "It takes none of the reference processes."


@STEP_LAWS.law(excuses=_claims_an_order)
def likelihood_rises(sampler: Sampler) -> None:
    """A sampler that claims no order still raises the likelihood: its samples are more probable as data than its starts, and near them."""
    steps = max(enough(sampler, 200), 1000)
    for problem in reference_problems(sampler, _narrow):
        model, law = problem.model, problem.law
        view, noise = sampler.view(model), keyed(_ROWS)
        start = model.prior((_ROWS, 2), noise, WIDE)
        begin = problem.coordinates(model.sde.decode(start))
        z = drive(sampler, view, view.sde.encode(model.sde.decode(start), noise), sampler.grid(view, steps), noise)
        end = problem.coordinates(view.sde.decode_unchecked(z))
        zero = torch.zeros((), dtype=torch.float64)
        gain = law.log_density(end, zero) - law.log_density(begin, zero)
        if not float(gain.mean()) > _SURE * float(gain.std()) / _ROWS**0.5:
            raise LawError(f"On {problem.title} samples are {-float(gain.mean()):.3g} nats less probable than their starts.")
        before, after = (float(((rows - law.means[0]) ** 2).mean().sqrt()) for rows in (begin, end))
        if not after < _LEFT * before:
            raise LawError(f"On {problem.title} samples are {after:.3g} from the data's mean, and their starts {before:.3g}.")


def _tilted(sde: AffineSDE) -> Mixture:
    return gaussian(sde, (0.5, -0.6), (0.4, 0.8))


def _no_score_problem(sampler: Sampler) -> str | None:
    return None if reference_problems(sampler, _tilted) else no_problem(sampler) or "It takes none of the reference processes."


def _narrow(sde: AffineSDE) -> Mixture:
    return gaussian(sde, (0.3, -0.4), (0.1, 0.1))


def _reference(sampler: Sampler) -> str | None:
    if reference_problems(sampler, gaussian):
        return "It takes reference processes, on which its order, or the likelihood, is tried."
    return no_problem(sampler)


@STEP_LAWS.law(excuses=_reference)
def marginals_are_kept(sampler: Sampler) -> None:
    """With an exact model and many steps, states have the distributions of the process on the way, and the data at the end."""
    for model in _heavier(atoms_of(sampler)):
        _kept_on_the_way(sampler, model, _FEW_STEPS, _CROWD, _CLOSE)
        # Steps of any size are exact where the clean state is certain.
        if isinstance(model, BridgeAtoms):
            _kept_on_the_way(sampler, BridgeAtoms(model.sde, model.points[:1], model.ends), 4, 4 * _CROWD, _CLOSE / 4)
        elif isinstance(model.sde, ScaleMixture):
            for steps in (4, 32):  # errors of many short steps add up
                _kept_on_the_way(sampler, Atoms(model.sde, model.points[:1]), steps, 4 * _CROWD, _CLOSE / 4)


def _kept_on_the_way(sampler: Sampler, model: Atoms | BridgeAtoms, steps: int, count: int, bound: float) -> None:
    event = model.points.shape[1:]
    view, noise = sampler.view(model), Noise.seeded(1)
    times = sampler.grid(view, steps)
    z, memory, states = view.prior((count, *event), noise, WIDE), None, {}
    with torch.no_grad():
        for t, s in pairwise(times):
            z, memory = sampler.step(view, z, t, s, noise, memory)
            states[float(s)] = z
    for share in (0.7, 0.3, 0.0):
        s = min(states, key=lambda time: abs(time - share * float(times[0])))
        if s == 0 and steps < _FEW_STEPS:
            s = sorted(states)[1]
        t = torch.tensor(s, dtype=torch.float64)
        # At the end the data count: what else a state holds, such as a velocity, is left out.
        found = states[s] if s else model.sde.decode_unchecked(states[s])
        known = model.noised(t, count, noise) if s else model.points
        _alike(found.flatten(1), known.flatten(1), f"On {model.sde.spec}, at t = {s:.3g}, in {steps} steps,", bound)


def _no_named_data(sampler: Sampler) -> str | None:
    return None if _going_back(sampler) else "It takes no installed process that names data for which long steps back are exact."


def _going_back(sampler: Sampler) -> list[Any]:
    return [sde for _, sde in defaults(SDES) if isinstance(sde, Rewindable) and sampler.refuses(sde) is None and named(sde, 1)]


class _Untrained(Model[Any]):
    """The denoiser of a network that returns 0."""

    def __init__(self, sde: Any) -> None:
        self.sde = sde

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        raise LawError(f"{self.sde.spec} has no score, and the sampler asks for it.")

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:
        return self.sde.denoiser_from_output(torch.zeros_like(self.sde.network_input(z, t)), z, t)


@STEP_LAWS.law(excuses=_no_named_data)
def long_steps_back_are_exact(sampler: Sampler) -> None:
    """For data for which a process says that steps back of any length are exact, states have its distributions after each of four."""
    for sde in _going_back(sampler):
        kind, _, like = named(sde, 4 * _CROWD)[0]
        view, noise, memory = sampler.view(_Untrained(kind)), Noise.seeded(2), None
        times = sampler.grid(view, 5)[:-1]
        z = kind.perturb(kind.exact_data(like.shape, noise, like), times[0], noise)
        for t, s in pairwise(times):
            z, memory = sampler.step(view, z, t, s, noise, memory)
            known = kind.perturb(kind.exact_data(like.shape, noise, like), s, noise)
            _alike(z.flatten(1), known.flatten(1), f"On {kind.spec}, at t = {float(s):.3g}, in steps that are exact,", 2 * _CLOSE)


def _heavier(models: list[Atoms | BridgeAtoms]) -> Iterator[Atoms | BridgeAtoms]:
    """The models, and one point on the variant of each process whose noise is heaviest, which differs most from normal noise.

    The clean state is then certain: given more points, a step from their mean alone is not exact for such noise.
    """
    for model in models:
        yield model
        if isinstance(model, Atoms) and isinstance(model.sde, SelfDecomposable):
            every: list[Any] = variants(model.sde)
            exact = [kind for kind in every if not kind.inexact_increments]
            yield Atoms(min(exact, key=lambda kind: kind.tail), model.points[:1])


def _alike(found: Tensor, known: Tensor, where: str, bound: float) -> None:
    """Check that bounded moments agree to a bound and what chance adds."""
    pilot = known.double()
    low, centre, high = (torch.quantile(pilot, q, 0) for q in (0.16, 0.5, 0.84))
    width = ((high - low) / 2).clamp_min(_LEAST_WIDTH)
    left, right = (bounded_moments(rows.double(), centre, width) for rows in (found, known))
    chance = (left.var(0) / len(left) + (right.var(0) / len(right) if len(right) >= _CROWD else 0.0)).sqrt()
    off = (left.mean(0) - right.mean(0)).abs() - _SURE * chance
    if not float(off.max()) < bound:
        raise LawError(f"{where} mean and spread of the states are off by {float(off.max()):.3g} standard deviations.")


def _turn(x: Tensor) -> Tensor:
    """Rows of two entries `(B, 2)`, in the other order and in the shape `(B, 1, 2)`."""
    return x.flip(-1).unsqueeze(1)


def _back(u: Tensor) -> Tensor:
    return u.squeeze(1).flip(-1)


class _Turned(Model[Any]):
    """A model of turned rows."""

    def __init__(self, base: Model[Any]) -> None:
        self.base, self.sde = base, base.sde

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        return _turn(self.base.score(_back(z), t.squeeze(1) if t.ndim else t))

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:
        return _turn(self.base.denoise(_back(z), t.squeeze(1) if t.ndim else t))


class _TurnedNoise(Noise):
    """The numbers of another noise, for turned rows."""

    def __init__(self, base: Noise) -> None:
        self.base = base

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return self._turned(self.base.normal, like, tuple(like.shape if shape is None else shape))

    def uniform(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return self._turned(self.base.uniform, like, tuple(like.shape if shape is None else shape))

    def _turned(self, draw: Callable[[Tensor, Sequence[int]], Tensor], like: Tensor, shape: tuple[int, ...]) -> Tensor:
        flat = draw(like, (shape[0], math.prod(shape[1:])))
        return flat.flip(-1).reshape(shape)


@STEP_LAWS.law(excuses=_no_score_problem)
def entries_are_alike(sampler: Sampler) -> None:
    """In another order of the entries, and in another shape of the rows, samples are the same, if the process treats all entries alike."""
    for problem in reference_problems(sampler, _tilted):
        model, steps = problem.model, enough(sampler, 6)
        start = model.prior((5, 2), keyed(5), WIDE)
        ends = []
        for around, turned, noise in ((model, start, keyed(5, 1)), (_Turned(model), _turn(start), _TurnedNoise(keyed(5, 1)))):
            view = sampler.view(around)
            z = view.sde.encode(around.sde.decode(turned), noise)
            ends.append(drive(sampler, view, z, sampler.grid(view, steps), noise))
        close(f"On {problem.title} samples of turned rows, turned back,", _back(ends[1]), ends[0], rtol=1e-7, atol=1e-9)


def _unlike_any(sampler: Sampler) -> str | None:
    return "It says of no other sampler that it is the same." if equivalent(sampler, SAMPLERS) is None else no_problem(sampler)


@STEP_LAWS.law(excuses=_unlike_any)
def equivalence(sampler: Sampler) -> None:
    """Samples are, for the same noise, those of the sampler that `same_as` names."""
    found = equivalent(sampler, SAMPLERS)
    assert found is not None
    other, on = found
    models = [problem.model for problem in problems(sampler, gaussian)] if on is None else [gaussian(on)]  # pyright: ignore[reportArgumentType]
    for model in models:
        ours, theirs = (one.sample(model, (5, 2), enough(one, 6), 1, like=WIDE) for one in (sampler, other))
        close(f"The samples on {model.sde.spec}, compared with {other.spec},", ours, theirs, rtol=1e-8, atol=1e-10)
