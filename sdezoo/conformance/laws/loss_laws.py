"""Laws of losses: what training requires of every loss, and that its minimizer is the score.

A loss is tried on the reference processes that it accepts: one on the real line, one on the positive numbers, one that
hides that it is affine, and one whose network learns a denoiser instead of a score. If it accepts none of them, it is
tried on registered processes. The mathematics is tested on models that are linear in their parameters, see `linear_models`:

- if the model is the exact score, the expected gradient is zero at every time (Hyvärinen 2005; Vincent 2011);
- otherwise it is that of `λ(t) E ‖s_θ − s‖²`, if the loss claims a `weight`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import equivalent, typical
from sdezoo.conformance.bank.linear_models import BENDS, EXACT, Lesson, LinearModel, entry_gradients, expected, gradients, values
from sdezoo.conformance.bank.loss_trials import DenseSheared, Trial, accepted, computed, trials
from sdezoo.conformance.bank.problems import gaussian
from sdezoo.conformance.evidence import PValue, close, mean_is_zero, together
from sdezoo.conformance.law import LawError, Suite, Unstated
from sdezoo.conformance.laws.configuration import configuration_laws
from sdezoo.learning.loss import Batch, ScoreLoss
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise, mix
from sdezoo.process.process import Process, Supervised
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import LOSSES, SDES

LOSS_LAWS: Suite[ScoreLoss] = Suite(configuration_laws(ScoreLoss, computed))

_WIDE = (torch.float64,)
_SPANS, _ROWS, _BINS = 6, 2048, 10
_AWAY = torch.tensor([0.5, 1.0, -1.0, 1.0], dtype=torch.float64)
"""Offset from the optimum at which the gradient is compared."""
_NEWTON, _SURE, _SHOWN = 8, 4.5, 6
MEAN, DEVIATION = 0.3, 0.4
"""Mean and standard deviation of the normal coordinates that a linear model has to recover."""


def _no_process(loss: ScoreLoss) -> str | None:
    return None if accepted(loss) else "It accepts no installed process."


def _no_density(loss: ScoreLoss) -> str | None:
    return None if accepted(loss, dense=True) else "It accepts no installed process whose transition density is known."


@LOSS_LAWS.property_law(lambda loss: trials(loss, ends=(0.05, 0.95)), excuses=_no_process, first=True)
def contract(trial: Trial) -> None:
    """The loss is one finite number per sample, in the dtype of the data, with a finite gradient that reaches the network."""
    _check_value(trial, trial.model())


def _check_value(trial: Trial, model: Any) -> None:
    value, x0 = trial.value(model), trial.case.x0
    if value.shape != (len(trial),):
        raise LawError(f"The loss of {len(trial)} samples has shape {tuple(value.shape)}, and ({len(trial)},) was expected.")
    if value.dtype != x0.dtype or value.device != x0.device:
        raise LawError(f"The loss is {value.dtype} on {value.device}, and the data are {x0.dtype} on {x0.device}.")
    if not torch.isfinite(value).all():
        raise LawError(f"The loss is not finite: {value.tolist()}.")
    if not value.requires_grad:
        raise LawError("The loss does not depend on the network: it has no gradient.")
    found = torch.autograd.grad(value.sum(), list(model.parameters()), allow_unused=True)
    reached = [gradient for gradient in found if gradient is not None]
    if not all(torch.isfinite(gradient).all() for gradient in reached):
        raise LawError("The gradient of the loss is not finite.")
    if not any(gradient.abs().max() > 0 for gradient in reached):
        raise LawError("The gradient of the loss is zero for every parameter of the network.")


@LOSS_LAWS.property_law(lambda loss: trials(loss, dtypes=[torch.float32], ends=(0.05, 0.95)), excuses=_no_process, examples=25)
def network_in_bfloat16(trial: Trial) -> None:
    """A network can be trained in bfloat16, with every output parameterization; everything outside the network stays in float32."""
    model = trial.model()
    model.net.to(torch.bfloat16)
    _check_value(trial, model)
    for each in trial.outputs():
        silent = each.model()
        torch.nn.init.zeros_(silent.net.get_parameter("leave"))
        one = each.value(silent).detach()
        silent.net.to(torch.bfloat16)
        close(f"The loss of a network in bfloat16 that returns 0, output {each.output},", each.value(silent), one, rtol=1e-6, atol=1e-6)


@LOSS_LAWS.property_law(lambda loss: trials(loss, dtypes=_WIDE), excuses=_no_process, examples=15)
def keyed_noise_only(trial: Trial) -> None:
    """The loss takes randomness only from the noise that is passed in, and leaves torch's global generator untouched."""
    model, state = trial.model(), torch.get_rng_state()
    try:
        torch.manual_seed(1)
        one = trial.value(model)
        torch.manual_seed(2)
        kept = torch.get_rng_state()
        two = trial.value(model)
        untouched = torch.equal(torch.get_rng_state(), kept)
    finally:
        torch.set_rng_state(state)
    if not torch.equal(one, two):
        raise LawError("The loss differs between two calls with the same noise.")
    if not untouched:
        raise LawError("It draws from torch's global generator.")


@LOSS_LAWS.property_law(lambda loss: trials(loss, rows=4, shapes=[(1,), (2,), (3,), (4,), (2, 3)], dtypes=_WIDE), excuses=_no_process)
def rows_are_independent(trial: Trial) -> None:
    """The loss of a sample does not depend on its batch, also if the batch is as large as the event."""
    model, count = trial.model(), len(trial)
    whole = trial.value(model).detach()
    bound = 1e-9 * float(whole.abs().max())
    backwards = list(range(count))[::-1]
    close("The loss of the batch in reverse", trial.value(model, backwards), whole[backwards], rtol=1e-9, atol=bound)
    for i in range(count):
        close(f"The loss of row {i} alone", trial.value(model, [i]), whole[i : i + 1], rtol=1e-9, atol=bound)


@LOSS_LAWS.property_law(lambda loss: [one for end in (0.0, 1.0) for one in trials(loss, ends=(end, end))], excuses=_no_process)
def ends_of_time(trial: Trial) -> None:
    """The loss, its gradient and its claimed weight are finite at both ends of its `t_span`, and the weight is positive."""
    model = trial.model()
    (lo, hi), (first, last) = trial.case.sde.t_span, trial.loss.t_span(trial.case.sde)
    if not lo <= first <= last <= hi:
        raise LawError(f"Its times go from {first:g} to {last:g}, and those of the process from {lo:g} to {hi:g}.")
    _check_value(trial, model)
    z = trial.case.draw()
    weight = trial.loss.weight(model, trial.t, z)
    if weight is None:
        return
    if np.broadcast_shapes(weight.shape, z.shape) != z.shape or weight.dtype != z.dtype:
        raise LawError(f"The weight has shape {tuple(weight.shape)} and {weight.dtype}; the state has {tuple(z.shape)} and {z.dtype}.")
    if not (torch.isfinite(weight) & (weight > 0)).all():
        raise LawError(f"The weight is {float(weight.min()):g}; it must be positive and finite.")


@LOSS_LAWS.property_law(lambda loss: trials(loss, dtypes=_WIDE), excuses=_no_process, examples=15)
def condition(trial: Trial) -> None:
    """The labels of the batch reach the network, row by row; without labels the network gets `None`."""
    labels = torch.arange(1, len(trial) + 1)
    told, knows = trial.value(trial.model(), condition=labels), trial.value(trial.model(labels))
    close("The loss of a network that gets labels from the batch", told, knows, rtol=1e-9)


@LOSS_LAWS.property_law(lambda loss: trials(loss, dtypes=_WIDE, ends=(0.05, 0.95), reach=1.5), excuses=_no_process, examples=15)
def precision(trial: Trial) -> None:
    """In float64 nothing passes through float32: the loss responds to changes of 1e-9 at the same rate as to changes of 1e-5."""
    case = trial.case

    def moved(what: str, h: float) -> Tensor:
        model = trial.model()
        if what == "network":
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(h)
        x0 = typical(case.sde, case.normals + h) if what == "data" else case.x0
        return trial.value(model, x0=x0, t=trial.t * (1 + h) if what == "times" else trial.t).detach()

    for what in ("data", "network", "times"):
        base = moved(what, 0.0)
        coarse, fine = ((moved(what, h) - base) / h for h in (1e-5, 1e-9))
        bound = 0.3 * torch.maximum(coarse.abs(), fine.abs()) + 1e-3 * (1 + base.abs().max())
        if ((coarse - fine).abs() > bound).any():
            raise LawError(f"The rates of change of the loss with the {what} are {coarse.tolist()} over 1e-5, {fine.tolist()} over 1e-9.")


def lessons(loss: ScoreLoss) -> Iterator[tuple[Lesson, tuple[int, int]]]:
    """The lessons that a loss is tried on, over its whole `t_span`, each with the indices of its process and its span."""
    for i, sde in enumerate(accepted(loss, dense=True)):
        lo, hi = loss.t_span(sde)
        edges = [lo * (hi / lo) ** (j / _SPANS) for j in range(_SPANS + 1)]
        spans = zip(edges[:-1], [*edges[1:-1], hi], strict=True)
        yield from ((_lesson(loss, sde, *span, deep=j % 2 == 1), (i, j)) for j, span in enumerate(spans))


def _lesson(loss: ScoreLoss, sde: Process, first: float, last: float, deep: bool = False) -> Lesson:
    # A loss with a single time learns the score of the data themselves; the noise at that time must be negligible.
    lo, hi = loss.t_span(sde)
    return _prepared(sde, (first, last), 1.0 if lo == hi else None, deep)


# The data and features of a lesson do not depend on the seed.
_prepared = lru_cache(maxsize=64)(Lesson)


@LOSS_LAWS.monte_carlo_law(excuses=_no_density)
def minimizer(loss: ScoreLoss, seed: int) -> float:
    """At the true score the expected gradient is zero, for any times of the rows."""
    return together([_optimality(loss, lesson, _ROWS, seed, *place) for lesson, place in lessons(loss)])


def _optimality(loss: ScoreLoss, lesson: Lesson, count: int, *key: int) -> PValue:
    # If hardly a row could have come from another point, the mean of its gradients is that of a few, and has no normal distribution.
    return PValue(mean_is_zero(gradients(loss, lesson, EXACT, count, *key)) if lesson.blurred else 1.0, str(lesson))


@LOSS_LAWS.monte_carlo_law(excuses=_no_density)
def minimizer_at_the_first_time(loss: ScoreLoss, seed: int) -> float:
    """At the true score the expected gradient is zero at the first time, where the noise is smallest."""
    return _at_end(loss, seed, 0)


@LOSS_LAWS.monte_carlo_law(excuses=_no_density)
def minimizer_at_the_last_time(loss: ScoreLoss, seed: int) -> float:
    """At the true score the expected gradient is zero at the last time, where the noise is largest."""
    return _at_end(loss, seed, 1)


def _at_end(loss: ScoreLoss, seed: int, end: int) -> float:
    found = []
    for i, sde in enumerate(accepted(loss, dense=True)):
        t = loss.t_span(sde)[end]
        found.append(_optimality(loss, _lesson(loss, sde, t, t), 4 * _ROWS, seed, i, end))
    return together(found)


@LOSS_LAWS.law(excuses=_no_density)
def minimum(loss: ScoreLoss) -> None:
    """Away from the true score the expected loss is larger, in every direction."""
    units = torch.eye(1 + BENDS, dtype=torch.float64)
    tried = [(lesson, place, values(loss, lesson, EXACT, _ROWS, *place)[1].detach()) for lesson, place in lessons(loss)]
    for theta in torch.cat([EXACT + units, EXACT - units]):
        errors = []
        for lesson, place, least in tried:
            excess = values(loss, lesson, theta, _ROWS, *place)[1].detach() - least
            errors.append(float(excess.mean() / excess.std().clamp_min(1e-300)) * math.sqrt(_ROWS))
            if not errors[-1] > -_SURE:
                raise LawError(
                    f"Away from the true score the loss is smaller, by {-errors[-1]:.1f} standard errors.",
                    f"{lesson}, θ = {theta.tolist()}",
                )
        if not sum(errors) > _SURE * math.sqrt(len(errors)):
            raise LawError("Away from the true score the loss is not larger.", f"θ = {theta.tolist()}, over all processes and times")


def _no_weight(loss: ScoreLoss) -> str | None:
    for lesson, _ in lessons(loss):
        z, t = lesson.states(2, 0)
        if loss.weight(lesson.model(EXACT, 2), t, z) is None:
            return Unstated("It claims no weight.")
    return _no_density(loss)


@LOSS_LAWS.monte_carlo_law(excuses=_no_weight)
def gradient(loss: ScoreLoss, seed: int) -> float:
    """Away from the true score the expected gradient is that of `λ(t) E ‖s_θ − s‖²`, with the claimed weight `λ`."""
    theta, found = EXACT + _AWAY, []
    for lesson, place in lessons(loss):
        drawn = gradients(loss, lesson, theta, _ROWS, seed, *place)
        p = mean_is_zero(drawn - expected(loss, lesson, theta, _ROWS, seed, *place, 3))
        found.append(PValue(p, str(lesson), partial(_in_factors, loss, lesson, theta, (seed, *place))))
    return together(found)


def _in_factors(loss: ScoreLoss, lesson: Lesson, theta: Tensor, key: tuple[int, ...]) -> str:
    """By which factor the gradient differs from the claimed one, entry by entry."""
    drawn, claimed = entry_gradients(loss, lesson, theta, _ROWS, *key)
    factors = ((drawn * claimed).sum(0) / (claimed**2).sum(0)).flatten().tolist()
    listed = ", ".join(f"{factor:.3g}" for factor in factors[:_SHOWN]) + (", …" if len(factors) > _SHOWN else "")
    return f"The gradient is {listed} times the claimed one, in entries 1 to {min(len(factors), _SHOWN)} of {len(factors)}."


def _no_matrix(loss: ScoreLoss) -> str | None:
    return None if loss.refuses(DenseSheared()) is None else "It takes no process whose noise is a matrix."


@LOSS_LAWS.monte_carlo_law(excuses=_no_matrix)
def minimizer_with_matrix_noise(loss: ScoreLoss, seed: int) -> float:
    """At the true score the expected gradient is zero also if the noise is a matrix that depends on the state."""
    lo, hi = loss.t_span(sde := DenseSheared())
    edges = [lo, 0.05, 0.3, hi]
    found = [_lesson(loss, sde, first, last) for first, last in pairwise(edges)]
    return together([_optimality(loss, lesson, _ROWS, seed, 9, j) for j, lesson in enumerate(found)])


@cache
def _walled(loss: ScoreLoss) -> Process | None:
    """An installed process with a positive density at a wall, which is known, that the loss takes."""
    for _, sde in defaults(SDES):
        if sde.reflecting_boundary and isinstance(sde, Supervised) and sde.knows_density and loss.refuses(sde) is None:
            return sde
    return None


def _no_walls(loss: ScoreLoss) -> str | None:
    return "It takes no installed process with walls and a known density." if _walled(loss) is None else None


@LOSS_LAWS.monte_carlo_law(excuses=_no_walls)
def minimizer_at_walls(loss: ScoreLoss, seed: int) -> float:
    """At the true score the expected gradient is zero also if the density is positive at walls."""
    sde = _walled(loss)
    assert sde is not None
    _, hi = loss.t_span(sde)
    lesson = _lesson(loss, sde, 0.2 * hi, hi)
    return _optimality(loss, lesson, 2 * _ROWS, seed, 8)


@LOSS_LAWS.monte_carlo_law(excuses=_no_weight)
def weight_at_every_time(loss: ScoreLoss, seed: int) -> float:
    """The second derivative of the loss in the score is twice the claimed weight, in each tenth of the time and each decade of it."""
    found = []
    for i, sde in enumerate(accepted(loss, dense=True)):
        lo, hi = loss.t_span(sde)
        if lo == hi:
            continue
        lesson, key = _lesson(loss, sde, lo, hi), (seed, i, 7)
        x0, t = lesson.data(_ROWS, *key)
        bins = torch.linspace(0, 1, _BINS + 1, dtype=torch.float64)[1:]
        t[::2] = lo + (hi - lo) * (t[::2].log() - math.log(lo)) / math.log(hi / lo)  # half of them uniform, half in their logarithm
        z, unit = sde.perturb(x0, t, Noise.seeded(*key, 2)), torch.eye(len(EXACT))[1]
        slopes = []
        for theta in (EXACT, EXACT + unit):
            model = lesson.model(theta, _ROWS)
            slopes.append(torch.autograd.grad(loss(model, Batch(x0), t, Noise.seeded(*key, 2)).sum(), model.theta)[0][:, 1])
        with torch.no_grad():
            weight = loss.weight(lesson.model(EXACT, _ROWS), t, z)
            assert weight is not None
            claimed = (2 * weight * lesson.features(z, t)[:, 1] ** 2).flatten(1).sum(1)
        off, places = slopes[1] - slopes[0] - claimed, []
        for share in ((t - lo) / (hi - lo), (t / lo).log() / math.log(hi / lo)):
            places += [(share.reshape(-1) <= b) & (share.reshape(-1) > b - 1 / _BINS) for b in bins.tolist()]
        size = [float(claimed[place].mean().abs().clamp_min(1e-300)) for place in places]
        rows = torch.stack([place * off / (s * place.double().mean().clamp_min(1e-9)) for place, s in zip(places, size, strict=True)], 1)
        # Rounding is not a difference.
        found.append(PValue(mean_is_zero((rows * 1e7).round() / 1e7), sde.spec))
    return together(found or [PValue(1.0, loss.spec)])


def _not_affine(loss: ScoreLoss) -> str | None:
    return None if any(isinstance(sde, AffineSDE) for sde in accepted(loss)) else "It accepts no installed affine process."


@LOSS_LAWS.monte_carlo_law(excuses=_not_affine)
def recovers_a_normal_law(loss: ScoreLoss, seed: int) -> float:
    """A model `a z + b` learns `N(0.3, 0.4²)` in coordinates (log-normal data for `x = exp z`): `a = −1/V`, `b = M/V`."""
    found = []
    for i, sde in enumerate(sde for sde in accepted(loss) if isinstance(sde, AffineSDE)):
        lo, hi = loss.t_span(sde)
        ratios = torch.tensor([0.5, 2.0], dtype=torch.float64) * DEVIATION
        for j, t in enumerate(sde.time_at(ratios).tolist() if lo < hi else [lo]):
            alpha, shift, v = (float(k) for k in sde.coefficients(torch.tensor(t, dtype=torch.float64)))
            mean, variance = alpha * MEAN + shift, alpha**2 * DEVIATION**2 + v
            truth = torch.tensor([-1 / variance, mean / variance], dtype=torch.float64)
            theta, influence = _minimized(loss, sde, t, (seed, i, j))
            found.append(PValue(mean_is_zero(theta - truth + influence), f"{sde.spec}, t = {t:.4g}, a and b near {theta.tolist()}"))
    return together(found)


def _minimized(loss: ScoreLoss, sde: AffineSDE, t: float, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """`θ̂ = (a, b)` by Newton's method, and the influence of each sample, `−H⁻¹ ∂ℓ_i`, `(n, 2)`, whose covariance is the sandwich."""
    count = 4 * _ROWS
    x0 = sde.decode(gaussian(sde, [MEAN], [DEVIATION]).clean(count, mix(*key)))
    times = torch.full((count, 1), t, dtype=torch.float64)

    def rows(theta: Tensor) -> Tensor:
        model = LinearModel(sde, lambda z, _: torch.stack([z, torch.ones_like(z)], 1), theta.repeat(count, 1), 1)
        value = loss(model, Batch(x0), times, Noise.seeded(*key, 2))
        return torch.autograd.grad(value.sum(), model.theta)[0]

    def newton(theta: Tensor) -> Tensor:
        at = rows(theta)
        hessian = torch.stack([(rows(theta + unit) - at).mean(0) for unit in 1e-3 * torch.eye(2, dtype=torch.float64)], 1) / 1e-3
        if not hessian.isfinite().all() or torch.linalg.matrix_rank(hessian) < len(theta):
            at = theta.tolist()
            raise LawError(f"The expected loss has no curvature at a, b = {at}, so that Newton's method cannot find its minimum.")
        return -torch.linalg.solve(hessian, at.T).T

    theta = torch.tensor([-1.0, 0.0], dtype=torch.float64)
    # One step reaches the minimum of a loss that is quadratic in the score, as nearly all are. The others may need more.
    for _ in range(_NEWTON):
        influence = newton(theta)
        if float(influence.mean(0).abs().max()) < 1e-8 * float(theta.abs().max()):
            return theta, influence
        theta = theta + influence.mean(0)
    raise LawError(f"Newton's method finds no minimum: after {_NEWTON} steps a, b = {theta.tolist()}.")


def _unlike_any(loss: ScoreLoss) -> str | None:
    return "It says of no other loss that it is the same." if equivalent(loss, LOSSES) is None else _no_process(loss)


@LOSS_LAWS.property_law(lambda loss: trials(loss, dtypes=_WIDE, ends=(0.05, 0.95)), excuses=_unlike_any, examples=15)
def equivalence(trial: Trial) -> None:
    """The loss is, sample by sample, the one that `same_as` names."""
    found = equivalent(trial.loss, LOSSES)
    if found is None or (found[1] is not None and type(trial.case.sde) is not type(found[1])):
        return
    other, model = replace(trial, loss=found[0]), trial.model()
    if found[0].refuses(trial.case.sde) is None:
        close(f"The loss, compared with {found[0].spec},", trial.value(model), other.value(model), rtol=1e-9, atol=1e-12)
