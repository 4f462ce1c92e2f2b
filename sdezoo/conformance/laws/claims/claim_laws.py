"""Laws of what a process says of itself, beside its equation: walls, memory, tails, its steps, and what belongs to it.

- walls:   the density at two small distances from a wall, or how many states lie near one: where the density is positive, half as many
           within half the distance. A state is within `ε` if a step of `ε (z − y)` leaves the support, `y` another state;
- tails:   Hill's estimate from the largest of many entries of the prior;
- steps:   paths of `forward_step`, extrapolated to step size 0, against those of Euler with drift, diffusion and boundary rule.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import Case, busy, events, inside, process_cases, smallest_event, variants
from sdezoo.conformance.evidence import close, means_are_equal, path_features, together
from sdezoo.conformance.law import LEVEL, LawError, Suite
from sdezoo.conformance.laws.calculus_laws import no_sde, not_affine
from sdezoo.conformance.laws.draw_laws import STARTS, Draws, both, extrapolated, refined
from sdezoo.errors import SdezooError
from sdezoo.learning.output import OUTPUTS
from sdezoo.process.affine import AffineSDE
from sdezoo.process.interpolant import SelfSimilar
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Denoised, Process, Supervised
from sdezoo.process.sde import ForwardSDE
from sdezoo.zoo.registry import SAMPLERS

CLAIM_LAWS: Suite[Process] = Suite()

_WIDE = (torch.float64,)
_MANY = 2**16
_NEAR = (0.08, 0.04)
_CLOSE = 1e-4
_FLAT = 0.005
_FAR, _BELOW, _RANGE = 64.0, 100.0, 6
_TOP = (30, 200, 2000)
_STEPPED = 32
_STEPPERS = 4096


def _no_edge(sde: Process) -> str | None:
    kinds: list[Any] = variants(sde)
    return None if any(_ends(kind) or kind.reflecting_boundary for kind in kinds) else "No state lies outside of its support."


@cache
def _ends(sde: Any) -> bool:
    """Whether steps as long as the prior is wide, many times, leave the support. The coordinates of an affine process have no end,
    and discrete states no wall."""
    if isinstance(sde, AffineSDE) or sde.support.is_discrete:
        return False
    z, other = _pair(sde, 2048)
    return not bool(inside(sde, z + _FAR * (z - other)).all())


@CLAIM_LAWS.law(excuses=_no_edge)
def walls_are_where_it_says(sde: Any) -> None:
    """Noised data have a positive density at a wall if, and only if, `reflecting_boundary` says so; at the ends of ranges too."""
    kinds: list[Any] = variants(sde)
    for kind in [*kinds, *extremes(sde)]:
        known = isinstance(kind, Supervised) and kind.knows_density
        if not (known or kind in (sde, busy(sde))) or not (_ends(kind) or kind.reflecting_boundary):
            continue
        positive, what = _by_density(kind) if known else _by_share(kind)
        if positive is not None and positive != kind.reflecting_boundary:
            says = "says" if kind.reflecting_boundary else "does not say"
            raise LawError(f"It {says} that its density is positive at a wall; {what}.", kind.spec)


def extremes(sde: Any) -> list[Any]:
    """Variants at the last number of a hyper-parameter's range, found by halving, for each number whose range ends near it.

    Args:
        sde: The process.
    """
    found: list[Any] = []
    for key, value in sde.parameters().items():
        for factor in (0.5, 2.0) if isinstance(value, float) and value else ():
            good, bad = next(((a, b) for a, b in pairwise(value * factor**k for k in range(_RANGE)) if _valid(sde, key, b) is None), (0, 0))
            for _ in range(60 if good else 0):
                middle = (good + bad) / 2
                good, bad = (middle, bad) if _valid(sde, key, middle) else (good, middle)
            found += [_valid(sde, key, good)] if good else []
    return found


def _valid(sde: Any, key: str, value: float) -> Any:
    try:
        return replace(sde, **{key: value})
    except SdezooError:
        return None


@CLAIM_LAWS.law(excuses=lambda sde: no_sde(sde) or _no_edge(sde))
def boundary_rule_leaves_what_is_inside(sde: Any) -> None:
    """A proposal inside the support, however near to a wall, is where the step ends; the rule acts on those outside alone."""
    for kind in dict.fromkeys((sde, busy(sde))):
        if kind.support.event_dim or not _ends(kind):
            continue
        z, other = _pair(kind, 64)
        if z.shape[1:] != smallest_event(kind) or not torch.equal(kind.decode_unchecked(z), z):  # the ends of its coordinates are its own
            continue
        step, column = z - other, (-1, *(1,) * (z.ndim - 1))
        wall, _ = _to_walls(kind, z, step)
        for share in (0.5, 0.99, 1 - 1e-6):
            proposal = z + (share * wall).reshape(column) * step
            moved = (kind.project(proposal, z) - proposal).abs()
            if float(moved.max()) > 1e-9 * float(1 + proposal.abs().max()):
                raise LawError(f"It moves a proposal inside the support by {float(moved.max()):.3g}.", kind.spec)


def _to_walls(sde: Any, z: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """How far each state may go along its step and stay inside, in steps, and whether there is a wall at all, `(B,)` each."""
    column = (-1, *(1,) * (z.ndim - 1))
    low, high = torch.zeros(len(z), dtype=z.dtype), torch.full((len(z),), _FAR, dtype=z.dtype)
    leaves = ~inside(sde, z + high.reshape(column) * step)
    for _ in range(60):
        middle = (low + high) / 2
        within = inside(sde, z + middle.reshape(column) * step)
        low, high = torch.where(within, middle, low), torch.where(within, high, middle)
    return low, leaves


def _by_density(sde: Any) -> tuple[bool | None, str]:
    """Whether the density tends to a positive number towards some wall: at two distances from it, far below the width of the noise."""
    if not _ends(sde):
        return False, "its state has no end"
    z, other = _pair(sde, 64)
    step, column = z - other, (-1, *(1,) * (z.ndim - 1))
    low, leaves = _to_walls(sde, z, step)
    draws = Draws(sde, STARTS[1], 0, smallest_event(sde))
    x0, t = draws.data(len(z)), draws.time(1.0)
    near, nearer = (
        sde.log_prob(z + ((1 - size) * low).reshape(column) * step, x0, t).reshape(len(z), -1).sum(1) for size in (_CLOSE, _CLOSE / 100)
    )
    usual = sde.log_prob(draws.states(t, len(z)), x0, t).reshape(len(z), -1).sum(1).median()  # farther below it, nothing is known
    slope = ((near - nearer) / math.log(100))[leaves & nearer.isfinite() & (near > usual - _BELOW)]
    if not len(slope):
        return None, ""
    least = float(slope.abs().min())
    return least < _FLAT, f"towards one, it falls as the {least:.2g}-th power of the distance, or faster"


def _by_share(sde: Any) -> tuple[bool | None, str]:
    """The same from samples: where the density is positive, half as many lie within half the distance. None: not to be told."""
    z, other = _pair(sde, 2**14)
    out = [~inside(sde, z + size * (z - other)) for size in _NEAR]
    far, near = (int(rows.sum()) for rows in out)
    share, error = near / max(far, 1), 1.5 / math.sqrt(max(far, 1))
    what = f"within half of a small distance from one are {share:.2g} times as many of its states as within the whole"
    if share + error < 0.4:
        return False, what
    return (True if share - error > 0.45 and not _noise_vanishes(sde, z, out[0]) else None), what


def _noise_vanishes(sde: Any, z: Tensor, at: Tensor) -> bool:
    """Whether the noise is much smaller near a wall than elsewhere, so that integration by parts has no boundary term there."""
    if not isinstance(sde, ForwardSDE):
        return True
    t = torch.tensor(sde.t_span[1], dtype=torch.float64)
    size = sde.diffuse(z, t, torch.ones(sde.noise_shape(z.shape), dtype=z.dtype)).flatten(1).square().sum(1)
    return bool(size[at].median() < size.median() / 4)


def _pair(sde: Any, count: int) -> tuple[Tensor, Tensor]:
    like = torch.zeros(count, *smallest_event(sde), dtype=torch.float64)
    z, other = (sde.prior(tuple(like.shape), Noise.seeded(seed), like).double() for seed in (0, 1))
    return z, other


def _forgets(sde: Process) -> str | None:
    if isinstance(sde, ForwardSDE) and not all(getattr(kind, "forgets_data", True) for kind in variants(sde)):
        return None
    return "It says that data forget where they started."


@CLAIM_LAWS.law(excuses=_forgets)
def data_are_remembered(sde: Any) -> None:
    """A process that says that data need not forget where they started has another distribution at the last time from another start."""
    kinds: list[Any] = variants(sde)
    for kind in kinds:
        if kind.forgets_data:
            continue
        ends = []
        for start in (*STARTS, 2.0, -2.0):
            draws = Draws(kind, start, 0, smallest_event(kind))
            ends.append(draws.states(draws.time(1.0)).flatten(1))
        pilot = torch.cat(ends)
        p = min(means_are_equal(*(path_features(rows, pilot) for rows in (one, ends[0]))) for one in ends[1:])
        if p > LEVEL:
            raise LawError(f"It says that data need not forget where they started, and they do: p = {p:.2g}.", kind.spec)


def _discrete(sde: Process) -> str | None:
    return "Its states are discrete." if sde.support.is_discrete else None


@CLAIM_LAWS.law(excuses=_discrete)
def tail_is_that_of_the_prior(sde: Any) -> None:
    """The noise of the prior has the tail index that `tail` gives, to a factor of 2; none below 5 if infinite; if 0, once decoded."""
    kinds: list[Any] = variants(sde)
    for kind in kinds:
        if isinstance(kind, SelfSimilar) and not kind.inexact_increments and kind.index < _NORMAL and kind.tail != kind.index:
            raise LawError(
                f"Noise whose sums are distributed as itself has its index for a tail, {kind.index:g}; {kind.tail:g} is claimed.", kind.spec
            )
    event = next((e for e in events(sde) if len(e) == 1), events(sde)[0])
    for kind in {sde, busy(sde)}:
        if kind.prior_from_data:
            continue
        like = torch.zeros(_MANY, *event, dtype=torch.float64)
        z = kind.prior(tuple(like.shape), Noise.seeded(2), like)
        z = (kind.decode(z) if kind.tail == 0 else z).flatten(1)
        for column in (z - z.median(0).values).abs().T:
            top = column.sort(descending=True).values
            if float(top[_TOP[-1]]) <= 0 or bool((top[0] == top[torch.tensor(_TOP)]).any()):  # few different values have no tail
                continue
            nearer, found, farther = (1 / float((top[:k] / top[k]).log().mean()) for k in reversed(_TOP))
            # A tail that falls faster than any power has no index: what is found grows farther out.
            light = found > 5 or farther > 1.5 * nearer
            claimed = light if math.isinf(kind.tail) else not light if kind.tail == 0 else kind.tail / 2 < found < 2 * kind.tail
            if not claimed:
                raise LawError(
                    f"The largest entries of the prior have a tail of index {found:.3g}, and {kind.tail:g} is claimed.", kind.spec
                )


_NORMAL = 2.0
"""Index of normal noise, which has no tail."""


def _usual_steps(sde: Process) -> str | None:
    if isinstance(sde, ForwardSDE) and type(sde).forward_step is not ForwardSDE.forward_step:
        return None
    return "It has no steps of its own."


@CLAIM_LAWS.monte_carlo_law(excuses=_usual_steps)
@both
def steps_solve_the_sde(sde: Any, seed: int) -> float:
    """A `forward_step` of its own has the distribution of drift, diffusion and boundary rule, extrapolated to step size 0."""
    return refined(lambda finer: _by_steps(sde, seed, finer))


def _by_steps(sde: Any, seed: int, finer: int) -> float:
    found = []
    for (first, last), start in zip(((0.0, 0.15), (0.3, 0.6), (0.1, 0.9)), (*STARTS[1:], None), strict=True):
        draws = Draws(sde, start or 0.0, seed)
        a, b = draws.time(first), draws.time(last)
        z = sde.encode(draws.data(_STEPPERS), draws.noise()).double()
        if start is None:  # where the process usually is
            z = draws.prior(_STEPPERS)

        def euler(u: Tensor, t: Tensor, h: Tensor, dw: Tensor) -> Tensor:
            return sde.project(u + sde.drift(u, t) * h + sde.diffuse(u, t, dw), u)

        def stepped(count: int, z: Tensor = z, draws: Draws = draws, a: Tensor = a, b: Tensor = b) -> Tensor:
            noise, h, u = draws.noise(), (b - a) / count, z
            for k in range(count):
                u = sde.forward_step(u, a + k * h, h, noise)
            return u.flatten(1)

        ours = [stepped(finer * count) for count in (_STEPPED, 2 * _STEPPED)]
        theirs = extrapolated(euler, tuple(sde.noise_shape(z.shape)), z, a, b, draws.noise(), 2 * finer * _STEPPED)
        pilot = stepped(finer * _STEPPED)
        pairs = [2 * path_features(fine, pilot) - path_features(coarse, pilot) for coarse, fine in (ours, [u.flatten(1) for u in theirs])]
        found.append(draws.at(means_are_equal(*pairs), a, b))
    return together(found)


@CLAIM_LAWS.property_law(lambda sde: process_cases(sde, rows=2, dtypes=_WIDE), examples=10)
def what_belongs_to_it_fits(case: Case) -> None:
    """Its own sampler takes it, its output exists, the shape of its network's input is as stated, and weights of errors are positive."""
    sde, z, t = case.sde, case.draw(), case.column
    shape = tuple(sde.network_input(z, t).shape[1:])
    stated = tuple(sde.network_input_shape(case.normals.shape[1:]))
    if shape != stated:
        raise LawError(f"network_input has the shape {shape}, and network_input_shape says {stated}.")
    if sde.default_output not in OUTPUTS:
        raise LawError(f"default_output is '{sde.default_output}'; there are {', '.join(OUTPUTS)}.")
    _decodes_as_it_says(case, case.draw())
    own = sde.own_sampler()
    if own is not None and (reason := SAMPLERS.build(own).refuses(sde)):
        raise LawError(f"Its own sampler is {own}, which {reason}.")
    weights = {}
    if isinstance(sde, Conditional):
        weights["score_error_weighting"] = sde.score_error_weighting(z, t)
    if isinstance(sde, Denoised):
        weights["error_weighting"] = sde.error_weighting(z, t)
    for name, value in weights.items():
        if np.broadcast_shapes(value.shape, z.shape) != tuple(z.shape) or value.dtype != z.dtype:
            raise LawError(f"{name} is {value.dtype} of shape {tuple(value.shape)}, and {z.dtype} of shape {tuple(z.shape)} was expected.")
        if not (value.isfinite().all() and (value >= 0).all() and (value > 0).any()):
            raise LawError(f"{name} is {float(value.min()):.3g} at a state; it must be finite and positive.")


def _decodes_as_it_says(case: Case, z: Tensor) -> None:
    """Check `decode_unchecked`, and that the data are exponentials if the noise is said to be multiplicative."""
    sde = case.sde
    x = sde.decode(z)
    close("decode_unchecked", sde.decode_unchecked(z), x, rtol=1e-9)
    if sde.multiplicative:
        if not isinstance(sde, AffineSDE):
            raise LawError("It says that its noise is multiplicative, and it is not affine.")
        moved = sde.decode(z + 0.25).log() - x.log()
        close("The rise of the logarithm of the data with the state", moved, 0.25 * sde.column_spread.to(z), rtol=1e-6, atol=1e-9)


@CLAIM_LAWS.property_law(lambda sde: process_cases(sde, rows=1, dtypes=_WIDE), excuses=not_affine, examples=10)
def known_entries_follow(case: Case) -> None:
    """`known_entries` are those entries of a clean state that do not change if unknown entries of the data do; all, if all are known."""
    sde, x0 = case.sde, case.x0
    z0, size = sde.encode(x0), case.x0[0].numel()
    for lost in (None, *range(min(size, 3))):
        known = torch.ones(x0.shape, dtype=torch.bool)
        if lost is not None:
            known.flatten(1)[:, lost] = False
        found = sde.known_entries(known)
        if tuple(found.shape) != tuple(z0.shape):
            raise LawError(f"known_entries has shape {tuple(found.shape)}, and {tuple(z0.shape)} was expected.")
        if lost is None:
            if not found.all():
                raise LawError("Of data that are all known, a part of the state is not known.")
            continue
        if sde.support.event_dim:  # one entry of a row cannot change alone
            continue
        other = torch.where(
            known, x0, Draws(sde, 0.0, 0, x0.shape[1:]).point.flip(-1) if size == 1 else x0.flatten(1).roll(1, 1).reshape(x0.shape)
        )
        moved = (sde.encode(other) != z0) & found
        if moved.any():
            raise LawError("An entry of the state that is said to be known changes with data that are unknown.")
        if sde.element_wise and not torch.equal(found, known):
            raise LawError("Entries whose data are known are said to be unknown.")
