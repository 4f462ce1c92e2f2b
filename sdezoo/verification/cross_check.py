"""Cross-check of the reverse SDE with torchsde: the same equation on the same Brownian path, solved by independent code.

torchsde integrates the equation on the data if there is one: for `φ ≠ id` its drift and score differ from those in the
coordinates, where ends are exact (`sdezoo.verification.paths`), and its noise depends on the state.

- *Strong order*: the slope of `log E |x_h − x|` at the end over `log h`, `x` exact.
- *Equality*: a method and its closed form agree to rounding, step after step.
- *Limit difference*: `e_h = L + C h^p` for the errors of the last two levels gives `L = (2^p e_h − e_2h)/(2^p − 1)`, with a
  standard error over separate paths. It is 0 if torchsde's solution and the closed form have the same limit, and negative
  if errors decrease faster than `h^p`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.noise_doubles import Impulse, keyed
from sdezoo.errors import SupportError
from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Conditional
from sdezoo.process.sde import ForwardSDE, MatrixSDE
from sdezoo.process.torchsde_bridge import ITO, bridge_refuses
from sdezoo.sampling.sampler import Sampler
from sdezoo.verification.findings import Curve, Finding, Part, order_with_error
from sdezoo.verification.paths import FINER, NOISE, BrownianFactory, ReversePaths, bent, follow
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SAMPLERS

EQUAL = 1e-12
"""Relative tolerance to which a method and its closed form must agree, or `ROUNDED` times the effect of rounding if that is more."""
ROUNDED = 10.0
"""In units of the change at the end if every state on the way is rounded up or down to the next number."""
SAME = 1e-6
"""A sampler that agrees with Euler's method to this tolerance is Euler's method, and must agree to `EQUAL`."""
LOST = 0.02
"""Largest fraction of paths that may leave the support before an average is meaningless."""

_BEYOND = "the noise of an entry depends on other entries, and torchsde has the method for diagonal noise alone"
STRONG, EQUALITY, LIMIT = "strong order", "equality", "limit difference"


@dataclass(frozen=True)
class Ladder:
    """Numbers of steps at which errors are measured."""

    euler: Sequence[int] = (128, 256, 512, 1024)
    """For samplers and torchsde's `euler`. With fewer steps and state-dependent noise, errors are not asymptotic yet."""
    milstein: Sequence[int] = (32, 64, 128, 256)
    """For torchsde's `milstein`."""
    srk: Sequence[int] = (16, 32, 64)
    """For torchsde's `srk`; empty: not measured, since no reference is finer."""

    @property
    def finest(self) -> int:
        """The largest number of steps."""
        return max(*self.euler, *self.milstein, *self.srk)


COARSE = Ladder((16, 32, 64, 128), (16, 32, 64, 128), ())
"""The numbers of steps if no exact end is known, since the reference must be eight times finer."""


@torch.no_grad()
def cross_check(sde: Any, factory: BrownianFactory, count: int, ladder: Ladder, seed: int, notify: Callable[[str], None]) -> Part:
    """Measure torchsde's methods and every sampler that a Brownian path can drive: strong orders, equalities, limit differences.

    Args:
        sde: The process.
        factory: Makes the Brownian motion.
        count: Number of paths.
        ladder: Numbers of steps; for a process that is not affine `COARSE` is used instead.
        seed: Of the starts.
        notify: Called with a description of the work that comes next.
    """
    part = Part()
    ladder = ladder if isinstance(sde, AffineSDE) else COARSE
    reason = refuses(sde)
    if reason:
        return _inapplicable(reason)
    notify("reverse paths")
    paths = follow(sde, factory, count, ladder.finest, seed)
    touched = int(paths.confined.sum())
    if touched > LOST * count:
        return _inapplicable(f"the boundary rule acts on {touched} of {count} paths, and torchsde has none")
    view = paths.model.ambient() if bent(sde) else paths.model  # pyright: ignore[reportAttributeAccessIssue]
    where = "in the data" if view is not paths.model else "on the state"
    part.setting |= _setting(paths, where, count)
    exact = compared(paths, paths.model, paths.end)
    exact[paths.confined] = math.nan
    known = isinstance(sde, AffineSDE)
    orders = {"euler": euler_order(paths, view), "milstein": (1.0, 0.9, 1.1 if known else None), "srk": (1.5, 1.25, None)}
    for method in ITO:
        steps: Sequence[int] = getattr(ladder, method)
        name = f"torchsde {method}, {where}"
        if bridge_refuses(view.sde, method) is not None:
            part.findings += [Finding(what, name, note=_BEYOND) for what in (STRONG, LIMIT)]
            continue
        if not steps:
            part.findings += [Finding(what, name, note="no reference is known that is finer") for what in (STRONG, LIMIT)]
            continue
        ends = []
        for n in steps:
            notify(f"torchsde {method}, {n} steps")
            ends.append(compared(paths, view, paths.by_torchsde(view, method, n)))
        _measure(part, name, steps, ends, exact, *orders[method])
    first = ladder.milstein[0]
    for model, place in {id(view): (view, where), id(paths.model): (paths.model, "on the state")}.values():
        for method in ITO[:2]:
            notify(f"{method} in closed form, {place}")
            name = f"torchsde {method} = its closed form, {place}"
            if bridge_refuses(model.sde, method) is not None:
                part.findings.append(Finding(EQUALITY, name, note=_BEYOND))
                continue
            ours = paths.by_formula(model, first, milstein=method == "milstein")
            bound = _rounding(paths, model, first, ours, milstein=method == "milstein")
            part.findings.append(Finding(EQUALITY, name, _difference(ours, paths.by_torchsde(model, method, first)), high=bound))
    _samplers(part, paths, ladder.euler, exact, notify)
    return part


def refuses(sde: Any) -> str | None:
    """Why torchsde cannot cross-check the reverse SDE of `sde`; None if it can."""
    if not isinstance(sde, ForwardSDE):
        return "is no SDE"
    if not isinstance(sde, Conditional):
        return "no exact score is known, since its conditional score is unknown"
    if isinstance(sde, MatrixSDE):
        return "the noise is a matrix, and the closed forms are those of diagonal noise"
    return bridge_refuses(sde)


def euler_order(paths: ReversePaths, view: Model[Any]) -> tuple[float, float, float | None]:
    """The strong order of Euler's method in theory: ½ if the noise depends on the state, else 1.

    There is no upper bound if a finer solution replaces the exact one, since errors then seem to decrease faster. For
    order ½ there is one only for multiplicative noise at its full level: the smaller the share of the error that is due to
    the noise, the later that order sets in.

    Args:
        paths: The paths.
        view: The model whose equation is solved.

    Returns:
        The order, its lower bound, and its upper bound or None.
    """
    sde, t = paths.model.sde, paths.times(1)[0]
    exact = isinstance(sde, AffineSDE)
    if not (view.sde.divergence(paths.enter(view), t) != 0).any():
        return 1.0, 0.9, 1.1 if exact else None
    return 0.5, 0.4, 0.6 if exact and sde.multiplicative and float(sde.exact(t).ratio) > 0.9 * NOISE[0] else None


def normals_a_step(sampler: Sampler[Any], paths: ReversePaths) -> float:
    """The number of normal numbers that a sampler draws per entry and step; NaN if it draws other random numbers.

    Args:
        sampler: The sampler.
        paths: Give the process, the start and the times.
    """
    view, noise = sampler.view(paths.model), Impulse()
    z, (t, s, _) = paths.enter(view)[:1], paths.times(2).unbind()
    try:
        sampler.step(view, z, t, s, noise, None)
    except NotImplementedError:
        return math.nan
    return noise.requests / z.numel()


def _inapplicable(reason: str) -> Part:
    return Part([Finding(name, "torchsde", note=reason) for name in (STRONG, EQUALITY, LIMIT)])


def _samplers(part: Part, paths: ReversePaths, steps: Sequence[int], exact: Tensor, notify: Callable[[str], None]) -> None:
    others: dict[float, list[str]] = {}
    for name, sampler in defaults(SAMPLERS):
        if sampler.refuses(paths.model.sde) is not None:
            continue
        drawn = normals_a_step(sampler, paths)
        if drawn != 1:
            others.setdefault(drawn, []).append(name)
            continue
        view = sampler.view(paths.model)
        ends = []
        for n in steps:
            notify(f"{name}, {n} steps")
            ends.append(paths.by_sampler(sampler, view, n))
        claimed: float | None = sampler.strong_order
        low, high = None if claimed is None else claimed - 0.1, None
        euler = paths.by_formula(view, steps[0], milstein=False)
        theirs = torch.where(torch.isfinite(euler), paths.by_torchsde(view, "euler", steps[0]), math.nan)
        if (difference := _difference(ends[0], theirs)) < SAME:
            bound = _rounding(paths, view, steps[0], euler, milstein=False)
            part.findings.append(Finding(EQUALITY, f"sampler {name} = torchsde euler", difference, high=bound))
            claimed, low, high = euler_order(paths, view)
        _measure(part, f"sampler {name}", steps, [compared(paths, view, z) for z in ends], exact, claimed, low, high)
    if others:
        drawn = "; ".join(f"{', '.join(names)} with {count:g}" for count, names in others.items())
        part.findings.append(Finding(STRONG, "other samplers", note=f"no Brownian path drives {drawn} normal numbers a step"))


def _measure(
    part: Part,
    name: str,
    steps: Sequence[int],
    ends: Sequence[Tensor],
    exact: Tensor,
    claimed: float | None,
    low: float | None,
    high: float | None,
) -> None:
    errors = torch.stack([(end - exact).abs().flatten(1).mean(1) for end in ends])
    kept = torch.isfinite(errors).all(0)
    lost = len(kept) - int(kept.sum())
    if lost > LOST * len(kept):
        note = f"left the support on {lost} of {len(kept)} paths at {steps[0]} steps or more"
        part.findings += [Finding(STRONG, name, note=note), Finding(LIMIT, name, note=note)]
        return
    errors = errors[:, kept]
    note = f"{lost} of {len(kept)} paths, which meet a boundary, are left out" if lost else ""
    slope, spread = order_with_error(steps, errors)
    levels = f"{steps[0]}–{steps[-1]} steps"
    part.findings.append(Finding(STRONG, f"{name}, {levels}", slope, low, high, spread, note))
    part.curves.append(Curve(STRONG, name, list(steps), errors.mean(1).tolist(), note))
    if claimed is None:
        part.findings.append(Finding(LIMIT, name, note="no order is claimed"))
        return
    # The two finest levels, extrapolated to h → 0, in units of the mean size of the data.
    gain = 2.0**claimed
    limits = (gain * errors[-1] - errors[-2]) / (gain - 1) / float(exact[kept].abs().mean())
    spread = float(limits.std() / math.sqrt(len(limits)))
    bound = 4 * spread + 0.1 * float(errors[-1].mean() / exact[kept].abs().mean())
    part.findings.append(Finding(LIMIT, name, float(limits.mean()), high=bound, error=spread))


def _rounding(paths: ReversePaths, view: Model[Any], steps: int, ends: Tensor, *, milstein: bool) -> float:
    """How far two ways to write a method may end apart: `EQUAL`, or `ROUNDED` times what rounding does to the closed form's `ends`."""
    moved = paths.by_formula(view, steps, milstein=milstein, rounded=1)
    return max(EQUAL, ROUNDED * _difference(moved, ends))


def _difference(ours: Tensor, theirs: Tensor) -> float:
    inside = torch.isfinite(ours) & torch.isfinite(theirs)
    ours, theirs = ours[inside], theirs[inside]
    # A state may be near 0 although the values that it is computed from are not.
    return float(((ours - theirs).abs() / theirs.abs().clamp_min(float(theirs.std()) / 10)).max()) if len(ours) else math.nan


def compared(paths: ReversePaths, view: Model[Any], z: Tensor) -> Tensor:
    """Map ends of a solution to where they are compared: the data if there is an equation on them, else the state.

    Args:
        paths: The paths.
        view: The model whose equation was solved.
        z: Ends, as states of `view`.

    Returns:
        The ends; NaN where they are outside the support.
    """
    sde = paths.model.sde
    if not bent(sde):
        return z if view is paths.model else sde.encode(view.sde.decode(z), keyed(len(z)))
    try:
        x = view.sde.decode(z)
    except SupportError:
        return torch.full_like(z, math.nan)
    return torch.where(sde.support.check(x), x, math.nan)


def _setting(paths: ReversePaths, where: str, count: int) -> dict[str, str]:
    sde, lo = paths.model.sde, paths.hi - paths.span
    if isinstance(sde, AffineSDE):
        high, low = sde.exact(torch.tensor([paths.hi, lo], dtype=torch.float64)).ratio.tolist()
        deviation = float(paths.model.deviations[0, 0])  # pyright: ignore[reportAttributeAccessIssue]
        law = f"coordinates normal with standard deviation {deviation:.3g}; noise to signal from {high:.3g} down to {low:.3g}; ends exact"
    else:
        law = f"two points as data; ends of Milstein's method with {FINER} times the steps"
    return {"reverse paths": f"{count} paths {where}, t from {paths.hi:.6g} to {lo:.6g}; {law}; float64"}
