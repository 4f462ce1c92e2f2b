"""Densities: the gap between the prior and the final distribution of the process, and the likelihood along the probability flow.

Along a solution of the flow `dz/dt = f̃(z, t)`, `f̃ = f − ½ ∇·(g gᵀ) − ½ g gᵀ s` (Song et al., arXiv 2011.13456, eq. 39)::

    log p_lo(z_lo) = log p_hi(z_hi) + ∫_lo^hi ∇·f̃ dt

Both ends are known in closed form, so the difference tests drift, diffusion, divergence, score and coordinates together:
an error in any of them that changes the distribution shows. The flow is integrated by the classical Runge–Kutta method
of order 4, and its divergence is computed by central differences of order 4, in float64. If the result is outside its bound, twice
and four times as many steps decide: they leave a sixteenth and a 256th of the error of the method, and all of an error of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import smallest_event
from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import Atoms, Mixture
from sdezoo.conformance.bank.reference_laws import CENTRES, DEVIATIONS, WEIGHTS, model_of
from sdezoo.conformance.evidence import gap_in_nats
from sdezoo.process.affine import AffineSDE, slopes
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.sde import ForwardSDE
from sdezoo.verification.findings import Finding, Part
from sdezoo.verification.paths import bent

PRIOR, LIKELIHOOD = "prior gap", "likelihood"
CLOSE = 1e-3
"""Largest allowed error of a log-likelihood, in nats."""
STEPS = 256
_MOST = 4
"""Times as many steps as asked for, at most."""
_ROWS = 64
_DRAWS = 2**17
_BINS = 32
_STENCIL = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))

Field = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def prior_gap(sde: Process, seed: int) -> Part:
    """Measure `KL(p(z_hi) ‖ prior)` in nats per entry of the state.

    Args:
        sde: The process.
        seed: Of the samples, if there is no closed form.
    """
    if isinstance(sde, AffineSDE) and type(sde).prior is AffineSDE.prior:
        weights, means, deviations = (torch.tensor(v, dtype=torch.float64) for v in (WEIGHTS, CENTRES, DEVIATIONS))
        mean = float(weights @ means)
        variance = float(weights @ (deviations**2 + (means - mean) ** 2))
        k = sde.exact(torch.tensor(sde.t_span[1], dtype=torch.float64))
        ratio, away = (k.alpha**2 * variance + k.variance) / k.variance, (k.alpha * mean) ** 2 / k.variance
        note = f"closed form, for normal coordinates of mean {mean:.2g} and standard deviation {variance**0.5:.2g}"
        return Part([Finding(PRIOR, "KL to the prior, nats", float((ratio + away - 1 - ratio.log()) / 2), note=note)])
    model = model_of(sde)
    if model is None:
        return Part([Finding(PRIOR, "KL to the prior, nats", note="no data with a known distribution")])
    event = smallest_event(sde)
    like = torch.empty((), dtype=torch.float64)
    ends, priors = (draw((_DRAWS, *event), Noise.seeded(seed, k), like).flatten(1) for k, draw in enumerate((model.prior, sde.prior)))
    gap = gap_in_nats(ends, priors, _BINS) - (_BINS - 1) / _DRAWS
    return Part([Finding(PRIOR, "KL to the prior, nats", gap, note=f"binned, {_DRAWS} samples of each")])


@torch.no_grad()
def likelihood(sde: Any, seed: int, notify: Callable[[str], None], *, steps: int = STEPS) -> Part:
    """Compare the log-likelihood along the flow with its closed form at `lo`.

    It is measured on the state, and also in the data if they have an equation of their own.

    Args:
        sde: The process.
        seed: Of the points.
        notify: Called with a description of the work that comes next.
        steps: Number of steps on the state, or up to four times as many if these are too few. In the data half as many are made,
            since they cost ten times as much.
    """
    model = model_of(sde)
    reason = refuses(sde, model)
    if reason or model is None:
        return Part([Finding(LIKELIHOOD, "along the probability flow", note=reason or "")])
    lo = sde.t_span[0]
    part = Part()
    notify("likelihood on the state")
    z = _draw(model, lo, seed)

    def on_state(z: Tensor, t: Tensor) -> Tensor:
        return sde.reverse_drift(z, t, model.score(z, t), half=0.5)

    def width(z: Tensor, t: Tensor) -> Tensor:
        return sde.scale(t).to(z).expand_as(z)

    part.findings.append(_compared("on the state", on_state, width, model.log_density, z, sde, steps))
    if isinstance(model, Mixture) and bent(sde):
        notify("likelihood in the data")
        ambient = model.ambient()

        def in_data(x: Tensor, t: Tensor) -> Tensor:
            return ambient.sde.reverse_drift(x, t, ambient.score(x, t), half=0.5)

        def stretched(x: Tensor, t: Tensor) -> Tensor:
            state = sde.encode(x)
            return width(state, t) * slopes(sde.coordinates, state)[0].abs()

        def log_density(x: Tensor, t: Tensor) -> Tensor:
            state = sde.encode(x)
            return model.log_density(state, t) - sde.coordinates.log_abs_det_jacobian(state, x).sum(1)

        part.findings.append(_compared("in the data", in_data, stretched, log_density, sde.decode(z), sde, steps // 2))
    return part


def refuses(sde: Any, model: Mixture | Atoms | None) -> str | None:
    """Why the likelihood along the flow cannot be measured; None if it can.

    Args:
        sde: The process.
        model: Its exact model, if there is one.
    """
    if not isinstance(sde, ForwardSDE):
        return "is no SDE"
    if model is None:
        return "no exact score is known, since its conditional score is unknown"
    if isinstance(model, Atoms) and not model.sde.knows_density:
        return "offers no transition density"
    return None


def follow_flow(field: Field, width: Field, z: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Integrate a flow and its divergence.

    Args:
        field: `f̃(z, t)`, with the shape of `z`.
        width: Length scale of `field` in each entry, with the shape of `z`; the differences use a fraction of it.
        z: Start, `(B, …)`.
        times: Float64 `(steps + 1,)`.

    Returns:
        The end, `(B, …)`, and the integral of the divergence, float64 `(B,)`.
    """
    change = torch.zeros(len(z), dtype=torch.float64)
    for a, b in pairwise(times.unbind()):
        h = b - a
        k1, d1 = _with_divergence(field, width, z, a)
        k2, d2 = _with_divergence(field, width, z + h / 2 * k1, a + h / 2)
        k3, d3 = _with_divergence(field, width, z + h / 2 * k2, a + h / 2)
        k4, d4 = _with_divergence(field, width, z + h * k3, b)
        z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        change = change + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    return z, change


def rising(sde: Process, steps: int) -> Tensor:
    """Times from `lo` to `hi`: equal steps in `ln(σ/α)` if the process is affine, else in `ln t`.

    Args:
        sde: The process.
        steps: Number of steps.

    Returns:
        float64 `(steps + 1,)`.
    """
    lo, hi = sde.t_span
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if isinstance(sde, AffineSDE):
        first, last = sde.exact(torch.tensor([lo, hi], dtype=torch.float64)).ratio
        times = sde.time_at(first * (last / first) ** u)
    else:
        times = lo * (hi / lo) ** u
    times[0], times[-1] = lo, hi
    return times


def _with_divergence(field: Field, width: Field, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    # Evaluate all points of the stencil at once: the cost of a call hardly depends on its rows.
    rows, entries = len(z), z[0].numel()
    offset = 1e-3 * width(z, t).flatten(1)
    unit = torch.eye(entries, dtype=z.dtype)
    moved = [z.flatten(1)] + [z.flatten(1) + k * offset * unit[i] for i in range(entries) for k, _ in _STENCIL]
    values = field(torch.cat(moved).reshape(-1, *z.shape[1:]), t).reshape(-1, rows, entries)
    divergence = torch.zeros(rows, dtype=torch.float64)
    for i in range(entries):
        for j, (_, weight) in enumerate(_STENCIL):
            divergence = divergence + weight * values[1 + 4 * i + j, :, i] / offset[:, i]
    return values[0].reshape(z.shape), divergence


def _draw(model: Mixture | Atoms, lo: float, seed: int) -> Tensor:
    noise = keyed(_ROWS, seed)
    if isinstance(model, Atoms):
        return model.sde.perturb(model.clean(_ROWS, noise).double(), _at(lo), noise)
    clean = model.clean(_ROWS, seed)
    k = model.sde.exact(_at(lo))
    return k.alpha * clean + k.shift + k.sigma * noise.normal(clean)


def _compared(where: str, field: Field, width: Field, log_density: Field, z: Tensor, sde: Any, steps: int) -> Finding:
    lo, hi = sde.t_span
    exact, most = log_density(z, _at(lo)), _MOST * steps
    while True:
        end, change = follow_flow(field, width, z, rising(sde, steps))
        off = (log_density(end, _at(hi)) + change - exact).abs()
        if off.max() <= CLOSE or 2 * steps > most:
            break
        steps *= 2
    note = f"{_ROWS} points at t = {lo:g}, {steps} steps, the mean is {float(off.mean()):.1g}"
    return Finding(LIKELIHOOD, f"largest difference in nats, {where}", float(off.max()), high=CLOSE, note=note)


def _at(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)
