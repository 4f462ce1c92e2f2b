"""Time grids: where a sampler asks for the score.

A grid of `N` steps has `N + 1` times, float64 on the CPU: `hi = t_0 > … > t_{N−1} = lo > t_N = 0`. The last step,
from `lo` to 0, is free of noise. With one step it is `(hi, 0)`.

`uniform` takes equal steps in `t`, for any process. The others take equal steps in a *clock*, an increasing function of the noise
level `r = σ/α`, from `r_max = r(hi)` to `r_min = r(lo)`, for processes that have one, as affine ones do:

- `karras`: `r^{1/ρ}`, `ρ = 7` (Karras et al., arXiv 2206.00364, eq. 5);
- `log-snr`: `ln r` (Lu et al., arXiv 2206.00927);
- `optimized`: `asinh(r/(κ r_min))`: steps proportional to `√(r² + (κ r_min)²)`. Were the data normal with standard deviation `κ r_min`,
  that would be the spread of the noised data: a step is a fixed share of it, and does not shrink with noise that is much below it. The
  first step, for which a multistep method has one value to go by, is `ω` times as long as the others. `κ` and `ω` are fitted for
  ten calls of `unipc:order=3,prediction=noise`, on exact problems, by `python docs/optimize_grid.py`, which prints them. They hold
  where the lowest noise is about a hundredth of the data's spread, as it is for the built-in processes;
- `u-grid`: `ln 2τ` for `τ ≤ ½` and `−ln 2(1 − τ)` above, falling in `r`, where `τ = 1/(1 + r)` is the time of the straight flow
  `x_τ = τ x + (1 − τ) ε`. Its steps are proportional to `min(τ, 1 − τ)`: a geometric grid from the prior to `τ = ½`, and its mirror image
  from there to the data, made for data near a set of low dimension. Where `r_max = 1/r_min` it is that of the published
  grids with `δ = 1/(1 + r_max)`; for others it begins and ends with the process.

A sampler may have a clock of its own: `stochastic` is that of `rectified-sde`. `check_grid` holds any other grid to the same ends.
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
"""`κ` and `ω` of `optimized`: found by `python docs/optimize_grid.py`."""

_RHO = 7.0


class _Clock(NamedTuple):
    """A monotone function of the noise level `σ/α`, and its inverse: what has equal steps."""

    read: Callable[[Tensor], Tensor]
    level: Callable[[Tensor], Tensor]


def grid(sde: Process, steps: int, spacing: Spacing) -> Tensor:
    """The times of `steps` steps; `auto` is `karras` for processes with a noise level and `uniform` for the others."""
    if spacing == "uniform" or (spacing == "auto" and _levels(sde) is None):
        lo, hi = sde.t_span
        return _with_ends(sde, hi + (lo - hi) * torch.linspace(0, 1, steps, dtype=torch.float64))
    if spacing == "optimized":
        return optimized(sde, steps, KNEE, FIRST)
    return _even(sde, _CLOCKS["karras" if spacing == "auto" else spacing], torch.linspace(0, 1, steps, dtype=torch.float64))


def optimized(sde: Process, steps: int, knee: float, first: float) -> Tensor:
    """The grid `optimized` with `κ = knee` and `ω = first`."""
    softening = knee * float(_known_levels(sde)[0])
    clock = _Clock(lambda r: torch.asinh(r / softening), lambda u: softening * torch.sinh(u))
    passed = torch.arange(steps, dtype=torch.float64) - 1 + first
    passed[0] = 0
    return _even(sde, clock, passed / (steps - 2 + first))


def stochastic(sde: Process, steps: int, first: float, rate: float) -> Tensor:
    """The grid of the stochastic sampler of rectified flow, with `c_0 = first` and `c_1 = rate`.

    Roy, Rinaldo & Sarkar, arXiv 2601.15500, after Li & Yan, arXiv 2405.14861. With `N` steps and `f = c_1 ln N/N`, the share of signal
    is `ω_i = Π_{j ≤ i} (1 − β_j)`, `β_1 = N^{−c_0}`, `β_i = f min(1, β_1 (1 + f)^i)`, at noise levels `r_i = √(1/ω_i − 1)`: noise grows
    geometrically, and from some level on signal is lost at a constant rate. The published grid goes from `r_N` to `r_1`. Here its
    index is the clock: where the process begins and ends elsewhere, steps of that curve are cut off, or go on beyond `r_1` at the rate
    that they have there, and the `N` that were asked for are spread evenly.

    Raises:
        ParameterError: where `f` is not below 1; where `r_N` is below the noise of the process, so that the grid would not start in noise.
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
    """Why `spacing` does not work with `sde`; None where it does."""
    if spacing not in ("auto", "uniform") and _levels(sde) is None:
        return f"with spacing={spacing} needs a process with a noise level, such as an affine SDE"
    return None


def check_grid(times: Tensor, sde: Process) -> None:
    """Hold a grid to `hi = t_0 > … > t_{N−1} = lo > t_N = 0`, or `(hi, 0)`; `lo` and `hi` to within a millionth.

    Raises:
        ParameterError: for times that are no float64 vector, not finite or not decreasing; for a grid that starts below the prior or beyond
            it, does not reach the data, or asks for the score nearer to them than the process gives it.
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
        raise ParameterError(f"The time grid asks for the score at t = {before:g}, where the process has none.", f"End with {lo:g}, 0.")


def _even(sde: Process, clock: _Clock, passed: Tensor) -> Tensor:
    """The times at which `passed` of what `clock` has to go is done."""
    start, end = clock.read(_known_levels(sde).flip(0))
    return _with_ends(sde, sde.time_at(clock.level(start + (end - start) * passed)))


def _levels(sde: Process) -> Tensor | None:
    """The noise levels at `lo` and `hi`."""
    return sde.noise_level(torch.tensor(sde.t_span, dtype=torch.float64))


def _known_levels(sde: Process) -> Tensor:
    levels = _levels(sde)
    if levels is None:
        raise CompositionError(f"'{sde.title()}' has no noise level to space a time grid by.", "Choose spacing=uniform.")
    return levels


def _broken_line(knots: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """The function that is linear between increasing `knots`, where it has `values`; its first and last piece go on."""
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
