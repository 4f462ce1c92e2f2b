"""Laws of processes whose network learns a denoiser, tested on samples.

Like those of `sdezoo.conformance.laws.draw_laws`, they are exact identities of expectations, for a bump `φ`:

- the flow of an interpolant: `E φ(z_b) − E φ(z_a) = (b − a) E[v·∇φ(z_u)]`, `u` uniform on `[a, b]`. The velocity
  `v = α' z_0 + σ' e`, which its `target` gives, is linear in `z_0`, so that its mean given `z_u` is the velocity of the flow;
- the target: `E[(y − E[y | z_t]) φ(z_t)] = 0` for `y = target`, the conditional mean taken over a few data points.
"""

from __future__ import annotations

from typing import Any

import torch

from sdezoo.conformance.bank.problems import Atoms
from sdezoo.conformance.evidence import ROWS, Bumps, mean_is_zero, together
from sdezoo.conformance.law import Suite
from sdezoo.conformance.laws.calculus_laws import no_density
from sdezoo.conformance.laws.draw_laws import STARTS, WINDOWS, Draws, both
from sdezoo.process.interpolant import Interpolant
from sdezoo.process.noise import Noise, mix
from sdezoo.process.process import Denoised, Process

DENOISER_LAWS: Suite[Process] = Suite()


def _no_interpolant(sde: Process) -> str | None:
    return None if isinstance(sde, Interpolant) else "It is not an interpolant of data and noise."


@DENOISER_LAWS.monte_carlo_law(excuses=_no_interpolant)
@both
def flow_has_the_marginals(sde: Any, seed: int) -> float:
    """The flow of the denoiser that a network learns has the marginal distributions of the samples of `perturb`."""
    found = []
    for (first, last), start in zip(WINDOWS, (*STARTS, 0.4), strict=True):
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
    for k, share in enumerate((0.0, 0.3, 0.6, 1.0)):
        draws = Draws(sde, 0.0, mix(seed, k))
        t, noise = draws.time(share), draws.noise()
        near = min(1.0, float(sde.scale(t)))  # if the points were further apart than the noise is wide, there would be nothing to average
        model = Atoms(sde, torch.cat([Draws(sde, near * start, 0).point for start in STARTS]))
        x0 = model.clean(ROWS, noise)
        z = sde.perturb(x0, t, noise)
        bumps = Bumps.fitted(z[:2048].flatten(1), lambda c, d=draws, z=z: d.inside(c.reshape(-1, *z.shape[1:])), seed=draws.seed)
        error = (sde.target(z, x0, t) - model.predict(z, t)).flatten(1)
        rows = bumps.value(z.flatten(1))[..., None] * error[:, None]
        found.append(draws.at(mean_is_zero(rows.flatten(1)), t))
    return together(found)
