"""Laws of processes whose network learns a denoiser, tested on samples.

Like those of `sdezoo.conformance.laws.draw_laws`, they are exact identities of expectations, for a bump `φ`:

- the flow of an interpolant: `E φ(z_b) − E φ(z_a) = (b − a) E[v·∇φ(z_u)]`, `u` uniform on `[a, b]`. The velocity
  `v = α' z_0 + σ' e`, which its `target` gives, is linear in `z_0`, so that its mean given `z_u` is the velocity of the flow;
- the target: `E[(y − E[y | z_t]) φ(z_t)] = 0` for `y = target`, the conditional mean taken over a few data points.

Noise with increments of its own kind is compared, by bounded functions of the state, with the samples of `perturb`:

- `(α_t/α_s) z_s + Δ` has the distribution of `z_t`, `Δ` the increment from `s` to `t`, with independent entries if the noise has them;
- a step back in time, given the clean state, has the mean of the earlier state, and many short ones have its distribution;
- the noise at `t` over `√V_t` is standard normal for every `V_t`, and `√V_s ε` and `√(V_t − γ² V_s) ε'` are independent, the noise at `s`
  and `Δ`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import busy, event_at, inside, smallest_event, variants
from sdezoo.conformance.bank.problems import Atoms
from sdezoo.conformance.bank.reference_laws import named
from sdezoo.conformance.evidence import ROWS, Bumps, PValue, close, mean_is_zero, means_are_equal, path_features, paths_agree, together
from sdezoo.conformance.law import LawError, Suite
from sdezoo.conformance.laws.calculus_laws import no_density
from sdezoo.conformance.laws.draw_laws import PATHS, PLACES, STARTS, WINDOWS, Draws, both, refined
from sdezoo.process.interpolant import Interpolant, ScaleMixture, SelfDecomposable
from sdezoo.process.noise import Noise, mix
from sdezoo.process.process import Denoised, Process
from sdezoo.process.rewindable import Rewindable

DENOISER_LAWS: Suite[Process] = Suite()


def _no_interpolant(sde: Process) -> str | None:
    return None if isinstance(sde, Interpolant) else "It is not an interpolant of data and noise."


@DENOISER_LAWS.monte_carlo_law(excuses=_no_interpolant)
@both
def flow_has_the_marginals(sde: Any, seed: int) -> float:
    """The flow of the denoiser that a network learns has the marginal distributions of the samples of `perturb`."""
    found = []
    for (first, last), start in zip(WINDOWS, PLACES, strict=True):
        draws = Draws(sde, start, seed)
        a, b, x0 = draws.time(first), draws.time(last), draws.data(ROWS)
        bumps = draws.bumps(a, b)
        u = draws.noise().uniform(torch.empty((), dtype=torch.float64), (ROWS, *(1,) * (len(sde.state_shape(x0.shape)) - 1)))
        t = a + (b - a) * u
        # Use the same noise at each time: a path is linear in it, so that the terms nearly cancel row by row.
        begin, end, z = (sde.perturb(x0, time, Noise.seeded(draws.seed, 0)).double() for time in (a, b, t))
        velocity = sde.velocity(z, t, sde.target(z, x0, t)).flatten(1)
        along = (bumps.derivatives(z.flatten(1))[0] * velocity[:, None]).sum(-1)
        change = bumps.value(end.flatten(1)) - bumps.value(begin.flatten(1))
        found.append(draws.at(mean_is_zero(change - (b - a) * along), a, b))
    return together(found)


def _no_mean(sde: Process) -> str | None:
    return (None if isinstance(sde, Denoised) else "Its network does not learn a denoiser.") or no_density(sde)


@DENOISER_LAWS.monte_carlo_law(excuses=_no_mean)
@both
def target_has_its_mean(sde: Any, seed: int) -> float:
    """The mean of `target` given the noised state is the one that the transition density implies."""
    found = []
    # Counts near each other are the same in some entries and certain in others; one entry tells them apart.
    event = smallest_event(sde) if sde.support.is_discrete else event_at(sde, STARTS[2])
    for k, share in enumerate((0.0, 0.3, 0.6, 1.0)):
        draws = Draws(sde, 0.0, mix(seed, k), event)
        t, noise = draws.time(share), draws.noise()
        near = min(1.0, float(sde.scale(t)))  # if the points were further apart than the noise is wide, there would be nothing to average
        model = Atoms(sde, torch.cat([Draws(sde, near * start, 0, event).point for start in STARTS]))
        x0 = model.clean(ROWS, noise)
        z = sde.perturb(x0, t, noise)
        if sde.support.is_discrete and int((z != sde.encode(x0)).flatten(1).any(1).sum()) < _SEEN:
            continue  # what happens so rarely has no normal mean
        bumps = Bumps.fitted(z[:2048].flatten(1), lambda c, d=draws, z=z: d.inside(c.reshape(-1, *z.shape[1:])), seed=draws.seed)
        error = (sde.target(z, x0, t) - model.predict(z, t)).flatten(1)
        rows = bumps.value(z.flatten(1))[..., None] * error[:, None]
        found.append(draws.at(mean_is_zero(rows.flatten(1)), t))
    return together(found)


_SEEN = 64
"""Least number of noised states that differ from their data, if states are discrete."""


def _no_increments(sde: Process) -> str | None:
    if not isinstance(sde, SelfDecomposable):
        return "Its noise does not say that it is self-decomposable."
    return f"Its increments need {sde.inexact_increments}." if sde.inexact_increments else None


def _alike(left: Tensor, right: Tensor) -> float:
    """p-value of two samples, `(n, k)` each, having one distribution."""
    pilot = torch.cat([left[:2048], right[:2048]])
    centre = pilot.median(0).values
    usual = (pilot - centre).abs().mean(0)

    def features(rows: Tensor) -> Tensor:
        # Sizes of several entries may go together where their signs do not.
        sizes = ((rows - centre).abs() / usual.clamp_min(1e-12) - 1).clamp(max=3)
        return torch.cat([path_features(rows, pilot, _SHARES), sizes.sum(1, keepdim=True) ** 2 - (sizes**2).sum(1, keepdim=True)], 1)

    return means_are_equal(features(left), features(right))


_SHARES = (0.02, 0.1, 0.3, 0.7, 0.9, 0.98)
_SPANS = ((0.05, 0.1), (0.2, 0.5), (0.6, 0.65), (0.1, 1.0))


def _spans(sde: Any, seed: int) -> Iterator[tuple[Draws, Tensor, Tensor]]:
    """Draws of several data points, each with an earlier and a later time."""
    for (first, last), start in zip(_SPANS, PLACES, strict=True):
        draws = Draws(sde, start, seed, event_at(sde, STARTS[2]))
        yield draws, draws.time(first), draws.time(last)


def _indices(law: Callable[[Any, int], float]) -> Callable[[Any, int], float]:
    """Apply a Monte-Carlo law to the variants of the process that do not say that their increments are inexact."""

    def p_value(sde: Any, seed: int) -> float:
        every: list[Any] = variants(sde)
        exact = [kind for kind in every if not kind.inexact_increments]
        return together([law(kind, seed + 1000 * k) for k, kind in enumerate(exact)])

    p_value.__name__, p_value.__doc__ = law.__name__, law.__doc__
    return p_value


@DENOISER_LAWS.monte_carlo_law(excuses=_no_increments)
@_indices
def increments_keep_the_noise(sde: Any, seed: int) -> float:
    """A noised state, shrunk, plus the increment of the noise from there to a later time has the distribution of the state at that time."""
    found = []
    for draws, s, t in _spans(sde, seed):
        z = draws.states(s)
        later = sde.mix(t).alpha / sde.mix(s).alpha * z + sde.increment(z, t, s, draws.noise()).double()
        found.append(draws.at(_alike(later.flatten(1), draws.states(t).flatten(1)), s, t))
        if sde.knows_density and sde.log_prob(z[:1], draws.data(1), t).shape == z[:1].shape:
            found.append(draws.at(_apart(*(sde.increment(z, t, s, draws.noise()).double().flatten(1) for _ in range(2))), s, t))
    return together(found)


def _apart(one: Tensor, other: Tensor) -> float:
    """p-value of the entries of rows being independent, from two samples, `(n, k)` each: products of their differences have mean 0."""
    usual = one.abs().mean(0).clamp_min(1e-12)
    parts = [[torch.tanh(rows / usual), (rows.abs() / usual).clamp(max=3), (rows == 0).double()] for rows in (one, other)]
    off = [a - b for a, b in zip(*parts, strict=True)]
    return mean_is_zero(torch.stack([d[:, i] * d[:, j] for d in off for j in range(one.shape[1]) for i in range(j)], 1))


def _no_way_back(sde: Process) -> str | None:
    return None if isinstance(sde, Rewindable) else "It does not say how to go back in time without a score."


_BACK = ((0.1, 1.0), (0.2, 0.5), (0.3, 0.9), (0.6, 1.0))
"""Earlier and later times of steps back: one step, twice, and many short ones, so that the distribution is right too."""
_MANY = 64


@DENOISER_LAWS.monte_carlo_law(excuses=_no_way_back)
@both
def earlier_states_have_the_marginals(sde: Any, seed: int) -> float:
    """Given the clean state, a step back in time has the mean of the earlier state, and many short steps have its distribution."""
    return refined(lambda finer: _by_steps_back(sde, seed, finer * _MANY))


def _by_steps_back(sde: Any, seed: int, steps: int) -> float:
    found = []
    for k, ((first, last), start) in enumerate(zip(_BACK, PLACES, strict=True)):
        draws = Draws(sde, start, seed)
        s, t = draws.time(first), draws.time(last)

        def back(count: int, rows: int, draws: Draws = draws, s: Tensor = s, t: Tensor = t) -> Tensor:
            z, clean, noise = draws.states(t, rows), sde.encode(draws.data(rows)).double(), draws.noise()
            for late, early in pairwise(torch.linspace(float(t), float(s), count + 1, dtype=torch.float64)):
                z = sde.earlier(z, clean, late, early, noise).double()
            return z.flatten(1)

        if k < 2:
            p = means_are_equal(back(1, ROWS), draws.states(s).flatten(1))
        else:
            known = [draws.states(s, rows).flatten(1) for rows in (PATHS, 4 * PATHS)]
            p = paths_agree(back(steps, PATHS), back(2 * steps, PATHS), *known)
        found.append(draws.at(p, s, t))
    return together(found)


_WIDER = 0.2
"""Largest logarithm of the ratio of the spreads of data that are named and data that were given; 8192 rows may be off by a tenth of it."""


def _no_exact_data(sde: Any) -> str | None:
    if reason := _no_way_back(sde):
        return reason
    return None if named(sde, ROWS) else "It names no data for which long steps are exact."


@DENOISER_LAWS.monte_carlo_law(excuses=_no_exact_data)
def long_steps_are_exact_where_it_says(sde: Any, seed: int) -> float:
    """For the data that it names, a long step back by the network output 0 has the distribution of the earlier state."""
    found = []
    for kind, data, like in named(sde, ROWS):
        like_these = kind.exact_data(like.shape, Noise.seeded(mix(seed, 2)), like)
        wide, known = (float(rows.double().flatten(1).std(0, correction=0)[0]) for rows in (like_these, data))
        if abs(math.log(wide / known)) > _WIDER:
            said = f"The data that it names have the spread {wide:.3g}; those given, {known:.3g}."
            return PValue(0.0, kind.spec, lambda said=said: said)
    kind, _, like = named(sde, ROWS)[0]
    for k, (first, last) in enumerate(((0.1, 1.0), (0.2, 0.5))):
        draws = Draws(kind, STARTS[2], mix(seed, k), tuple(like.shape[1:]))
        s, t = draws.time(first), draws.time(last)
        z = kind.perturb(kind.exact_data(like.shape, draws.noise(), like), t, draws.noise())
        denoised = kind.denoiser_from_output(torch.zeros_like(z), z, t)
        back = kind.earlier(z, denoised, t, s, draws.noise())
        known = kind.perturb(kind.exact_data(like.shape, draws.noise(), like), s, draws.noise())
        found.append(draws.at(_alike(back.double().flatten(1), known.double().flatten(1)), s, t))
    return together(found)


@DENOISER_LAWS.law(excuses=_no_way_back)
def last_steps_end_in_the_support(sde: Any) -> None:
    """The last step back, to `t = 0`, ends in the support, without noise unless data are discrete; given the clean state, there."""
    for kind, start, share in product(dict.fromkeys((sde, busy(sde))), STARTS, (0.0, 0.6)):
        draws = Draws(kind, start, 0)
        t, zero = draws.time(share), torch.zeros((), dtype=torch.float64)
        z = draws.states(t, _LAST)
        clean = kind.denoiser_from_output(draws.noise().normal(kind.network_input(z, t)), z, t)
        end, other = (kind.earlier(z, clean, t, zero, draws.noise()) for _ in range(2))
        at = f"{kind.spec}, t = {float(t):.3g}"
        if not (kind.support.is_discrete or torch.equal(end, other)):  # whole numbers may be drawn, with the denoiser for their mean
            raise LawError("The last step, to t = 0, draws noise: it ends elsewhere for another seed.", at)
        known = kind.encode(draws.data(_LAST))
        close(
            "The end of the last step by the clean state", kind.earlier(z, known.to(z), t, zero, draws.noise()), known, rtol=1e-6, atol=1e-9
        )
        outside = int((~inside(kind, end)).sum())
        if outside:
            raise LawError(f"After the last step {outside} of {_LAST} rows are outside of the support.", at)


_LAST = 256


@DENOISER_LAWS.law(excuses=_no_way_back)
def short_steps_take_the_mean(sde: Any) -> None:
    """A short step back by the mean of two clean states moves by the mean of the steps by each."""
    for last, first in ((0.5, 0.45), (0.9, 0.85)):
        draws = Draws(sde, _FEW[0], 0)
        t, s, count = draws.time(last), draws.time(first), 4 * ROWS
        z = draws.states(t, count)
        clean = [sde.encode(Draws(sde, start, 0).point).double().expand_as(z) for start in _FEW]
        steps = [sde.earlier(z, x, t, s, draws.noise()).double() - z for x in (*clean, sum(clean) / 2)]
        low, high, middle = (rise.flatten(1) for rise in steps)
        found, known = middle.mean(0), (low.mean(0) + high.mean(0)) / 2
        error = ((middle.var(0) + low.var(0) / 4 + high.var(0) / 4) / count).sqrt()
        if ((found - known).abs() > 5 * error + 0.05 * known.abs()).any():
            at = f"t = {float(t):.3g}, s = {float(s):.3g}"
            raise LawError(f"A step by the mean of two clean states moves by {float(found[0]):.4g}, not {float(known[0]):.4g}.", at)


_FEW = (-1.7, -1.2)
"""Two clean states, as normal numbers: of counts one and two items, whose mean is no whole number."""


@DENOISER_LAWS.law(excuses=_no_way_back)
def steps_differ_least_at_the_mean(sde: Any) -> None:
    """Steps back from what the prior leaves differ from those by a few clean states least, on average, if they are by the mean of these."""
    draws = Draws(sde, 0.0, 0)
    points = torch.cat([Draws(sde, start, 0, tuple(draws.point.shape[1:])).point for start in STARTS])
    clean = sde.encode(points).double()
    # No weights that any sum of others balances, as the median would.
    weights = (2.0 ** torch.arange(len(points))).double().reshape(-1, *(1,) * (clean.ndim - 1))
    weights /= weights.sum()
    z = sde.prior(points[:1].shape, draws.noise(), points).double().expand_as(clean)
    for last, first in ((0.3, 0.25), (0.9, 0.2)):
        t, s = draws.time(last), draws.time(first)
        at = f"t = {float(t):.3g}, s = {float(s):.3g}"
        guess = (weights * clean).sum(0).expand_as(clean).clone().requires_grad_()
        found = sde.step_divergence(z, guess, points, t, s)
        if not bool((found >= -1e-9 * found.abs().max()).all()):
            raise LawError(f"The divergence is negative, {float(found.min()):.3g}.", at)
        (slope,) = torch.autograd.grad((weights * found).sum(), guess)
        if not bool((slope.sum(0).abs() <= 1e-6 * slope.abs().sum(0)).all()):
            share = float((slope.sum(0).abs() / slope.abs().sum(0)).max())
            raise LawError(
                f"Its mean has a slope at the mean, {share:.1%} of the slopes of the points.", f"t = {float(t):.3g}, s = {float(s):.3g}"
            )


def _no_mixture(sde: Process) -> str | None:
    return _no_increments(sde) or (
        None if isinstance(sde, ScaleMixture) else "Its noise does not say that it is normal given its variance."
    )


@DENOISER_LAWS.monte_carlo_law(excuses=_no_mixture)
@_indices
def variances_make_the_noise(sde: Any, seed: int) -> float:
    """Normal numbers times the roots of the random variances, at a time and at an earlier one, are the noise and its increment."""
    found = []
    for draws, s, t in _spans(sde, seed):
        shrink = sde.mix(t).alpha / sde.mix(s).alpha
        y = draws.states(t) - sde.mix(t).alpha * sde.encode(draws.data(ROWS)).double()
        variance = sde.variance_given(y, t, draws.noise())
        earlier = sde.earlier_variance(variance, t, s, draws.noise())

        def normal(like: Tensor, draws: Draws = draws) -> Tensor:
            return draws.noise().normal(like).flatten(1)

        size = variance.log().reshape(ROWS, -1)[:, :1]
        known = [torch.cat([rows, size], 1) for rows in ((y / variance.sqrt()).flatten(1), normal(y))]
        parts = (earlier, variance - shrink**2 * earlier)
        made = torch.cat([part.clamp(min=0).sqrt().reshape(ROWS, 1) * normal(y) for part in parts], 1)
        noise = draws.states(s) - sde.mix(s).alpha * sde.encode(draws.data(ROWS)).double()
        drawn = torch.cat([noise.flatten(1), sde.increment(y, t, s, draws.noise()).double().flatten(1)], 1)
        found += [draws.at(_alike(*known), t), draws.at(_alike(made, drawn), s, t)]
    return together(found)
