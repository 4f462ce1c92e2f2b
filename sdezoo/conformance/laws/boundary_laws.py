"""Laws of the ends of a process, of its boundary and of its exact transitions, tested on samples.

Identities of expectations that hold exactly, so the p-values of a correct process are uniform. `D = g gᵀ`, and `u` is the state in units of
its spread around its median:

- the prior:       it is the distribution of fully noised data, to 0.01 nats an entry
- the start:       `perturb(x_0, 0)` has the distribution of `encode(x_0)`, auxiliaries included
- no walls:        `E[φ (D s + ∇·D)_i + (D ∇φ)_i] = 0`, `φ = exp(−u²/8)` and `u_i φ`, which do not vanish where a wall would be
- stationary:      the same under `π` for the stationary score, with bumps
- transitions:     `perturb` to `s`, then `transition` from `s` to `t`, has the distribution of `perturb` to `t`
- its reversal:    `reverse_transition` has the distribution of paths of the reverse SDE with the score of `π`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from sdezoo.conformance.bank.cases import busy, events, smallest_event, typical
from sdezoo.conformance.evidence import ROWS, bounded_moments, gap_in_nats, mean_is_zero, means_are_equal, paths_agree, together
from sdezoo.conformance.law import LawError, Suite
from sdezoo.conformance.laws.calculus_laws import no_score, no_sde
from sdezoo.conformance.laws.draw_laws import PATHS, STARTS, Draws, both, drawn_by_simulation, extrapolated
from sdezoo.process.affine import AffineSDE
from sdezoo.process.bridge import Bridge
from sdezoo.process.interpolant import Interpolant
from sdezoo.process.noise import Noise, mix
from sdezoo.process.process import Process, Shape
from sdezoo.process.sde import ForwardSDE, Stationary

BOUNDARY_LAWS: Suite[Process] = Suite()

GAP = 0.01
"""Largest allowed gap between the prior and the distribution of fully noised data, in nats."""

_SIMULATED = 2**13
_WIDTH = 2.0
_ENTRIES = 6


def _no_origin(sde: Process) -> str | None:
    if isinstance(sde, ForwardSDE) and not sde.forgets_data:
        return "Its data need not forget where they started."
    if isinstance(sde, AffineSDE) and not sde.coordinates.bijective:
        return "No data lie at the origin of its coordinates."
    return None


def _joint(sde: Process) -> Shape:
    """Two entries, so that a prior whose entries depend on each other shows."""
    return next((event for event in events(sde) if torch.Size(event).numel() > 1), smallest_event(sde))


def _mixes_in_noise(sde: Process) -> bool:
    return isinstance(sde, Interpolant)


def _origins(sde: Process) -> tuple[tuple[float, ...], bool]:
    """Data to start from, and whether all of them have to be forgotten. A fitted prior takes the place of that of an affine process."""
    if isinstance(sde, AffineSDE):
        return (0.0,), sde.prior_from_data
    return (STARTS, True) if _mixes_in_noise(sde) else ((*STARTS, 2.0, -2.0), sde.prior_from_data)


@BOUNDARY_LAWS.law(excuses=_no_origin)
def prior_gap(sde: Any) -> None:
    """The prior is that of fully noised data, to 0.01 nats an entry: all data if it adapts or mixes in noise, else one, or the origin."""
    for kind in dict.fromkeys((sde, _measuring(busy(sde, scaled=False), sde))):  # with other numbers data may not be forgotten
        (starts, every), blurred = _origins(kind), _mixes_in_noise(kind)
        gaps = {}
        for start in starts:
            draws, count, whole = Draws(kind, start, 0, _joint(kind)), 2**15, kind
            last = torch.tensor(kind.t_span[1], dtype=torch.float64)
            if not every:
                draws.point = typical(kind, start * torch.ones(1, *_joint(kind), dtype=torch.float64))
            if isinstance(kind, Bridge):  # its prior starts at the origin
                draws.point = kind.decode(torch.zeros_like(kind.encode(draws.point, draws.noise())))
            if kind.prior_from_data:  # data at many points: the prior keeps how they spread
                count = count if getattr(kind, "knows_transition", True) else _SIMULATED
                data = typical(kind, start + draws.noise().normal(draws.point, (count, *draws.point.shape[1:])))
                if (whole := kind.adapted(data)) == kind:  # what it was given is of other data
                    break
                noised = kind.perturb(data, last, draws.noise()).double().flatten(1)
            else:
                noised = draws.states(last, count).flatten(1)
            shape = (count, *draws.point.shape[1:])
            prior = whole.prior(shape, draws.noise(), draws.point).double().flatten(1)
            if blurred:  # noise of few values lies elsewhere for other data; blurring can only lower the gap
                noised, prior = (rows + prior.std(0) * draws.noise().normal(rows) for rows in (noised, prior))
            gaps[start] = gap_in_nats(noised, prior)
            if gaps[start] <= GAP and not every:  # some data are enough
                break
        start = (max if every else min)(gaps, key=lambda s: gaps[s], default=0.0)
        if gaps.get(start, 0.0) > GAP:
            x0 = [round(x, 4) for x in Draws(kind, start, 0, _joint(kind)).point.flatten().tolist()]
            at = f"{kind.spec}, x0 = {x0}"
            raise LawError(f"The prior is {gaps[start]:.3f} nats an entry from fully noised data (bound {GAP:g}).", at)


def _measuring(kind: Any, sde: Any) -> Any:
    """A variant whose prior is that of data, without what it would measure of them."""
    if not kind.prior_from_data:
        return kind
    measured = sde.adapted(_spread(sde, _joint(sde), 64, 1.0)).parameters()
    return replace(kind, **{key: None for key, value in sde.parameters().items() if value is None and measured[key] is not None})


def _not_adapted(sde: Process) -> str | None:
    if isinstance(sde, Bridge):
        return "It ends in data."
    event = _joint(sde)
    near, far = (sde.adapted(_spread(sde, event, 64, width)) for width in _SPREADS)
    return _no_origin(sde) or (None if near != far and not near.prior_from_data else "It adapts to no spread of the data.")


_SPREADS = (0.01, 1.0)
"""Of the data, as normal numbers that `typical` maps into the support."""
_WIDER = 100.0
"""A third spread, for data on the whole real line."""


def _spread(sde: Process, event: Shape, count: int, width: float) -> Tensor:
    normals = Noise.seeded(5).normal(torch.zeros(count, *event, dtype=torch.float64))
    return typical(sde, width * normals)


@BOUNDARY_LAWS.law(excuses=_not_adapted)
def prior_fits_what_it_adapts_to(sde: Any) -> None:
    """A process that adapts to the spread of data noises data of that spread as far as its prior, to 0.01 nats an entry."""
    unbounded = getattr(sde.support, "base_constraint", sde.support) is constraints.real
    if unbounded:
        _in_proportion(sde)
    rows = [(width, _joint(sde)) for width in (*_SPREADS, *[_WIDER] * unbounded)]
    for width, event in [*rows, *[(_SPREADS[0], (2, 2))] * ((2, 3) in events(sde))]:  # rows of two dimensions are no table
        x0 = _spread(sde, event, 2**15, width)
        whole = sde.adapted(x0)
        last = torch.tensor(whole.t_span[1], dtype=torch.float64)
        ends, priors = whole.perturb(x0, last, Noise.seeded(6)), whole.prior(tuple(x0.shape), Noise.seeded(7), x0)
        gap = gap_in_nats(ends.double().flatten(1), priors.double().flatten(1))
        if gap > GAP:
            raise LawError(
                f"Adapted to data of spread {width:g}, the prior is {gap:.3f} nats an entry from them, fully noised.", whole.spec
            )


def _in_proportion(sde: Any) -> None:
    """On the whole real line units are arbitrary: for data that are wider, the prior is wider in proportion."""
    (narrow, wide), reach = (_spread(sde, _joint(sde), 4096, width) for width in (1.0, _WIDER)), []
    if not torch.allclose(wide, _WIDER * narrow):
        return
    for x0 in (narrow, wide):
        whole = sde.adapted(x0)
        x = whole.decode_unchecked(whole.prior(tuple(x0.shape), Noise.seeded(7), x0)).double().flatten(1)
        low, high = (torch.quantile(x, q, 0) for q in (0.16, 0.84))
        reach.append(high - low)
    grown = reach[1] / reach[0]
    if not ((grown > _WIDER / 2) & (grown < 2 * _WIDER)).all():
        raise LawError(f"For data that are {_WIDER:g} times as wide the prior is {float(grown[0]):.3g} times as wide.", sde.spec)


@BOUNDARY_LAWS.monte_carlo_law()
@both
def draws_start_as_encoded(sde: Any, seed: int) -> float:
    """At `t = 0` samples have the distribution of `encode`, auxiliary variables included."""
    found = []
    for start in (STARTS[0], STARTS[2]):
        draws = Draws(sde, start, seed, _joint(sde) if start else None)
        zero = torch.zeros((), dtype=torch.float64)
        drawn = draws.states(zero).flatten(1)
        encoded, pilot = (sde.encode(draws.data(ROWS), draws.noise()).double().flatten(1) for _ in range(2))
        low, centre, high = (torch.quantile(pilot, q, 0) for q in (0.16, 0.5, 0.84))
        width = ((high - low) / 2).clamp_min(1e-6)
        found.append(draws.at(means_are_equal(*(bounded_moments(rows, centre, width) for rows in (drawn, encoded))), zero))
    return together(found)


def _no_reversal(sde: Process) -> str | None:
    return no_sde(sde) or no_score(sde) or drawn_by_simulation(sde)


def _walls_claimed(sde: Process) -> str | None:
    return "It says that its density is positive at a boundary." if sde.reflecting_boundary else _no_reversal(sde)


@BOUNDARY_LAWS.monte_carlo_law(excuses=_walls_claimed)
@both
def no_density_at_walls(sde: Any, seed: int) -> float:
    """Unless `reflecting_boundary` says otherwise, integration by parts leaves no boundary term: `E[φ (D s + ∇·D) + D ∇φ] = 0`."""
    found = []
    for share, start in zip((0.1, 0.5, 1.0), STARTS, strict=True):
        draws = Draws(sde, start, seed)
        t = draws.time(share)
        pilot, z = draws.states(t, 2048).flatten(1), draws.states(t)
        low, centre, high = (torch.quantile(pilot, q, 0) for q in (0.16, 0.5, 0.84))
        width = _WIDTH * ((high - low) / 2).clamp_min(1e-12)
        u = (z.flatten(1) - centre) / width
        bell = torch.exp(-(u**2).sum(1) / 2)[:, None]
        force = (sde.ggt(z, t, sde.score(z, draws.data(len(z)), t)) + sde.divergence(z, t)).flatten(1)
        slope = -bell * u / width  # ∇φ
        rows = [bell * force + draws.diffuse(z, t, slope[:, None])[:, 0]]
        for i in range(min(u.shape[1], _ENTRIES)):
            tilted = u[:, i : i + 1] * slope
            tilted[:, i] += bell[:, 0] / width[i]
            rows.append(u[:, i : i + 1] * bell * force + draws.diffuse(z, t, tilted[:, None])[:, 0])
        found.append(draws.at(mean_is_zero(torch.cat(rows, 1)), t))
    return together(found)


@BOUNDARY_LAWS.law(excuses=no_sde)
def steps_do_not_pile_up(sde: Any) -> None:
    """No two large forward steps end in the same place: the boundary rule creates no atom, as clamping would."""
    draws = Draws(sde, STARTS[0], 0)
    rooms, dt = [], draws.time(0.5)
    for share in (0.2, 0.9):
        z, t = draws.states(draws.time(share), PATHS), draws.time(share)
        rooms.append((f"steps of {float(dt):.2g}", z, sde.forward_step(z, t, dt, draws.noise())))
    if not sde.support.event_dim:  # on a surface, long steps may end where others do
        spread = draws.prior(PATHS).std(0)
        wide = z + _LONG * spread.clamp_min(1e-12) * draws.noise().normal(z)
        rooms.append(("long steps", wide, sde.project(wide, z)))
    for what, start, end in rooms:
        for before, after in zip(start.flatten(1).T, end.flatten(1).T, strict=True):
            lost = len(before.unique()) - len(after.unique())
            if lost > PATHS / 100:
                raise LawError(f"{lost} of {PATHS} {what} end in the same place as another.", sde.spec)


_LONG = 30.0
"""Length of long steps, in standard deviations of the prior."""


def _no_transition(sde: Process) -> str | None:
    if isinstance(sde, ForwardSDE) and sde.knows_transition:
        return drawn_by_simulation(sde)
    return "It offers no exact transition."


@BOUNDARY_LAWS.monte_carlo_law(excuses=_no_transition)
@both
def transitions_compose(sde: Any, seed: int) -> float:
    """Noising to `s` and then `transition` from `s` to `t` equals noising to `t`, from the data and from noised data."""
    found = []
    for (early, late), start in zip(((0.0, 0.3), (0.1, 0.3), (0.5, 0.9)), STARTS, strict=True):
        draws = Draws(sde, start, seed)
        a, b = draws.time(early) if early else torch.zeros((), dtype=torch.float64), draws.time(late)
        moved = sde.transition(draws.states(a, PATHS), a, b, draws.noise())
        drawn, pilot = draws.states(b, PATHS), draws.states(b, 4 * PATHS)
        found.append(draws.at(paths_agree(*(rows.flatten(1) for rows in (moved, moved, drawn, pilot))), a, b))
    return together(found)


@BOUNDARY_LAWS.law(excuses=_no_transition)
def short_transitions_move_little(sde: Any) -> None:
    """Over a thousandth of the time `transition` moves states as far as drift and diffusion do, to a factor of 1.5."""
    for kind in dict.fromkeys((sde, busy(sde))):
        if not kind.knows_transition:
            continue
        for share, start in zip((0.3, 0.8), STARTS[:2], strict=True):
            draws = Draws(kind, start, 0)
            a, b = draws.time(share), draws.time(share + _SHORT)
            z, h = draws.states(a, PATHS), b - a
            moved = kind.transition(z, a, b, draws.noise()) - z
            noise = draws.noise().normal(z, kind.noise_shape(z.shape)) * h.sqrt()
            stepped = kind.project(z + kind.drift(z, a) * h + kind.diffuse(z, a, noise), z) - z
            found, known = (float(rows.double().flatten(1).norm(dim=1).median()) for rows in (moved, stepped))
            if not known / _FARTHER <= found <= known * _FARTHER:
                raise LawError(
                    f"A transition over the time {float(h):.2g} moves states by {found:.3g}, and a step by {known:.3g}.", kind.spec
                )


_SHORT, _FARTHER = 1e-3, 1.5


def _not_stationary(sde: Process) -> str | None:
    return None if isinstance(sde, Stationary) else "It states no stationary distribution."


class _AtRest(Draws):
    """States from the stationary distribution, which is the prior, in place of noised data."""

    def states(self, t: Tensor, count: int = ROWS) -> Tensor:
        return self.prior(count)


def _is_its_score(sde: Any, seed: int, share: float, score: Callable[[Tensor, Tensor], Tensor]) -> float:
    """p-value of `E_π[φ (D s + ∇·D) + D ∇φ] = 0` under the prior `π`, for a score that is not 0."""
    draws = _AtRest(sde, STARTS[0], seed)
    t = draws.time(share)
    bumps, z = draws.bumps(t), draws.states(t)
    s = score(z, t)
    if not s.any():
        return 1.0
    force = (sde.ggt(z, t, s) + sde.divergence(z, t)).flatten(1)
    gradient = bumps.derivatives(z.flatten(1))[0]
    rows = bumps.value(z.flatten(1))[..., None] * force[:, None] + draws.diffuse(z, t, gradient)
    return draws.at(mean_is_zero(rows.flatten(1)), t)


@BOUNDARY_LAWS.monte_carlo_law(excuses=_not_stationary)
@both
def stationary_score_is_that_of_the_prior(sde: Any, seed: int) -> float:
    """The stationary score is that of the prior: `E_π[φ (D s_π + ∇·D) + D ∇φ] = 0` (Stein)."""
    return together([_is_its_score(sde, mix(seed, k), share, sde.stationary_score) for k, share in enumerate((0.0, 0.5, 1.0))])


def _adds_nothing(sde: Process) -> str | None:
    if not isinstance(sde, ForwardSDE):
        return no_sde(sde)
    own = type(sde).score_from_output is not Process.score_from_output
    return None if own else "It adds nothing to what its network returns."


@BOUNDARY_LAWS.monte_carlo_law(excuses=_adds_nothing)
@both
def what_is_added_is_the_score_of_the_prior(sde: Any, seed: int) -> float:
    """At the last time an untrained network, which returns 0, gives the score of the prior, or none: what is added is known there."""

    def added(z: Tensor, t: Tensor) -> Tensor:
        return sde.score_from_output(torch.zeros_like(sde.network_input(z, t)), z, t)

    return _is_its_score(sde, mix(seed, 7), 1.0, added)


_LEFT = 2.0
"""Largest factor by which what is added may enlarge what is left to learn."""


@BOUNDARY_LAWS.law(excuses=lambda sde: no_sde(sde) or no_score(sde) or _adds_nothing(sde))
def what_is_added_leaves_little_to_learn(sde: Any) -> None:
    """At the first time the score given the data is no larger without what `score_from_output` adds to it, up to a factor of 2.

    Scores of data that are spread out are bounded there, and that given the data is not; the score of data at one point is as large.
    """
    for kind in dict.fromkeys((sde, busy(sde))):
        draws = Draws(kind, STARTS[1], 0)
        t = draws.time(0.0)
        z = draws.states(t)
        score, added = kind.score(z, draws.data(len(z)), t), kind.score_from_output(torch.zeros_like(kind.network_input(z, t)), z, t)
        left, whole = (float((s * kind.ggt(z, t, s)).flatten(1).sum(1).median()) for s in (score - added, score))
        if not left <= _LEFT**2 * whole:
            raise LawError(
                f"Without what is added, the score is {(left / whole) ** 0.5:.3g} times as large.", f"{kind.spec}, t = {float(t):.3g}"
            )


@BOUNDARY_LAWS.monte_carlo_law(excuses=_not_stationary)
@both
def stationary_reversal_agrees_with_paths(sde: Any, seed: int) -> float:
    """`reverse_transition` has the distribution of paths of the reverse SDE with the stationary score."""
    found = []
    for (late, early), start in zip(((0.3, 0.15), (0.9, 0.7)), STARTS[1:], strict=True):
        draws = Draws(sde, start, seed)
        a, b = draws.time(late), draws.time(early)
        noise = draws.noise()
        begin = sde.encode(draws.data(PATHS), noise).double()

        def step(z: Tensor, t: Tensor, h: Tensor, dw: Tensor) -> Tensor:
            return sde.project(z + sde.reverse_drift(z, t, sde.stationary_score(z, t)) * h + sde.diffuse(z, t, dw), z)

        coarse, fine = extrapolated(step, tuple(sde.noise_shape(begin.shape)), begin, a, b, draws.noise())
        drawn, pilot = (sde.reverse_transition(z, a, b, draws.noise()) for z in (begin, begin.repeat(4, *(1,) * (begin.ndim - 1))))
        found.append(draws.at(paths_agree(*(rows.flatten(1) for rows in (coarse, fine, drawn, pilot))), a, b))
    return together(found)
