"""Laws of the densities behind a likelihood, and of what is said to follow from a score.

A likelihood is that of the prior, moved by the flow, times the change of volume to the data. So the prior's log-density has to be that of
the prior's samples, `E φ(z) = ∫ φ p`, as that of noised data is that of `perturb`; and `log_abs_det` the logarithm of the determinant of
`decode`. For data at one point the denoiser is that point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from sdezoo.conformance.bank.cases import (
    FLAT,
    Case,
    busy,
    each_variant,
    event_at,
    events,
    fitting_variants,
    inside,
    process_cases,
    smallest_event,
    typical,
    wide_cases,
)
from sdezoo.conformance.bank.jumps import LINES, largest_jump
from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.evidence import ROWS, Bumps, close, mean_is_zero, paths_agree, together
from sdezoo.conformance.law import LawError, Suite
from sdezoo.conformance.laws.calculus_laws import no_density, no_score
from sdezoo.conformance.laws.draw_laws import STARTS, Draws, both
from sdezoo.errors import CompositionError
from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Process, Shape

DENSITY_LAWS: Suite[Process] = Suite()

_WIDE = (torch.float64,)
_MOST = 4


def _answer(sde: Any, of: str, *arguments: Any) -> str | None:
    """What a process says when it refuses to answer; None if it answers."""
    try:
        getattr(sde, of)(*arguments)
    except CompositionError as refusal:
        return refusal.problem
    return None


def _rows(sde: Process) -> tuple[Tensor, Tensor]:
    """Two rows of data, and their states."""
    x0 = typical(sde, torch.zeros(2, *smallest_event(sde), dtype=torch.float64))
    return x0, sde.encode(x0, keyed(2))


def no_prior_density(sde: Process) -> str | None:
    """Excuse of a process that does not know the density of its prior; None for any other."""
    return _answer(sde, "prior_log_prob", _rows(sde)[1])


@DENSITY_LAWS.monte_carlo_law(excuses=no_prior_density)
@both
def prior_density_is_that_of_the_prior(sde: Any, seed: int) -> float:
    """Samples of the prior have the density that `prior_log_prob` gives, for rows of one entry and of several."""
    found = []
    for event in {smallest_event(sde), next((e for e in events(sde) if 1 < torch.Size(e).numel() <= _MOST), smallest_event(sde))}:
        draws = Draws(sde, STARTS[0], seed + len(event) * torch.Size(event).numel(), event)
        shape = (ROWS, *draws.point.shape[1:])
        z, pilot = (sde.prior(shape, draws.noise(), draws.point).double() for _ in range(2))
        if sde.support.is_discrete:
            found.append(draws.at(_frequencies(sde, z, pilot), draws.time(1.0)))
            continue
        bumps = Bumps.fitted(pilot.flatten(1), lambda c: torch.tensor(True), seed=draws.seed)

        def density(u: Tensor, shape: Shape = tuple(z.shape)) -> Tensor:
            place = u.reshape(shape)
            return torch.where(inside(sde, place), sde.prior_log_prob(place).reshape(ROWS, -1).sum(1).exp(), 0.0)

        found.append(draws.at(mean_is_zero(bumps.value(z.flatten(1)) - bumps.integrals(density, draws.noise())), draws.time(1.0)))
    return together(found)


def _follows_no_density(sde: Process) -> str | None:
    entries = torch.Size(sde.state_shape((1, *smallest_event(sde)))).numel()
    return no_density(sde) or (f"A state has {entries} entries, too many for an integral." if entries > _MOST else None)


@DENSITY_LAWS.monte_carlo_law(excuses=_follows_no_density)
@both
def draws_follow_the_density(sde: Any, seed: int) -> float:
    """Samples of `perturb` have the density that `log_prob` gives."""
    found, flat = [], event_at(sde, FLAT)
    last = flat if torch.Size(sde.state_shape((1, *flat))).numel() <= _BY_NODES else None
    places = [(0.05, STARTS[0], None), (0.4, STARTS[1], None), (1.0, STARTS[2], last), (0.55, 1.2, None)]
    if (2, 3) in events(sde) and sde.state_shape((1, 2, 1)) == (1, 2, 1):
        places.append((0.7, FLAT, (2, 1)))
    for share, start, event in places:  # at 1.2 it meets walls, if there are any
        draws = Draws(sde, start, seed, event)
        t = draws.time(share)
        entries = torch.Size(sde.state_shape(tuple(draws.point.shape))).numel()
        rows = _against_points(draws, t) if entries > _BY_NODES else _against_nodes(draws, t)
        found.append(draws.at(mean_is_zero(rows), t))
    return together(found)


_BY_NODES, _BUMPS = 2, 4
"""Entries of a state for which quadrature is affordable; bumps where it is not."""


def _against_nodes(draws: Draws, t: Tensor) -> Tensor:
    """`φ(z_t) − ∫ φ p`, by quadrature."""
    sde, bumps = draws.sde, draws.bumps(t)
    z = draws.states(t)
    nodes, weights = _whole_numbers(bumps, z) if sde.support.is_discrete else _quadrature(bumps, z.flatten(1).shape[1])
    flat = nodes.reshape(-1, nodes.shape[-1])
    density = sde.log_prob(flat.reshape(-1, *z.shape[1:]), draws.data(len(flat)), t).reshape(len(flat), -1).sum(1).exp()
    values = (weights * density.reshape(weights.shape)).unsqueeze(-1) * bumps.value(flat).reshape(*weights.shape, -1)
    return bumps.value(z.flatten(1)) - torch.stack([values[k, :, k].sum() for k in range(len(values))])


def _against_points(draws: Draws, t: Tensor) -> Tensor:
    """The same by random points, after a linear map onto entries that are about independent."""
    sde, pilot = draws.sde, draws.states(t, 2048).flatten(1)
    z, centre = draws.states(t), pilot.mean(0)
    _, spread, axes = torch.linalg.svd((pilot - centre) / len(pilot) ** 0.5, full_matrices=False)

    def back(u: Tensor) -> Tensor:
        return (centre + (u * spread) @ axes).reshape(len(u), *z.shape[1:])

    def density(u: Tensor) -> Tensor:
        log = sde.log_prob(back(u), draws.data(len(u)), t).reshape(len(u), -1).sum(1)
        return torch.where(inside(sde, back(u)), spread.prod() * log.exp(), 0.0)

    there, usual = ((rows - centre) @ axes.T / spread for rows in (z.flatten(1), pilot))
    bumps = Bumps.fitted(usual, lambda corners: draws.inside(back(corners)), count=_BUMPS, seed=draws.seed)
    return bumps.value(there) - bumps.integrals(density, draws.noise())


def _quadrature(bumps: Bumps, n: int) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre nodes `(k, q, n)` and weights `(k, q)` on the box of each bump."""
    u, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(48 if n > 1 else 200))
    grid = torch.cartesian_prod(*[u] * n).reshape(-1, n)
    weight = torch.cartesian_prod(*[w] * n).reshape(-1, n).prod(1)
    nodes = bumps.centres[:, None] + bumps.widths[:, None] * grid
    return nodes, weight * bumps.widths.prod(1, keepdim=True)


def _whole_numbers(bumps: Bumps, z: Tensor) -> tuple[Tensor, Tensor]:
    """As `_quadrature`, for the sum over all whole numbers up to the largest in `z`."""
    n, count = z.flatten(1).shape[1], len(bumps.centres)
    nodes = torch.cartesian_prod(*[torch.arange(float(z.max()) + 1, dtype=torch.float64)] * n).reshape(-1, n)
    return nodes.expand(count, *nodes.shape), nodes.new_ones(count, len(nodes))


def _no_whole_density(sde: Process) -> str | None:
    if sde.support.is_discrete or sde.support.event_dim:
        return "Its support is discrete, or one of whole rows."
    count = torch.Size(sde.state_shape((1, *smallest_event(sde)))).numel()
    return no_density(sde) or (f"A state has {count} entries, too many for quadrature." if count > len(_NODES) else None)


@DENSITY_LAWS.law(excuses=_no_whole_density)
def density_integrates_to_one(sde: Any) -> None:
    """The integral of `log_prob`'s density over all states is 1, to a thousandth for states of one entry."""
    small = [event for event in events(sde) if torch.Size(sde.state_shape((1, *event))).numel() <= len(_NODES)]
    for kind in fitting_variants(sde, small[0]):
        _integrates(kind, small[0], (0.1, 0.5, 1.0) if kind is sde else (1.0,))
    for kind in fitting_variants(sde, small[-1]):
        _integrates(kind, small[-1], (1.0,))


def _integrates(sde: Any, event: Shape, shares: Sequence[float]) -> None:
    for share in shares:
        draws = Draws(sde, STARTS[1], 0, event)
        t = draws.time(share)
        z = draws.states(t)
        grid = _grid(sde, z, draws.data(len(z)))
        if grid is None:
            continue
        nodes, weights = grid
        density = sde.log_prob(nodes, draws.data(len(nodes)), t).reshape(len(nodes), -1).sum(1).double().exp()
        total = float((torch.where(inside(sde, nodes), density, 0.0) * weights).sum())
        if not abs(total - 1) < _MASS[z.flatten(1).shape[1] - 1]:
            at = f"{sde.spec}, rows of {torch.Size(event).numel()}, t = {float(t):.3g}"
            raise LawError(f"The density of the noised data integrates to {total:.6g}.", at)


_NODES, _MASS = (2000, 300), (1e-3, 1e-2)
"""Number of nodes an entry, for states of one entry and of two; and by how much the integral may differ from 1."""


def _grid(sde: Any, z: Tensor, x0: Tensor) -> tuple[Tensor, Tensor] | None:
    """States `(q, *state)` and weights `(q,)` for integrals over all states, from samples; None if the ends of the state are unknown.

    The trapezoidal rule after the substitution `c + w sinh u` on the whole line, onto which a logarithm or a logit maps what has ends.
    """
    flat = z.flatten(1)
    far = 1e6 * (1 + flat[:1].abs()).reshape(1, *z.shape[1:])
    ends = (-math.inf, math.inf)
    if not bool(inside(sde, torch.cat([far, -far])).all()):
        if z.shape != x0.shape or not torch.equal(sde.encode(x0, keyed(len(x0))).double(), x0):
            return None
        ends = tuple(float(getattr(sde.support, name, end)) for name, end in zip(("lower_bound", "upper_bound"), ends, strict=True))
        if ends[0] == -math.inf:
            return None
    n = flat.shape[1]
    u = _TAIL * torch.linspace(-1, 1, _NODES[n - 1], dtype=torch.float64)
    nodes, weights = [], []
    for column in flat.T:
        line = _onto_line(column, *ends)
        low, centre, high = (float(torch.quantile(line, q)) for q in (0.16, 0.5, 0.84))
        width = max((high - low) / 2, 1e-12)
        place, slope = centre + width * u.sinh(), width * u.cosh() * float(u[1] - u[0])
        if ends[0] > -math.inf:  # farther out on the line, all rounds to an end
            kept = (place - (centre if ends[1] == math.inf else 0)).abs() < _EDGE
            place, slope = place[kept], slope[kept]
        back, stretch = _from_line(place, *ends)
        nodes.append(back)
        weights.append(slope * stretch)
    whole = torch.cartesian_prod(*nodes).reshape(-1, n)
    return whole.reshape(-1, *z.shape[1:]), torch.cartesian_prod(*weights).reshape(-1, n).prod(1)


def _onto_line(x: Tensor, low: float, high: float) -> Tensor:
    if low == -math.inf:
        return x
    return (x - low).log() if high == math.inf else torch.logit((x - low) / (high - low))


def _from_line(v: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """What `_onto_line` maps to `v`, and its derivative."""
    if low == -math.inf:
        return v, torch.ones_like(v)
    if high == math.inf:
        return low + v.exp(), v.exp()
    share = torch.sigmoid(v)
    return low + (high - low) * share, (high - low) * share * (1 - share)


_TAIL, _EDGE = 14.0, 30.0
"""Largest `|u|` of the substitution, and how far out it goes on the line where the state has ends."""

_VALUES = 8
"""Largest number of discrete states whose frequencies are compared."""


def _frequencies(sde: Any, z: Tensor, pilot: Tensor) -> float:
    """p-value of `P(z = u) = p(u)` for the most frequent states `u` of the pilot, all but one."""
    rows, counts = pilot.unique(dim=0, return_counts=True)
    usual = rows[counts.argsort(descending=True)][:_VALUES]
    hits = torch.stack([(z == row).flatten(1).all(1).double() for row in usual], 1)
    excess = hits - sde.prior_log_prob(usual).reshape(1, -1).exp()
    return mean_is_zero(excess[:, :-1] if len(usual) == len(rows) > 1 else excess)


def _no_continuum(sde: Process) -> str | None:
    return "Its support is discrete." if sde.support.is_discrete else no_density(sde)


@DENSITY_LAWS.law(excuses=_no_continuum)
def density_has_no_jumps(sde: Any) -> None:
    """`log_prob` is continuous in time and in the state, also where one formula takes the place of another."""
    for kind in dict.fromkeys((sde, busy(sde))):
        for share in (0.2, 0.6):
            for what, (jump, place) in _jumps(kind, share).items():
                if jump > _JUMP:
                    raise LawError(f"log_prob jumps by {jump:.3g} {what}.", f"{kind.spec}, {place:.4g} of the way")


def _jumps(sde: Any, share: float) -> dict[str, tuple[float, float]]:
    draws = Draws(sde, STARTS[1], 0)
    (lo, hi), middle = sde.t_span, draws.time(share)
    z = draws.states(middle, 2 * LINES)
    start, end, ones = z[:LINES], z[LINES:], (1,) * (z.ndim - 1)

    def at(z: Tensor, t: Tensor) -> Tensor:
        return sde.log_prob(z, draws.data(len(z)), t).reshape(len(z), -1).sum(1)

    def over_time(u: Tensor) -> Tensor:
        return at(start.repeat(len(u) // LINES, *ones), (lo * (hi / lo) ** u).reshape(-1, *ones))

    def over_states(u: Tensor) -> Tensor:
        a, b = (z.repeat(len(u) // LINES, *ones) for z in (start, end))
        return at(a + u.reshape(-1, *ones) * (b - a), middle)

    return {"in time": largest_jump(over_time), "along a line of states": largest_jump(over_states)}


_JUMP = 1e-4
"""The largest jump of an approximation."""


def _no_volume(sde: Process) -> str | None:
    x0, z = _rows(sde)
    return _answer(sde, "log_abs_det", z, x0)


def _square_rows(sde: Process) -> st.SearchStrategy[Case]:
    flat = [event for event in events(sde) if torch.Size(event).numel() <= _MOST]
    return process_cases(sde, rows=2, dtypes=_WIDE, shapes=flat, reach=2.0)


@DENSITY_LAWS.property_law(_square_rows, excuses=_no_volume, also=each_variant, examples=12)
def volume_is_that_of_decode(case: Case) -> None:
    """`log_abs_det` is the logarithm of the determinant of the derivative of `decode`, row by row."""
    sde = case.sde
    z = sde.encode(case.x0, keyed(len(case.normals), case.seed))
    x = sde.decode(z)
    if _answer(sde, "log_abs_det", z, x):
        return
    found = sde.log_abs_det(z, x)
    if tuple(found.shape) != (len(z),):
        raise LawError(f"log_abs_det has shape {tuple(found.shape)}, and ({len(z)},) was expected.")
    shares = x.shape[-1] == z.shape[-1] + 1  # of shares that sum to 1 the last follows from the others
    for i, row in enumerate(z):

        def decoded(u: Tensor, row: Tensor = row) -> Tensor:
            values = sde.decode_unchecked(u.reshape(1, *row.shape))
            return (values[..., :-1] if shares else values).reshape(-1)

        jacobian = torch.func.jacfwd(decoded)(row.reshape(-1))
        assert isinstance(jacobian, Tensor)
        close(f"log_abs_det of row {i}", found[i], torch.linalg.slogdet(jacobian)[1], rtol=1e-6, atol=1e-6)


def _no_denoiser(sde: Process) -> str | None:
    x0, z = _rows(sde)
    if z.shape != x0.shape and not isinstance(sde, AffineSDE):
        return "Its state holds auxiliary variables."
    return no_score(sde) or _answer(sde, "denoised", z, torch.tensor(sde.t_span[1], dtype=torch.float64), z)


@DENSITY_LAWS.property_law(wide_cases, excuses=_no_denoiser, examples=12)
def denoised_follows_from_the_score(case: Case) -> None:
    """`denoised` is the denoiser: for data at one point, whose score is known, it is that point."""
    sde, z = case.sde, case.draw()
    clean = sde.encode(case.x0, keyed(len(case.normals), case.seed))
    found = sde.denoised(z, case.t, sde.score(z, case.x0, case.t))
    loss = 1e-7 * float((1 + z.abs().max()) * _noise_to_signal(sde, case.t))
    close("The denoiser of data at one point", found, clean, rtol=1e-6, atol=1e-6 + loss)


def _noise_to_signal(sde: Any, t: Tensor) -> float:
    level = sde.noise_level(t)
    return 1.0 if level is None else float(level.max())


def _starts_noised(sde: Process) -> str | None:
    return "It starts from data as they are noised." if type(sde).start_from is Process.start_from else None


@DENSITY_LAWS.monte_carlo_law(excuses=_starts_noised)
@both
def starts_from_noised_data(sde: Any, seed: int) -> float:
    """Sampling that starts from data starts from noised data; at the last time it may start from the data as they are."""
    found = []
    for share, start in zip((0.3, 1.0), STARTS[:2], strict=True):
        draws = Draws(sde, start, seed)
        t, x0 = draws.time(share), draws.data(ROWS)
        if _answer(sde, "start_from", x0, t, draws.noise()):
            continue
        started, encoded = (z.double().flatten(1) for z in (sde.start_from(x0, t, keyed(ROWS)), sde.encode(x0, keyed(ROWS))))
        if share == 1.0 and torch.equal(started, encoded):
            continue
        started, drawn, pilot = sde.start_from(x0, t, draws.noise()).double().flatten(1), draws.states(t), draws.states(t)
        found.append(draws.at(paths_agree(started, started, drawn.flatten(1), pilot.flatten(1)), t))
    return together(found or [1.0])
