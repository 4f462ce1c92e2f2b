"""Laws of the noise itself: its level, how it adds up in a draw, that no value is drawn again and again, and that its score has a size.

- early:  a draw of normal numbers over so short a time that it is linear in them has the covariance `∫ g gᵀ du`, to rounding. One row for
          each number, with all others 0, shows how the draw responds to it; no sample is large enough to tell a hundredth of a variance.
- atoms:  where states have a density, no two draws agree, but by the grain of the random numbers.
- parts:  where the density of the prior is a product over two entries, `∂_1 ∂_2 log p = 0`, the sizes of the two are independent.
- size:   losses and reverse steps need `E[sᵀ D s]`. Where the density of a state falls to an end too slowly, it is infinite, and
          `sᵀ D s` has a tail of index below 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import Case, busy, events, inside, typical, wide_cases
from sdezoo.conformance.bank.noise_doubles import Impulse, Still
from sdezoo.conformance.evidence import close, mean_is_zero, together
from sdezoo.conformance.law import LawError, Suite
from sdezoo.conformance.laws.calculus_laws import no_density, no_score
from sdezoo.conformance.laws.claims.claim_laws import extremes
from sdezoo.conformance.laws.claims.density_laws import no_prior_density
from sdezoo.conformance.laws.draw_laws import STARTS, Draws, both, drawn_by_simulation
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Process, Supervised
from sdezoo.process.sde import ForwardSDE

NOISE_LAWS: Suite[Process] = Suite()


def _no_level(sde: Any) -> str | None:
    middle = torch.tensor(sum(sde.t_span) / 2, dtype=torch.float64)
    return "It has no noise level." if sde.noise_level(middle) is None else None


@NOISE_LAWS.property_law(wide_cases, excuses=_no_level)
def time_at_inverts_the_ratio(case: Case) -> None:
    """`time_at` is the inverse of `noise_level`, which is `σ/α` if it is affine; levels beyond the ends of `t_span` give the ends."""
    sde = case.sde
    level = sde.noise_level(case.t)
    if isinstance(sde, AffineSDE):
        close("noise_level", level, sde.coefficients(case.t[..., None]).ratio[..., 0], rtol=1e-9)
    close("time_at(σ/α)", sde.time_at(level), case.t, rtol=1e-6, atol=1e-9)
    ends = torch.tensor(sde.t_span, dtype=torch.float64)
    beyond = sde.noise_level(ends) * ends.new_tensor([0.5, 2.0])
    close("time_at of levels beyond the ends", sde.time_at(beyond), ends, rtol=1e-9)


_SHORT, _NODES, _NEAR = 1e-7, 64, 2e-3


def _draws_otherwise(sde: Process) -> str | None:
    if not isinstance(sde, ForwardSDE):
        return "It has no drift and diffusion."
    if isinstance(sde, AffineSDE):
        return "It is affine: its draws are compared with its coefficients."
    return drawn_by_simulation(sde)


@NOISE_LAWS.law(excuses=_draws_otherwise)
def noise_adds_up_early(sde: Any) -> None:
    """Over a short time a draw of normal numbers has the covariance `∫ g gᵀ du`, to 2 thousandths."""
    for kind in dict.fromkeys((sde, busy(sde))):
        for start in STARTS[1:]:
            draws = Draws(kind, start, 0)
            t = _SHORT * draws.time(1.0)
            found = _response(kind, draws.point, t)
            if found is None:
                continue
            covariance, numbers = found
            z = kind.encode(draws.point, Still(0.0)).double()
            u, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(_NODES))
            steps = max(numbers // torch.Size(kind.noise_shape(z.shape)).numel(), 1)
            exact, euler = ((1 + u) / 2, w / 2), (torch.arange(steps) / steps, torch.full((steps,), 1 / steps))
            # A simulation takes the noise at the start of each of its steps.
            sums = [
                torch.stack([float(share) * t * _spread(kind, z, t * at) for at, share in zip(*rule, strict=True)]).sum(0)
                for rule in (exact, euler)
            ]
            if not any(bool(((covariance - wanted).abs() <= _NEAR * wanted.abs().max()).all()) for wanted in sums):
                ratio = float(covariance.trace() / sums[0].trace())
                raise LawError(f"Over the time {float(t):.2g} a draw has {ratio:.4g} times the variance of the noise.", kind.spec)


def _response(sde: Any, x0: Tensor, t: Tensor) -> tuple[Tensor, int] | None:
    """The covariance of `perturb`, `(n, n)`, for little noise, and how many numbers it draws; None if it is not linear in normal numbers,
    or starts at random."""
    counted = Impulse()
    try:
        sde.encode(x0, counted)
        if counted.requests:
            return None
        sde.perturb(x0, t, counted)
        rows = sde.perturb(x0.expand(counted.requests + 1, *x0.shape[1:]).contiguous(), t, Impulse()).double().flatten(1)
        elsewhere = sde.perturb(x0, t, Still(0.7)).double().flatten(1)[0] - rows[-1]
    except (AttributeError, NotImplementedError):  # other numbers than normal ones
        return None
    moved = rows[:-1] - rows[-1]
    linear = (0.7 * moved.sum(0) - elsewhere).abs() <= _NEAR * elsewhere.abs()
    return (moved.T @ moved, counted.requests) if bool(linear.all()) else None


def _spread(sde: Any, z: Tensor, t: Tensor) -> Tensor:
    units = torch.eye(z.numel(), dtype=z.dtype)
    return torch.stack([sde.ggt(z, t, unit.reshape(z.shape)).reshape(-1) for unit in units], 1)


def _has_no_density(sde: Process) -> str | None:
    if sde.support.is_discrete:
        return "Its states are discrete."
    known = isinstance(sde, ForwardSDE) or (isinstance(sde, Supervised) and sde.knows_density)
    return None if known else "It offers no transition density."


_DRAWN, _AGAIN = 2**13, 24


@NOISE_LAWS.law(excuses=_has_no_density)
def draws_do_not_repeat(sde: Any) -> None:
    """States have a density, so no value is drawn again and again: neither noised data, nor the prior, in any entry that noise moves."""
    for kind in dict.fromkeys((sde, busy(sde))):
        for share, start in zip((0.2, 0.6, 1.0), STARTS, strict=True):
            draws = Draws(kind, start, 0)
            rooms = {"noised data": draws.states(draws.time(share), _DRAWN)}
            if share == 1.0:
                rooms["the prior"] = draws.prior(_DRAWN)
            for what, z in rooms.items():
                for column in z.flatten(1).T:
                    again = len(column) - len(column.unique())
                    if _AGAIN < again < len(column) - 1:
                        raise LawError(f"Of {_DRAWN} draws of {what}, {again} have the value of another one.", kind.spec)


def _score_unknown(sde: Process) -> str | None:
    if not isinstance(sde, ForwardSDE):
        return "It has no drift and diffusion."
    known = isinstance(sde, Conditional) or no_prior_density(sde) is None
    return None if known else "Neither its score is known, nor the density of its prior."


_TOP, _INFINITE = 400, 0.75


@NOISE_LAWS.law(excuses=_score_unknown)
def score_has_a_finite_size(sde: Any) -> None:
    """`E[sᵀ D s]` is finite for noised data, or the prior: also at the last number of a range that ends near a hyper-parameter."""
    for kind in dict.fromkeys((sde, busy(sde), *extremes(sde))):
        draws = Draws(kind, STARTS[0], 0)
        t = draws.time(1.0)
        if no_score(kind) is None:
            z = draws.states(t, 4 * _DRAWN)
            s = kind.score(z, draws.data(len(z)), t)
        else:
            z = draws.prior(4 * _DRAWN).requires_grad_()
            (s,) = torch.autograd.grad(kind.prior_log_prob(z).sum(), z)
            z = z.detach()
        size = (s * kind.ggt(z, t, s)).flatten(1).sum(1).sort(descending=True).values[: _TOP + 1]
        if not size[-1] > 0:
            continue
        index = 1 / max(float((size[:-1] / size[-1]).log().mean()), 1e-12)
        if index < _INFINITE:
            raise LawError(f"The squared score has no mean: the index of its tail is {index:.2g}, below 1.", kind.spec)


def _no_own_prior(sde: Process) -> str | None:
    if not isinstance(sde, AffineSDE):
        return "It is not affine: its prior is compared with fully noised data."
    own = type(sde).prior is not AffineSDE.prior and not sde.prior_from_data
    return None if own else "Its prior is that of its coefficients, or of data."


@NOISE_LAWS.law(excuses=_no_own_prior)
def prior_is_of_noised_data(sde: Any) -> None:
    """A prior of its own is the end of some data, `α z_0 + m + √v ε`: of none far out, and none beyond those that it adapts to."""
    for kind in dict.fromkeys((sde, busy(sde))):
        draws = Draws(kind, STARTS[0], 0)
        widest = torch.full(kind.state_shape((1, *draws.point.shape[1:])), _WIDEST, dtype=torch.float64)
        _between_noise_and_data(kind, draws, -widest, widest)
        for event in dict.fromkeys((draws.point.shape[1:], *[(1, 1)] * ((1, 1) in events(kind)))):  # no table, whose columns have their own
            data = typical(kind, _AWAY + Noise.seeded(5).normal(draws.point, (_ADAPTED, *event)))
            if (whole := kind.adapted(data)) != kind:
                z0 = whole.encode(data).double()
                _between_noise_and_data(whole, Draws(whole, STARTS[0], 0, event), torch.zeros_like(z0[:1]), z0)


def _between_noise_and_data(sde: Any, draws: Draws, low: Tensor, high: Tensor) -> None:
    """Check the prior against the end of data whose mean is between those of two sets, and whose size is at most that of the second."""
    p, z = sde.at(draws.time(1.0), draws.point.double()), draws.prior(_PAIRS)
    away, kept = (z - p.shift) / p.sigma, p.alpha / p.sigma
    means, most = kept * torch.cat([low.mean(0, keepdim=True), high.mean(0, keepdim=True)]), 1 + kept**2 * (high**2).mean(0)
    squares, chance = (away - away.mean(0)) ** 2, _SURE / len(z) ** 0.5
    share, mean, slack = squares.mean(0), away.mean(0), chance * squares.std(0)
    if not bool(((share > 1 - slack) & (share < most + slack)).all()):
        found = f"{float(share.flatten()[0]):.4g} times the variance of the noise at the end"
        raise LawError(f"The prior has {found}, and fully noised data have 1 to {float(most.max()):.4g} times.", sde.spec)
    slack = chance * away.std(0)
    if not bool(((mean > means.amin(0) - slack) & (mean < means.amax(0) + slack)).all()):
        found, ends = float(mean.flatten()[0]), f"{float(means.min()):.3g} to {float(means.max()):.3g}"
        raise LawError(
            f"The mean of the prior is {found:.3g} deviations from that of the noise, and that of noised data is {ends}.", sde.spec
        )


_WIDEST, _AWAY, _ADAPTED, _SURE = 3.0, 4.0, 4096, 6.0
"""How far data lie from the origin, in coordinates, and data that are adapted to; their number; standard errors."""


def _no_known_tail(sde: Process) -> str | None:
    if sde.support.is_discrete or sde.support.event_dim or sde.row_shape is not None:
        return "Its states are discrete, or whole rows."
    if tuple(sde.state_shape((1, 1))) != (1, 1):
        return "A state of one entry holds more."
    return no_prior_density(sde) if no_density(sde) else None


@NOISE_LAWS.law(excuses=_no_known_tail)
def tail_is_that_of_its_density(sde: Any) -> None:
    """Where the density at the last time falls as a power, `p(z) ~ z^{−a−1}`, `a` is the `tail` that is claimed, to a fiftieth."""
    for kind in dict.fromkeys((sde, busy(sde))):
        if kind.tail == 0:  # it is said of the data
            continue
        draws = Draws(kind, STARTS[0], 0, (1,))
        prior = draws.prior(_DRAWN).flatten()
        centre, width = float(prior.median()), float((prior - prior.median()).abs().median())
        z = centre + width * 10.0 ** torch.tensor(_DECADES, dtype=torch.float64)[:, None]
        if not bool(inside(kind, z).all()):
            continue
        known = no_prior_density(kind) is None
        log = kind.prior_log_prob(z) if known else kind.log_prob(z, draws.data(len(z)), draws.time(1.0))
        near, far = (-log.double().flatten().diff() / math.log(10) - 1).tolist()[1:]
        settled = abs(far - near) < _SETTLED * abs(far) and far > 0
        if settled and not abs(kind.tail - far) < _EXACT * far:
            raise LawError(f"Its density falls with a tail of index {far:.4g}, and {kind.tail:g} is claimed.", kind.spec)
        if far > _LIGHT * near and math.isfinite(far) and math.isfinite(kind.tail):
            raise LawError(f"Its density falls as no power, and a tail of index {kind.tail:g} is claimed.", kind.spec)


_DECADES, _SETTLED, _EXACT, _LIGHT = (3.0, 4.0, 5.0, 6.0), 1e-3, 0.02, 1.5
"""How far out densities are compared, in powers of ten of the prior's width; by how much an index may still change, and differ;
and by how much it grows where the density falls faster than any power."""


def _one_entry(sde: Process) -> str | None:
    two = not sde.support.is_discrete and (2,) in events(sde) and tuple(sde.state_shape((1, 2))) == (1, 2)
    return no_prior_density(sde) or (None if two else "No two entries of the data are two real numbers of the state.")


@NOISE_LAWS.monte_carlo_law(excuses=_one_entry)
@both
def prior_entries_depend_as_its_density_says(sde: Any, seed: int) -> float:
    """If `prior_log_prob` is that of independent entries, no entry of a sample of the prior tells how far out another one is."""
    draws = Draws(sde, STARTS[0], seed + 7, (2,))
    rows, pilot = (draws.prior(_PAIRS) for _ in range(2))
    z = pilot[:_SQUARES]
    corners = [torch.stack([a[:, 0], b[:, 1]], 1) for a in (z, z.roll(1, 0)) for b in (z, z.roll(1, 0))]
    here, right, up, across = (sde.prior_log_prob(corner).reshape(_SQUARES, -1).sum(1) for corner in corners)
    mixed = here - right - up + across
    if not float(mixed.abs().max()) < _PRODUCT * float(1 + here.abs().max()):
        return 1.0
    middle = pilot.median(0).values
    known, away = ((z - middle).abs().T.contiguous() for z in (pilot, rows))
    sizes = torch.searchsorted(known.sort(1).values, away).T
    share, sign = sizes.double() / _PAIRS - 0.5, (rows > middle).double() - 0.5
    parts = (share[:, 0] * share[:, 1], sign[:, 0] * sign[:, 1], share[:, 0] * sign[:, 1], sign[:, 0] * share[:, 1])
    return together([draws.at(mean_is_zero(torch.stack(parts, 1)), draws.time(1.0))])


_PAIRS, _SQUARES, _PRODUCT = 2**16, 64, 1e-9
"""Samples of two entries; squares on which the density is compared with a product; to which rounding."""
