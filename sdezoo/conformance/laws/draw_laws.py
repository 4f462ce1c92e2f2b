"""Laws of processes that hold on average, tested on samples.

All are identities of expectations that hold exactly, so the p-values of a correct process are uniform. With a bump `φ` that
vanishes near every boundary, the generator `L φ = f·∇φ + ½ D : ∇²φ`, `D = g gᵀ`, and `s = ∇ log p(z_t | x_0)`:

- score (Stein):       `E[φ (D s)_i + φ (∇·D)_i + (D ∇φ)_i] = 0`
- the SDE (Dynkin):    `E φ(z_b) − E φ(z_a) = (b − a) E L φ(z_u)`, `u` uniform on `[a, b]`
- reverse SDE:         the same with `L φ = r·∇φ − ½ D : ∇²φ`, `r` the reverse drift
- probability flow:    the same with `L φ = r·∇φ`, `r` the flow's drift

Simulated paths have a bias of first order in the step `h`. Richardson extrapolation, path by path, removes it:
`2 φ(z^{h/2}) − φ(z^h)` with common noise (Talay & Tubaro 1990).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import FLAT, busy, event_at, filled, typical
from sdezoo.conformance.bank.problems import Atoms
from sdezoo.conformance.evidence import ROWS, Bumps, PValue, mean_is_zero, paths_agree, together
from sdezoo.conformance.law import LEVEL, Suite
from sdezoo.conformance.laws.calculus_laws import no_score, no_sde
from sdezoo.errors import SupportError
from sdezoo.process.columns import count_outside
from sdezoo.process.noise import Noise, mix
from sdezoo.process.process import Process, Shape
from sdezoo.process.sde import ForwardSDE, MatrixSDE

DRAW_LAWS: Suite[Process] = Suite()

PATHS = 2048
"""Number of simulated paths."""
_STEPS = 64
_BACK = 16
_FINER = 8
STARTS = (0.0, 0.8, -0.6)
"""Data points to try, as the normal numbers that `typical` maps into the support."""
PLACES = (0.0, FLAT, -0.6, 0.8)
"""As `STARTS`, with one at which there are two entries, at an early time, when data are not forgotten."""


class Draws:
    """Samples of one process from a single data point, in float64.

    Every call samples afresh, and every start has its own stream.

    Args:
        sde: The process.
        start: Position of the data point, in the normal numbers of `typical`.
        seed: Of the noise.
        event: Shape of the data point; None: the smallest that the process takes, or for some starts one of two entries, see `event_at`.
    """

    def __init__(self, sde: Any, start: float, seed: int, event: Shape | None = None) -> None:
        self.sde, self.seed, self.calls = sde, mix(seed, int(1000 * start)), 0
        event = event_at(sde, start) if event is None else event
        wave = torch.cos(2.3 * torch.arange(int(torch.Size(event).numel()), dtype=torch.float64))  # entries that differ, also in sign
        self.point = typical(sde, (start * wave).reshape(1, *event))

    def noise(self) -> Noise:
        """A fresh stream of noise."""
        self.calls += 1
        return Noise.seeded(self.seed, self.calls)

    def time(self, share: float) -> Tensor:
        """The time at a fraction `share` of `t_span`, float64, 0-dim."""
        lo, hi = self.sde.t_span
        return torch.tensor(lo + share * (hi - lo), dtype=torch.float64)

    def data(self, count: int) -> Tensor:
        """`count` copies of the data point, `(count, *event)`."""
        return self.point.expand(count, *self.point.shape[1:]).contiguous()

    def states(self, t: Tensor, count: int = ROWS) -> Tensor:
        """Sample `z_t`, float64 `(count, *state)`.

        Args:
            t: The time, 0-dim.
            count: Number of samples.
        """
        return self.sde.perturb(self.data(count), t, self.noise()).double()

    def prior(self, count: int) -> Tensor:
        """Sample the prior, float64 `(count, *state)`.

        Args:
            count: Number of samples.
        """
        return self.sde.prior((count, *self.point.shape[1:]), self.noise(), self.point).double()

    def at(self, p: float, *times: Tensor) -> PValue:
        """A p-value together with its case.

        Args:
            p: The p-value.
            times: The times of the case.
        """
        x0 = [round(x, 4) for x in self.point.flatten().tolist()]
        return PValue(p, f"{self.sde.spec}, x0 = {x0}, t = {' to '.join(f'{float(t):.4g}' for t in times)}")

    def bumps(self, *times: Tensor) -> Bumps:
        """Bumps fitted to the states at `times`, together."""
        rows = torch.cat([self.states(t, 2048) for t in times])
        return Bumps.fitted(rows.flatten(1), lambda corners: self.inside(corners.reshape(-1, *rows.shape[1:])), seed=self.seed)

    def inside(self, z: Tensor) -> Tensor:
        """Whether all states decode into the support, 0-dim."""
        try:
            return torch.tensor(count_outside(self.sde.support, self.sde.decode(z)) == 0)
        except SupportError:
            return torch.tensor(False)

    def between(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Sample one time per row, uniform on `[a, b]`, and the state at each.

        Args:
            a: First time, 0-dim.
            b: Last time, 0-dim.

        Returns:
            Times, float64 `(ROWS, 1, …, 1)`, and states, float64 `(ROWS, *state)`.
        """
        state = self.sde.state_shape((ROWS, *self.point.shape[1:]))
        u = self.noise().uniform(torch.empty((), dtype=torch.float64), (ROWS, *(1,) * (len(state) - 1)))
        t = a + (b - a) * u
        return t, self.states(t)

    def diffuse(self, z: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """`D v` for flattened `v` `(B, k, n)`, one of the `k` vectors at a time."""
        if isinstance(self.sde, MatrixSDE):
            return torch.stack([self.sde.ggt(z, t, v[:, k].reshape(z.shape)).flatten(1) for k in range(v.shape[1])], 1)
        g, noise = self.sde.diffusion(z, t), self.sde.noise_shape(z.shape)
        return torch.stack([(g * (g * v[:, k].reshape(z.shape)).sum_to_size(noise)).flatten(1) for k in range(v.shape[1])], 1)

    def contract(self, z: Tensor, t: Tensor, hessian: Tensor) -> Tensor:
        """Contraction of `D` with the Hessian of `φ`, `(B, k)`."""
        rows = [self.diffuse(z, t, hessian[:, :, i]) for i in range(hessian.shape[-1])]
        return torch.stack([row[..., i] for i, row in enumerate(rows)], -1).sum(-1)


def both(law: Callable[[Any, int], float]) -> Callable[[Any, int], float]:
    """Apply a Monte-Carlo law to the process as it is and to its `busy` twin, unless that one alone is simulated.

    Open hyper-parameters that are set may hide others: with numbers for zeros alone, it is tried too.
    """

    def p_value(sde: Any, seed: int) -> float:
        kinds = [kind for kind in dict.fromkeys((sde, busy(sde), filled(sde, opened=False))) if _known(kind) or not _known(sde)]
        return together([law(kind, seed + 1000 * k) for k, kind in enumerate(kinds)])

    p_value.__name__, p_value.__doc__ = law.__name__, law.__doc__
    return p_value


def _known(sde: Any) -> bool:
    return not isinstance(sde, ForwardSDE) or sde.knows_transition


def drawn_by_simulation(sde: Process) -> str | None:
    """Excuse of a process whose samples are simulated paths; None for any other."""
    if isinstance(sde, ForwardSDE) and type(sde).perturb is ForwardSDE.perturb:
        return "Its samples are simulated paths themselves."
    return None


def _no_stein_score(sde: Process) -> str | None:
    return no_score(sde) or drawn_by_simulation(sde)


@DRAW_LAWS.monte_carlo_law(excuses=_no_stein_score)
@both
def draws_have_the_score(sde: Any, seed: int) -> float:
    """The conditional score is that of the samples of `perturb`: `E[φ s + ∇φ] = 0` in the directions of the noise."""
    found, driven = [], isinstance(sde, ForwardSDE)
    for share, start in zip((0.0, 0.1, 0.5, 1.0), PLACES, strict=True):
        draws = Draws(sde, start, seed)
        t = draws.time(share)
        bumps = draws.bumps(t)
        z = draws.states(t)
        s = sde.score(z, draws.data(len(z)), t)
        gradient = bumps.derivatives(z.flatten(1))[0]
        phi = bumps.value(z.flatten(1))[..., None]
        if driven:
            drift = (sde.ggt(z, t, s) + sde.divergence(z, t)).flatten(1)[:, None]
            rows = phi * drift + draws.diffuse(z, t, gradient)
        else:
            rows = phi * s.flatten(1)[:, None] + gradient
        found.append(draws.at(mean_is_zero(rows.flatten(1)), t))
    return together(found)


WINDOWS = ((0.0, 0.05), (0.1, 0.3), (0.4, 0.7), (0.8, 1.0))


class Window:
    """Samples over a stretch of time, and what `d/dt E φ = E[v·∇φ + c D : ∇²φ]` needs of them; the laws of all drifts share them.

    Args:
        sde: The process.
        first: Start of the stretch, as a fraction of `t_span`.
        last: Its end.
        start: Position of the data point.
        seed: Of the noise.
    """

    def __init__(self, sde: Any, first: float, last: float, start: float, seed: int) -> None:
        self.draws = draws = Draws(sde, start, seed)
        self.a, self.b = draws.time(first), draws.time(last)
        bumps = draws.bumps(self.a, self.b)
        self.t, self.z = draws.between(self.a, self.b)
        self.gradient, self.hessian = bumps.derivatives(self.z.flatten(1))
        self.change = bumps.value(draws.states(self.b).flatten(1)) - bumps.value(draws.states(self.a).flatten(1))

    @cached_property
    def score(self) -> Tensor:
        """The conditional score, `(ROWS, *state)`."""
        return self.draws.sde.score(self.z, self.draws.data(len(self.z)), self.t)

    @cached_property
    def curvature(self) -> Tensor:
        """Contraction of `D` with the Hessian of `φ`, `(ROWS, k)`."""
        return self.draws.contract(self.z, self.t, self.hessian)

    def agrees(self, drift: Tensor, share: float) -> float:
        """p-value of the states moving by a drift `v` and `share` times the curvature.

        Args:
            drift: `v`, `(ROWS, *state)`.
            share: The factor `c`.
        """
        change = (self.gradient * drift.flatten(1)[:, None]).sum(-1)
        change = change + share * self.curvature if share else change
        return self.draws.at(mean_is_zero(self.change - (self.b - self.a) * change), self.a, self.b)


@lru_cache(maxsize=4)
def _windows(sde: Any, seed: int) -> list[Window]:
    return [Window(sde, *window, start, seed) for window, start in zip(WINDOWS, PLACES, strict=True)]


@DRAW_LAWS.monte_carlo_law(excuses=lambda sde: no_sde(sde) or drawn_by_simulation(sde))
@both
def draws_solve_the_sde(sde: Any, seed: int) -> float:
    """Samples of `perturb` evolve in time by drift and diffusion: `d/dt E φ = E[f·∇φ + ½ g gᵀ : ∇²φ]`."""
    return together([w.agrees(sde.drift(w.z, w.t), 0.5) for w in _windows(sde, seed)])


def _no_reversal(sde: Process) -> str | None:
    return no_sde(sde) or no_score(sde) or drawn_by_simulation(sde)


def _reversed(sde: Any, seed: int, half: float) -> float:
    return together([w.agrees(sde.reverse_drift(w.z, w.t, w.score, half), 0.5 - half) for w in _windows(sde, seed)])


@DRAW_LAWS.monte_carlo_law(excuses=_no_reversal)
@both
def reverse_sde_has_the_marginals(sde: Any, seed: int) -> float:
    """With the exact score, the reverse SDE has the same marginal distributions as the process, backward in time."""
    return _reversed(sde, seed, 1.0)


@DRAW_LAWS.monte_carlo_law(excuses=_no_reversal)
@both
def probability_flow_has_the_marginals(sde: Any, seed: int) -> float:
    """With the exact score, the probability flow has the same marginal distributions as the process."""
    return _reversed(sde, seed, 0.5)


def extrapolated(
    step: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    noise_shape: tuple[int, ...],
    z: Tensor,
    a: Tensor,
    b: Tensor,
    noise: Noise,
    steps: int = _STEPS,
) -> tuple[Tensor, Tensor]:
    """Paths from `a` to `b` with `steps` steps and with twice as many, on the same Brownian path."""
    coarse, fine, h = z, z, (b - a) / steps
    for k in range(steps):
        t = a + k * h
        first, second = (noise.normal(z, noise_shape) * (h.abs() / 2).sqrt() for _ in range(2))
        coarse = step(coarse, t, h, first + second)
        fine = step(step(fine, t, h / 2, first), t + h / 2, h / 2, second)
    return coarse, fine


def refined(p_value: Callable[[int], float]) -> float:
    """`p_value(1)`; if that contradicts the law, `p_value(8)`, with 8 times the steps: a stiff drift may need them to be asymptotic."""
    found = p_value(1)
    return found if found >= LEVEL else p_value(_FINER)


def _simulated(sde: Any, seed: int, windows: Sequence[tuple[float | None, float]]) -> float:
    return refined(lambda finer: _by_paths(sde, seed, windows, finer * _STEPS))


def _by_paths(sde: Any, seed: int, windows: Sequence[tuple[float | None, float]], steps: int) -> float:
    found = []
    for (share, end), start in zip(windows, STARTS[1:], strict=True):
        draws = Draws(sde, start, seed)
        b = draws.time(end)
        a = torch.zeros_like(b) if share is None else draws.time(share)
        z = draws.states(a, PATHS)

        def step(z: Tensor, t: Tensor, h: Tensor, dw: Tensor) -> Tensor:
            return sde.project(z + sde.drift(z, t) * h + sde.diffuse(z, t, dw), z)

        coarse, fine = extrapolated(step, tuple(sde.noise_shape(z.shape)), z, a, b, draws.noise(), steps)
        drawn, pilot = draws.states(b, PATHS), draws.states(b, 4 * PATHS)
        found.append(draws.at(paths_agree(*(rows.flatten(1) for rows in (coarse, fine, drawn, pilot))), a, b))
    return together(found)


@DRAW_LAWS.monte_carlo_law(excuses=lambda sde: no_sde(sde) or drawn_by_simulation(sde))
@both
def draws_agree_with_paths(sde: Any, seed: int) -> float:
    """`perturb` has the moments and quantiles of paths simulated from the data with drift, diffusion and boundary rule."""
    return _simulated(sde, seed, ((None, 0.15), (None, 0.4)))


@DRAW_LAWS.monte_carlo_law(excuses=lambda sde: no_sde(sde) or drawn_by_simulation(sde))
@both
def chapman_kolmogorov(sde: Any, seed: int) -> float:
    """Noising to `s` and then from `s` to `t` equals noising to `t`."""
    return _simulated(sde, seed, ((0.1, 0.3), (0.5, 0.75)))


@DRAW_LAWS.monte_carlo_law(excuses=_no_reversal)
@both
def reversal_recovers_the_law(sde: Any, seed: int) -> float:
    """With the exact score of data at two points, the reverse SDE ends in the distribution of those data with less noise."""
    return refined(lambda finer: _run_back(sde, seed, finer * _BACK))


def _run_back(sde: Any, seed: int, steps: int) -> float:
    draws = Draws(sde, STARTS[0], seed, event := event_at(sde, STARTS[2]))
    points = torch.cat([Draws(sde, start, seed, event).point for start in (STARTS[1:] if sde.knows_density else STARTS[:1])])
    model = Atoms(sde, points)
    a, b = draws.time(0.6), draws.time(0.3)

    def noised(t: Tensor, count: int) -> Tensor:
        return sde.perturb(model.clean(count, draws.noise()), t, draws.noise()).double()

    def step(z: Tensor, t: Tensor, h: Tensor, dw: Tensor) -> Tensor:
        return sde.project(z + sde.reverse_drift(z, t, model.score(z, t)) * h + sde.diffuse(z, t, dw), z)

    z = noised(a, PATHS)
    coarse, fine = extrapolated(step, tuple(sde.noise_shape(z.shape)), z, a, b, draws.noise(), steps)
    return draws.at(paths_agree(*(rows.flatten(1) for rows in (coarse, fine, noised(b, PATHS), noised(b, 4 * PATHS)))), a, b)
