"""Weak orders: how fast the distribution at the end converges as the step size decreases.

They are measured over the time span of `sdezoo.verification.paths`, with equal steps. The data are normal in coordinates
if the process is affine, else two points.

A sampler whose step is linear in state and noise keeps a normal distribution normal, `z_end = A z_start + Σ_k C_k ξ_k + b`.
Impulses give the whole map, so that the mean `m_h` and the standard deviation `s_h` at the end are exact. The error is
`√((m_h − m)² + (s_h − s)²) / s`, the Wasserstein-2 distance of two normal distributions.

Any other sampler that a Brownian path drives is compared with the exact ends of the same paths: `|E f(x_h) − E f(x)|` for
`f = tanh u` and `tanh² u`, `u` the standardized coordinate, with a standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.orders import Error, normal_end
from sdezoo.conformance.bank.problems import Mixture
from sdezoo.conformance.bank.sampler_problems import drive
from sdezoo.process.affine import AffineSDE
from sdezoo.sampling.sampler import Sampler
from sdezoo.verification.cross_check import LOST, compared, normals_a_step, refuses
from sdezoo.verification.findings import Curve, Finding, Part, order
from sdezoo.verification.paths import ReversePaths, bent, drawn, follow
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SAMPLERS

WEAK = "weak order"
STEPS = (16, 32, 64, 128)
COUNT = 2**14
"""Number of paths for the weak order of a sampler that is not linear."""
SPREAD = 1.0
"""Standard deviation of the data in units of the larger noise level. With that of the strong orders, the leading error of
Euler's method on the default `gbm` happens to vanish."""
EXACT = 1e-10
"""Errors below this are not due to the step size."""
LARGEST = 0.3
"""Largest standard error with which an order is reported."""
SLACK = 0.2
"""Fraction by which an order may lie below the claimed one, beyond standard errors: high orders set in late."""


@torch.no_grad()
def weak(sde: Any, seed: int, notify: Callable[[str], None], *, steps: Sequence[int] = STEPS, count: int = COUNT) -> Part:
    """Measure the weak order of every installed sampler that takes a process.

    Args:
        sde: The process.
        seed: Of the paths.
        notify: Called with a description of the work that comes next.
        steps: Numbers of steps to compare.
        count: Number of paths for samplers that are not linear.
    """
    part = Part()
    reason = refuses(sde)
    if reason:
        return Part([Finding(WEAK, "every sampler", note=reason)])
    if not isinstance(sde, AffineSDE):
        # The reference is expensive: it takes eight times more steps.
        steps, count = [n // 2 for n in steps], count // 8
    ends = follow(sde, drawn(1, seed), 1, 1, seed, SPREAD)
    paths = None
    for name, sampler in defaults(SAMPLERS):
        if sampler.refuses(sde) is not None:
            continue
        notify(f"weak order of {name}")
        exact = [linear_error(sampler, ends, n) for n in steps]
        if None not in exact:
            errors = torch.tensor(exact, dtype=torch.float64)
            spread, note = None, "exact"
        elif normals_a_step(sampler, ends) == 1:
            paths = paths or follow(sde, drawn(steps[-1], seed), count, steps[-1], seed, SPREAD)
            errors, error = sampled_errors(sampler, paths, steps)
            spread, note = error, f"{count} paths"
        else:
            part.findings.append(Finding(WEAK, name, note="not linear in its noise, and not driven by one Brownian motion"))
            continue
        claimed = sampler.weak_order
        if normals_a_step(sampler, ends) > 1:
            claimed, note = None, f"{note}; the error of its correctors depends on their own step size"
        _measure(part, name, steps, errors, claimed, spread, note)
    return part


def linear_error(sampler: Sampler[Any], paths: ReversePaths, steps: int) -> float | None:
    """The error of mean and standard deviation at the end; None if the sampler is not linear in state and noise.

    Args:
        sampler: The sampler.
        paths: Give the process, the data and the times; the paths themselves are not used.
        steps: Number of equal steps.
    """
    model = paths.model
    if not isinstance(model, Mixture) or sampler.view(model) is not model:
        return None
    times = paths.times(steps)
    (m1, v1), (m0, v0) = (tuple(part[0] for part in model.components(paths.start[:0], t)) for t in (times[0], times[-1]))
    found = normal_end(lambda start, noise: drive(sampler, model, start, times, noise), m1, v1)
    if found is None:
        return None
    return float((((found.mean - m0) ** 2 + (found.covariance.diagonal().sqrt() - v0.sqrt()) ** 2) / v0).mean().sqrt())


def sampled_errors(sampler: Sampler[Any], paths: ReversePaths, steps: Sequence[int]) -> tuple[Tensor, float]:
    """`|E f(x_h) − E f(x)|` for each number of steps, and the standard error of the resulting order.

    Args:
        sampler: The sampler.
        paths: The paths that drive it.
        steps: Numbers of equal steps, in increasing order.

    Returns:
        Errors, float64 `(len(steps),)`, and the standard error; all NaN if too many paths left the support.
    """
    model, view = paths.model, sampler.view(paths.model)

    def bounded(z: Tensor) -> Tensor:
        u = torch.tanh((z - paths.end.mean(0)) / paths.end.std(0)).flatten(1)
        return torch.cat([u, u**2], 1)

    exact, errors, spreads = bounded(paths.end), [], []
    for n in steps:
        x = compared(paths, view, paths.by_sampler(sampler, view, n))
        z = model.sde.encode(x) if bent(model.sde) else x
        inside = torch.isfinite(z).flatten(1).all(1)
        if (~inside).sum() > LOST * len(z):
            return torch.full((len(steps),), math.nan), math.nan
        error = Error.paired((bounded(z) - exact)[inside])
        errors.append(error.value.norm())
        spreads.append(error.deviation.norm())
    e, s = torch.stack(errors), torch.stack(spreads)
    x = torch.tensor(steps, dtype=torch.float64).log()
    x = x - x.mean()
    return e, float(((x * s / e) ** 2).sum().sqrt() / (x**2).sum())


def _measure(part: Part, name: str, steps: Sequence[int], errors: Tensor, claimed: float | None, spread: float | None, note: str) -> None:
    if torch.isnan(errors).any():
        part.findings.append(Finding(WEAK, name, note=f"left the support at {steps[0]} steps or more"))
        return
    if float(errors.max()) < EXACT:
        part.findings.append(Finding(WEAK, name, note=f"its error is below {EXACT:g} at every number of steps"))
        return
    if spread is not None and spread > LARGEST:
        part.findings.append(Finding(WEAK, name, note=f"its errors are below the sampling error, {note}"))
        return
    low = None if claimed is None else (1 - SLACK) * claimed - 3 * (spread or 0.0)
    part.findings.append(Finding(WEAK, f"{name}, {steps[0]}–{steps[-1]} steps", order(steps, errors), low, error=spread, note=note))
    part.curves.append(Curve(WEAK, name, list(steps), errors.tolist(), note))
