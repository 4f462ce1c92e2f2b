"""Log-likelihood along the probability flow, for every model of an SDE whose prior density is known.

Along a solution of the flow `dz/dt = f̃`, `f̃ = f − ½ ∇·(g gᵀ) − ½ g gᵀ s`, the density changes by the divergence alone
(Chen et al., arXiv 1806.07366, theorem 1; Song et al., arXiv 2011.13456, eq. 39)::

    log p_lo(z_lo) = log p_hi(z_hi) + ∫_lo^hi ∇·f̃ dt

An affine process is integrated in `y = (z − m)/α`, the data with noise of size `ρ = σ/α` added, along the clock `ln ρ`
(Karras et al., arXiv 2206.00364, eq. 3)::

    dy/d ln ρ = y − E[z_0 | z_t],      log p(y) = log p(z) + d ln α

Every other SDE is integrated in `z` along `ln t`. Both use the classical Runge–Kutta method of order 4, in equal steps of the clock.

Between `lo` and the data the score is not defined. At a fixed point the density obeys `∂_t log p = −∇·f̃ − f̃·s`, which
in `y` is the heat equation `∂ log p/∂ρ² = ½ (∇·s + ‖s‖²)`. Its right side `G` is known from `lo` on, and is
extrapolated to the data (Adams–Bashforth of order 2 in `τ = ρ²`, or `τ = t`)::

    log p_0(z_0) = log p_lo(z_0) − τ [1.5 G(τ) − 0.5 G(2τ)]

Finally, `log p_X(x) = log p_Z(z_0) − log |det φ'(z_0)|`.

The divergence is `Σ_i e_iᵀ (∂f̃) e_i` over the basis (`exact`: `d` backward passes per evaluation), or the mean of
`vᵀ (∂f̃) v` over random signs `v` (`hutchinson`: one backward pass per probe; Hutchinson 1990, Grathwohl et al., arXiv
1810.01367). The signs stay fixed along the whole path, so the flow is integrated as accurately as without them.

Densities are in nats. For data that are integers on a lattice of cells, use `dequantize` and `bits_per_dim` together.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.columns import count_outside
from sdezoo.process.noise import KeyedNoise, Noise
from sdezoo.process.sde import ForwardSDE

Divergence = Literal["exact", "hutchinson"]
LogDensity = Callable[[Tensor], Tensor]


class Estimate(NamedTuple):
    """Log-likelihoods and their standard errors."""

    nats: Tensor
    """Log-likelihoods in nats, float64 on the CPU, `(B,)`."""
    standard_error: Tensor
    """Standard errors over the probes, float64 on the CPU, `(B,)`; 0 for `exact`."""


def log_likelihood(
    model: Model[Any],
    x: Tensor,
    *,
    divergence: Divergence = "exact",
    probes: int = 8,
    steps: int = 64,
    seed: int = 0,
    first: int = 0,
    noised: bool = False,
    prior: LogDensity | None = None,
) -> Tensor:
    """Return the log-density of data: the first field of `estimate`.

    Args:
        model: the score model, differentiable in the state.
        x: data, `(B, *event)`, inside the support, in the model's dtype.
        divergence: `exact` or `hutchinson`.
        probes: number of random sign vectors per row for `hutchinson`.
        steps: number of Runge–Kutta steps, each with four evaluations.
        seed: random seed; row `i` depends on (seed, first + i) alone.
        first: index of the first row in the whole run.
        noised: return the density of the distribution noised to `lo`.
        prior: log-density of the state at `hi`; default: `model.prior_log_prob`.

    Returns:
        Log-likelihoods in nats, float64 on the CPU, `(B,)`.
    """
    options: dict[str, Any] = {"probes": probes, "steps": steps, "seed": seed, "first": first, "noised": noised, "prior": prior}
    return estimate(model, x, divergence=divergence, **options).nats


def estimate(
    model: Model[Any],
    x: Tensor,
    *,
    divergence: Divergence = "exact",
    probes: int = 8,
    steps: int = 64,
    seed: int = 0,
    first: int = 0,
    noised: bool = False,
    prior: LogDensity | None = None,
    callback: Callable[[int], None] | None = None,
) -> Estimate:
    """Return the log-density of data and the standard error from the random probes.

    Args:
        model: the score model, differentiable in the state.
        x: data, `(B, *event)`, inside the support, in the model's dtype. On the simplex the density is that of all entries but the last.
        divergence: `exact` or `hutchinson`.
        probes: number of random sign vectors per row for `hutchinson`; with 1 the standard error is unknown, NaN.
        steps: number of Runge–Kutta steps, each with four evaluations.
        seed: random seed; the probes of row `i` depend on (seed, first + i) alone.
        first: index of the first row in the whole run.
        noised: stop at `lo` and return the density at `x` of the distribution noised to `lo`. It integrates to 1 for any score. The
            extrapolation from `lo` to the data does so only if the score is that of a smooth distribution, which a network's need not be.
        prior: log-density of the state at `hi`, `(B, *state)` to `(B,)`; default: `model.prior_log_prob`.
        callback: called after each step with the number of steps done.

    Raises:
        CompositionError: if the process is not an SDE, has auxiliary states, or has a prior of unknown density; if the score cannot be
            differentiated.
        DataError: if data are outside the support.
        ParameterError: if `divergence` is unknown, or `steps` or `probes` is below 1.
    """
    for name, count in {"steps": steps, "probes": probes}.items():
        if count < 1:
            raise ParameterError(f"{name}={count} is too few.", f"Give {name} at least 1.")
    if divergence not in ("exact", "hutchinson"):
        raise ParameterError(f"divergence={divergence} is unknown.", "Choose exact or hutchinson.")
    with torch.inference_mode(False), torch.no_grad():
        z, stretch = encoded(model.sde, x.detach().clone())
        _check_differentiable(model, z)
        flow = (_AffineFlow if isinstance(model.sde, AffineSDE) else _Flow)(model)
        probing = _Basis(z) if divergence == "exact" else _Signs(z, KeyedNoise(seed, range(first, first + len(x))), probes)
        start, end = flow.clock
        y, change = _follow(flow, probing, z, start, end, steps, callback)
        per_probe = change - (0 if noised else _gap(flow, probing, z))
        known = flow.end_log_prob(prior or model.prior_log_prob, y) - stretch
        return Estimate(known + probing.mean(per_probe), probing.standard_error(per_probe))


def dequantize(x: Tensor, noise: Noise, width: float | Tensor = 1.0) -> Tensor:
    """Return `x + width · u`, `u` uniform on [0, 1): a point of the cell whose lowest corner is `x`.

    The density `p` of a model then bounds the probability `P` of a cell, `log P(x) ≥ E_u log p(x + width u) + Σ_i log width_i` by
    Jensen's inequality (Theis et al., arXiv 1511.01844, eq. 3 to 5). `bits_per_dim` with the same `width` gives the bound.

    Args:
        x: data on the lattice, `(B, *event)`.
        noise: source of random numbers.
        width: width of a cell, in the units of `x`; broadcasts against `x`.
    """
    return x + width * noise.uniform(x)


def bits_per_dim(log_likelihood: Tensor, event: Sequence[int], width: float | Tensor = 1.0) -> Tensor:
    """Return `−(log p + Σ_i ln width_i) / (d ln 2)`, `(B,)`: bits per entry.

    With `width = 1` the bits are those of the density in the units of `x`. With the cell width that the data were dequantized with,
    they bound the bits needed to store the integers.

    Args:
        log_likelihood: `log p` in nats, `(B,)`.
        event: shape of an event, with `d` entries.
        width: width of a cell, in the units of the data; broadcasts against an event.
    """
    cell = torch.as_tensor(width, dtype=torch.float64).cpu().expand(tuple(event)).log().sum()
    return -(log_likelihood + cell.to(log_likelihood)) / (math.prod(event) * math.log(2))


def encoded(sde: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state of data and the log-determinant of its map: `log p_X = log p_Z − log |det φ'|`.

    Args:
        sde: the process.
        x: data, `(B, *event)`.

    Returns:
        The state `z_0`, `(B, *state)`, and `log |det φ'(z_0)|`, float64 on the CPU, `(B,)`.

    Raises:
        CompositionError: if the process is not an SDE, or its state holds more than the data.
        DataError: if data are outside the support.
    """
    if not isinstance(sde, ForwardSDE):
        raise CompositionError(f"'{sde.title()}' has no probability flow.", "Choose a process with a drift and a diffusion.")
    outside = count_outside(sde.support, x)
    if outside:
        one, many = "value of the data is", "values of the data are"
        raise DataError(
            f"{outside} {one if outside == 1 else many} missing or outside the support of '{sde.title()}'.",
            "Remove these rows: the model has no density there.",
        )
    z = sde.encode(x, KeyedNoise(0, range(len(x))))
    return z, sde.log_abs_det(z, x)


class _Flow:
    """The probability flow of any SDE, in the state and along `ln t`."""

    powers = 1.0
    """Change of `ln τ` per unit of the clock."""

    def __init__(self, model: Model[Any]) -> None:
        self.model = model

    @property
    def clock(self) -> tuple[float, float]:
        lo, hi = self.model.sde.t_span
        return math.log(lo), math.log(hi)

    def velocity(self, y: Tensor, u: float) -> tuple[Tensor, Tensor]:
        """Return `dy/du` and the score of `y`, at clock `u`."""
        t = _time(math.exp(u))
        s = self.model.score(y, t)
        return t * self.model.sde.reverse_drift(y, t, s, half=0.5), s

    def end_log_prob(self, prior: LogDensity, y: Tensor) -> Tensor:
        """Return the log-density of `y` at `hi`, `(B,)`."""
        return prior(y).cpu().double()


class _AffineFlow(_Flow):
    """The probability flow of an affine process, in `(z − m)/α` and along `ln(σ/α)`."""

    powers = 2.0

    @property
    def clock(self) -> tuple[float, float]:
        ends = torch.tensor(self.model.sde.t_span, dtype=torch.float64)
        start, end = self.model.sde.noise_level(ends).log().tolist()
        return start, end

    def velocity(self, y: Tensor, u: float) -> tuple[Tensor, Tensor]:
        t = self.model.sde.time_at(_time(math.exp(u)))
        k = self.model.sde.at(t, y)
        away = y - self.model.denoise(k.alpha * y + k.shift, t)
        return away, -away / k.ratio**2

    def end_log_prob(self, prior: LogDensity, y: Tensor) -> Tensor:
        k = self.model.sde.at(_time(self.model.sde.t_span[1]), y)
        return super().end_log_prob(prior, k.alpha * y + k.shift) + y[0].numel() * float(k.alpha.log())


class _Probing(ABC):
    """Directions `v` of the directional derivatives; estimates of a divergence are kept per probe, `(K, B)`."""

    directions: Tensor
    """`(K, B, *event)`"""

    @abstractmethod
    def gather(self, slopes: Tensor) -> Tensor:
        """Turn `vᵀ (∂F) v`, `(K, B)`, into divergences, `(probes, B)`."""

    def mean(self, divergences: Tensor) -> Tensor:
        return divergences.mean(0)

    def standard_error(self, divergences: Tensor) -> Tensor:
        if len(divergences) == 1:
            return torch.full_like(divergences[0], math.nan)
        return divergences.std(0) / math.sqrt(len(divergences))


class _Basis(_Probing):
    def __init__(self, z: Tensor) -> None:
        entries = z[0].numel()
        basis = torch.eye(entries, dtype=z.dtype, device=z.device)
        self.directions = basis.reshape(entries, 1, *z.shape[1:]).expand(entries, *z.shape)

    def gather(self, slopes: Tensor) -> Tensor:
        return slopes.sum(0, keepdim=True)

    def standard_error(self, divergences: Tensor) -> Tensor:
        return torch.zeros_like(divergences[0])


class _Signs(_Probing):
    def __init__(self, z: Tensor, noise: Noise, probes: int) -> None:
        uniform = noise.uniform(z, (len(z), probes, *z.shape[1:])).movedim(1, 0)
        self.directions = torch.where(uniform < 0.5, -torch.ones_like(uniform), torch.ones_like(uniform))

    def gather(self, slopes: Tensor) -> Tensor:
        return slopes


def _check_differentiable(model: Model[Any], z: Tensor) -> None:
    """Reject a score that would silently drop out of the divergence."""
    with torch.enable_grad():
        score = model.score(z.detach().requires_grad_(), _time(model.sde.t_span[0]))
    if not score.requires_grad:
        raise CompositionError("The score cannot be differentiated in the state.", "Compute it from its argument by torch operations.")


def _follow(
    flow: _Flow, probing: _Probing, y: Tensor, start: float, end: float, steps: int, callback: Callable[[int], None] | None
) -> tuple[Tensor, Tensor]:
    """Return the end of the path from `y`, and the integral of its divergence, `(probes, B)`."""
    change = torch.zeros((), dtype=torch.float64)
    h = (end - start) / steps
    for k in range(steps):
        u = start + k * h
        k1, d1, _ = _rates(flow, probing, y, u)
        k2, d2, _ = _rates(flow, probing, y + h / 2 * k1, u + h / 2)
        k3, d3, _ = _rates(flow, probing, y + h / 2 * k2, u + h / 2)
        k4, d4, _ = _rates(flow, probing, y + h * k3, u + h)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        change = change + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
        if callback:
            callback(k + 1)
    return y, change


def _gap(flow: _Flow, probing: _Probing, y: Tensor) -> Tensor:
    """Return `τ [1.5 G(τ) − 0.5 G(2τ)]` at `lo` and fixed `y`, `(probes, B)`, from `τ G = −(∇·F + F·s) / powers`."""
    start = flow.clock[0]
    near, far = (_growth(flow, probing, y, u) for u in (start, start + math.log(2) / flow.powers))
    return (1.5 * near - 0.25 * far) / flow.powers


def _growth(flow: _Flow, probing: _Probing, y: Tensor, u: float) -> Tensor:
    """Return `∂ log p/∂u = −∇·F − F·s` at a fixed point, `(probes, B)`."""
    velocity, divergence, score = _rates(flow, probing, y, u)
    return -divergence - (velocity * score).cpu().double().reshape(len(y), -1).sum(1)


def _rates(flow: _Flow, probing: _Probing, y: Tensor, u: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the velocity, its divergence `(probes, B)`, and the score."""
    # One backward pass per direction: forward mode and vmap fail in some networks. A guided score is differentiated
    # twice, which fused attention does not support.
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        leaf = y.detach().requires_grad_()
        velocity, score = flow.velocity(leaf, u)
        slopes = [torch.autograd.grad(velocity, leaf, v, retain_graph=True)[0] * v for v in probing.directions]
    rows = torch.stack([slope.cpu().double().reshape(len(y), -1).sum(1) for slope in slopes])
    return velocity.detach(), probing.gather(rows), score.detach()


def _time(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
