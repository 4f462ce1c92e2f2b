"""Time grids: the times at which a sampler evaluates the score.

A grid of `N` steps has `N + 1` times, float64 on the CPU: `hi = t_0 > … > t_{N−1} = lo > t_N = 0`. The last step,
from `lo` to 0, adds no noise. With one step the grid is `(hi, 0)`.

`uniform` takes equal steps in `t`, for any process. The others take equal steps in a *clock*, an increasing function of the noise
level `r = σ/α`, from `r_max = r(hi)` to `r_min = r(lo)`. They need a process with a noise level, such as an affine one:

- `karras`: `r^{1/ρ}`, `ρ = 7` (Karras et al., arXiv 2206.00364, eq. 5);
- `log-snr`: `ln r` (Lu et al., arXiv 2206.00927);
- `optimized`: `asinh(r/(κ r_min))`: steps proportional to `√(r² + (κ r_min)²)`. For normal data with standard deviation `κ r_min` this is
  the spread of the noised data: a step is a fixed fraction of it, and does not shrink with noise far below it. The first step, for which a
  multistep method has only one value, is `ω` times as long as the others. `κ` and `ω` are fitted for ten calls of
  `unipc:order=3,prediction=noise` on exact problems; `python docs/experiments/optimize_grid.py` fits and prints them. They hold if the
  lowest noise is about a hundredth of the data's spread, as for the built-in processes;
- `u-grid`: `ln 2τ` for `τ ≤ ½` and `−ln 2(1 − τ)` above, decreasing in `r`, where `τ = 1/(1 + r)` is the time of the straight flow
  `x_τ = τ x + (1 − τ) ε`. Its steps are proportional to `min(τ, 1 − τ)`: a geometric grid from the prior to `τ = ½`, and its mirror image
  from there to the data. It is designed for data near a low-dimensional set. If `r_max = 1/r_min` it is the published
  grid with `δ = 1/(1 + r_max)`; otherwise it has the end points of the process.

A sampler may define its own clock: `stochastic` is that of `rectified-sde`. `check_grid` requires the same end points of every grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sdezoo.errors import CompositionError, ParameterError
from sdezoo.process.process import Process

Spacing = Literal["auto", "uniform", "karras", "log-snr", "optimized", "u-grid"]

KNEE, FIRST = 15.1, 0.46
"""`κ` and `ω` of `optimized`, fitted by `python docs/experiments/optimize_grid.py`."""

_RHO = 7.0


class _Clock(NamedTuple):
    """A monotone function of the noise level `σ/α`, and its inverse; a grid takes equal steps in it."""

    read: Callable[[Tensor], Tensor]
    level: Callable[[Tensor], Tensor]


def grid(sde: Process, steps: int, spacing: Spacing) -> Tensor:
    """Return the times of `steps` steps.

    Args:
        sde: the process.
        steps: number of steps, at least 1.
        spacing: `auto` is `karras` for processes with a noise level, else `uniform`.

    Returns:
        Times, float64, `(steps + 1,)`, decreasing: `hi`, …, `lo`, 0.

    Raises:
        CompositionError: if the process has no noise level and `spacing` needs one.
    """
    if spacing == "uniform" or (spacing == "auto" and _levels(sde) is None):
        lo, hi = sde.t_span
        return _with_ends(sde, hi + (lo - hi) * torch.linspace(0, 1, steps, dtype=torch.float64))
    if spacing == "optimized":
        return optimized(sde, steps, KNEE, FIRST)
    return _even(sde, _CLOCKS["karras" if spacing == "auto" else spacing], torch.linspace(0, 1, steps, dtype=torch.float64))


def optimized(sde: Process, steps: int, knee: float, first: float) -> Tensor:
    """Return the grid `optimized`.

    Args:
        sde: a process with a noise level.
        steps: number of steps, at least 1.
        knee: `κ`, the assumed spread of the data in units of `r_min`.
        first: `ω`, the length of the first step in units of the others.

    Returns:
        Times, float64, `(steps + 1,)`, decreasing: `hi`, …, `lo`, 0.

    Raises:
        CompositionError: if the process has no noise level.
    """
    softening = knee * float(_known_levels(sde)[0])
    clock = _Clock(lambda r: torch.asinh(r / softening), lambda u: softening * torch.sinh(u))
    passed = torch.arange(steps, dtype=torch.float64) - 1 + first
    passed[0] = 0
    return _even(sde, clock, passed / (steps - 2 + first))


def stochastic(sde: Process, steps: int, first: float, rate: float) -> Tensor:
    """Return the grid of the stochastic sampler of rectified flow.

    Roy, Rinaldo & Sarkar, arXiv 2601.15500, after Li & Yan, arXiv 2405.14861. With `N` steps and `f = c_1 ln N/N`, the share of signal
    is `ω_i = Π_{j ≤ i} (1 − β_j)`, `β_1 = N^{−c_0}`, `β_i = f min(1, β_1 (1 + f)^i)`, at noise levels `r_i = √(1/ω_i − 1)`: noise grows
    geometrically at first, and beyond some level signal is lost at a constant rate. The published grid goes from `r_N` to `r_1`. Here
    its index is the clock. If the process has other end points, the curve is cut off, or continued beyond `r_1` at its rate there, and
    the `N` steps are spread evenly over it.

    Args:
        sde: a process with a noise level.
        steps: `N`.
        first: `c_0`.
        rate: `c_1`.

    Returns:
        Times, float64, `(steps + 1,)`, decreasing: `hi`, …, `lo`, 0.

    Raises:
        CompositionError: if the process has no noise level.
        ParameterError: if `f` is not between 0 and 1, or if `r_N` is below the process's noise level at `hi`, so that the grid would not
            start in noise.
    """
    f = rate * math.log(steps) / steps
    if not 0 < f < 1:
        raise ParameterError(
            f"The stochastic time grid of {steps} steps has c_1 ln N/N = {f:.3g}, which is not between 0 and 1.",
            "Take more steps, or a smaller c_1.",
        )
    index = torch.arange(1, steps + 1, dtype=torch.float64)
    beta = f * (steps**-first * (1 + f) ** index).clamp(max=1)
    beta[0] = steps**-first
    lost = -torch.log1p(-beta).cumsum(0)
    levels = (lost + (-torch.expm1(-lost)).log()) / 2  # ln r
    needed = float(_known_levels(sde)[1])
    if levels[-1] < math.log(needed) - 1e-9:
        raise ParameterError(
            f"The stochastic time grid of {steps} steps starts at a noise level of {math.exp(levels[-1]):.3g}, "
            f"where the state is not noise yet: that of '{sde.title()}' is {needed:.3g}.",
            "Take a larger c_1, or a smaller c_0.",
        )
    clock = _Clock(lambda r: _broken_line(levels, index, r.log()), lambda u: _broken_line(index, levels, u).exp())
    return _even(sde, clock, torch.linspace(0, 1, steps, dtype=torch.float64))


def grid_refuses(spacing: Spacing, sde: Process) -> str | None:
    """Return why `spacing` does not work with `sde`; None if it does."""
    if spacing not in ("auto", "uniform") and _levels(sde) is None:
        return f"with spacing={spacing} needs a process with a noise level, such as an affine SDE"
    return None


def check_grid(times: Tensor, sde: Process) -> None:
    """Check that a grid is `hi = t_0 > … > t_{N−1} = lo > t_N = 0`, or `(hi, 0)`.

    Args:
        times: the grid; `lo` and `hi` need only match within a relative 1e-6.
        sde: the process, which gives `lo` and `hi`.

    Raises:
        ParameterError: if the times are not a float64 vector, not finite or not decreasing; if the grid starts below or beyond the prior,
            does not reach the data, or needs the score below `lo`.
    """
    lo, hi = sde.t_span
    if times.dtype != torch.float64 or times.ndim != 1 or len(times) < 2 or not bool(times.isfinite().all()):
        raise ParameterError(
            f"A time grid of shape {tuple(times.shape)} and {times.dtype} is not a float64 vector of two or more finite times.",
            f"Return {hi:g}, …, {lo:g}, 0 in float64.",
        )
    if not bool((times.diff() < 0).all()):
        raise ParameterError("The time grid does not decrease at every step.", f"Go down from {hi:g} through {lo:g} to 0.")
    first, last = float(times[0]), float(times[-1])
    if not math.isclose(first, hi, rel_tol=1e-6):
        where = "below the prior, where the state is not noise yet" if first < hi else "beyond the prior"
        raise ParameterError(f"The time grid starts at t = {first:g}, {where}.", f"Start at t = {hi:g}.")
    before = float(times[-2])
    if last != 0 or (len(times) > 2 and before > lo and not math.isclose(before, lo, rel_tol=1e-6)):
        raise ParameterError(
            f"The time grid does not reach the data: it ends with {before:g}, {last:g}.", f"End with {lo:g}, 0: the last step denoises."
        )
    if len(times) > 2 and before < lo and not math.isclose(before, lo, rel_tol=1e-6):
        raise ParameterError(f"The time grid needs the score at t = {before:g}, where the process defines none.", f"End with {lo:g}, 0.")


def _even(sde: Process, clock: _Clock, passed: Tensor) -> Tensor:
    """Return the times at the fractions `passed` of the clock's range."""
    start, end = clock.read(_known_levels(sde).flip(0))
    return _with_ends(sde, sde.time_at(clock.level(start + (end - start) * passed)))


def _levels(sde: Process) -> Tensor | None:
    """Return the noise levels at `lo` and `hi`; None if the process has none."""
    return sde.noise_level(torch.tensor(sde.t_span, dtype=torch.float64))


def _known_levels(sde: Process) -> Tensor:
    levels = _levels(sde)
    if levels is None:
        raise CompositionError(f"'{sde.title()}' has no noise level to space a time grid by.", "Choose spacing=uniform.")
    return levels


def _broken_line(knots: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """Interpolate linearly between increasing `knots`; extend the first and last pieces beyond them."""
    right = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    slope = (values[right] - values[right - 1]) / (knots[right] - knots[right - 1])
    return values[right - 1] + slope * (x - knots[right - 1])


def _with_ends(sde: Process, times: Tensor) -> Tensor:
    lo, hi = sde.t_span
    times[-1] = lo
    times[0] = hi
    return torch.cat([times, times.new_zeros(1)])


def _straight(r: Tensor) -> Tensor:
    # With τ = 1/(1 + r): r > 1 where τ < ½.
    return torch.where(r > 1, ((1 + r) / 2).log(), (2 * r / (1 + r)).log())


def _straight_level(u: Tensor) -> Tensor:
    half = u.abs().neg().exp() / 2  # min(τ, 1 − τ)
    small = half / (1 - half)
    return torch.where(u > 0, 1 / small, small)


_CLOCKS = {
    "karras": _Clock(lambda r: r ** (1 / _RHO), lambda u: u**_RHO),
    "log-snr": _Clock(torch.log, torch.exp),
    "u-grid": _Clock(_straight, _straight_level),
}
