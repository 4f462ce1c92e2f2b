"""Lévy–Itô model: heavy-tailed α-stable noise, `dX = −(β/α) X dt + β^{1/α} dL^α`.

Yoon et al., *Score-based generative models with Lévy processes*, NeurIPS 2023. With the signal `a = exp(−∫β/α)` the noised data are::

    z_t = a x_0 + s σ e,      σ^α = 1 − a^α,      E exp(i u·e) = exp(−|u|^α),      P(|e_i| > r) ~ r^{−α}

`e = √(2A) ε` is isotropic: one `A` for all entries of a sample, `ε ~ N(0, I)`, and `A` positive α/2-stable, `E exp(−qA) = exp(−q^{α/2})`.
With `h = α/2`, `U` uniform on (0, π) and `W` exponential (Kanter, Ann. Probab. 3 (1975))::

    A = (g(U)/W)^{(1 − h)/h},      g(u) = (sin hu/sin u)^{1/(1 − h)} sin((1 − h)u)/sin hu

`a = cos(ω(t))/cos(ω(0))`, `ω(t) = (t + 0.008)/1.008 · π/2`, up to `t = 0.9946`, and `s` is the standard deviation of the data. At `α = 2`,
`A = 1`, and `e` is normal with variance 2.

The paper's fractional score is `S = (sσ)^{2 − α}/α · E[(a x_0 − z)/(sσ)² | z]`, so that its ODE is the flow of
`sdezoo.process.interpolant`, and its SDE the sampler `levy-sde`. A network learns `E[x_0 | z]` instead, whose error has a second moment:
that of `e` has none for `α < 2`.

With `n² = a² + 2σ²` and `u = z/(s n)`, the network sees `4 asinh(u/4)`, and its output `F` is read as::

    E[x_0 | z] = s (a/n) u − s (√2 σ/n) r F,      r² = 1 + (2 − α) u²/16

The first term is the denoiser of normal data at `α = 2`. Far out, the denoiser of data with a light tail is bounded, and that of data
with the tail of the noise in proportion to `z`: in both cases `F` tends to a constant. Squared errors are weighed by `1/r²`, and so have
a mean.

The density is an integral over `A`, taken by the trapezoidal rule in `λ = −ln(A) h/(1 − h)`, whose density is
`E[e^{λ + ℓ} exp(−e^{λ + ℓ})]`, `ℓ = ln g(U)`.

The published code truncates its noise, with `clamp=20` or `angle_cut=0.3`. Then `e` has lighter tails, its increments are no longer those
of the same noise, and only `flow` is exact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, ClassVar, NamedTuple, Self

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from sdezoo.errors import ParameterError
from sdezoo.parameters import Positive
from sdezoo.process.differentiation import outside_transforms
from sdezoo.process.interpolant import Mix, ScaleMixture
from sdezoo.process.noise import Noise
from sdezoo.process.standardized import wide

_OFFSET = 0.008
_LAST = 0.9946
_HALF_A_GRAIN = 2.0**-25
"""Half the distance of uniform numbers, which are multiples of 2⁻²⁴ in [0, 1): added, they lie inside (0, 1)."""


@dataclass(frozen=True)
class Levy(ScaleMixture):
    """Lévy–Itô model: α-stable noise with heavy tails instead of normal noise; its samplers are flow, levy-sde and dlpm."""

    papers: ClassVar[tuple[str, ...]] = ("yoon2023score",)

    alpha: Annotated[float, Interval(gt=0, le=2)] = 1.8
    """Index `α` of stability, the tail index of the noise; 2 is normal noise."""
    clamp: Positive | None = None
    """Largest value of `A/cos(πα/4)^{2/α}`, 20 in the published code; None: no limit."""
    angle_cut: Annotated[float, Interval(ge=0, lt=3)] = 0.0
    """How far `U` stays below π, 0.3 in one published sampler."""
    spread: Positive | None = None
    """Standard deviation `s` of the data, root mean square over columns; None: set from the data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clamp is not None and self.alpha == 2:
            raise ParameterError(f"{self.title()}: clamp leaves no noise at alpha=2.", "Leave clamp out, or choose alpha below 2.")

    @property
    def t_span(self) -> tuple[float, float]:
        return 1e-3, _LAST

    @property
    def tail(self) -> float:
        if self.alpha == 2 or self.clamp is not None:
            return math.inf
        return self.alpha / (1 - self.alpha / 2) if self.angle_cut else self.alpha

    @property
    def index(self) -> float:
        return self.alpha

    @property
    def inexact_increments(self) -> str | None:
        truncated = self.clamp is not None or self.angle_cut > 0
        return "noise that is not truncated (no clamp and no angle_cut)" if truncated else None

    def adapted(self, x0: Tensor) -> Self:
        spread = float(x0.double().var(0, correction=min(1, len(x0) - 1)).mean().sqrt())
        return self if self.spread is not None else replace(self, spread=spread if spread > 0 else 1.0)

    def mix(self, t: Tensor) -> Mix:
        start, turn = _OFFSET / (1 + _OFFSET) * math.pi / 2, t.double() / (1 + _OFFSET) * math.pi / 2
        # cos(start + turn)/cos(start) − 1, without the difference of numbers near 1
        lost = -2 * torch.sin(turn / 2) ** 2 - math.tan(start) * torch.sin(turn)
        return Mix(1 + lost, self._unit * (-torch.expm1(self.alpha * torch.log1p(lost))) ** (1 / self.alpha))

    def base(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        variance = 2 * self._subordinator((shape[0], *(1,) * (len(shape) - 1)), noise, like)
        return variance.sqrt().to(like) * noise.normal(like, shape)

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """Joint log-density of all entries, `(B, 1, …, 1)`: they share a scale."""
        k, event = self.at(t, z), list(range(1, z.ndim))
        square = (((z - k.alpha * x0) / k.sigma) ** 2).sum(event, keepdim=True)
        table = _radial(self.alpha / 2, self.angle_cut, self._largest, z[0].numel())
        return (_interpolated(*table, wide(square)) - z[0].numel() * wide(k.sigma).log()).to(z)

    def variance_given(self, y: Tensor, t: Tensor, noise: Noise) -> Tensor:
        sigma, event, nodes = self.mix(t).sigma, list(range(1, y.ndim)), self._nodes(y)
        square = ((y.double() / sigma) ** 2).sum(event, keepdim=True)
        return 2 * sigma**2 * _chosen(nodes.log_a, _log_joint(nodes, square, y[0].numel()), noise).exp()

    def earlier_variance(self, variance: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        p, q = self.mix(t), self.mix(s)
        if self.alpha == 2:
            return 2 * q.sigma**2 * torch.ones_like(variance)
        shrink = p.alpha / q.alpha
        kept = (shrink * q.sigma) ** 2
        fresh = (p.sigma**self.alpha - kept ** (self.alpha / 2)) ** (2 / self.alpha)
        nodes = self._nodes(variance)
        totals = nodes.log_a[nodes.log_weight > -30] + (p.sigma**2).log()  # a smaller one never occurs
        totals = totals[totals < nodes.log_a[-1] + torch.minimum(kept, fresh).log()]
        quantiles = _quantiles(nodes, totals, kept.log(), fresh.log())
        place = _between(totals, (variance / 2).log()), _between(_LEVELS.to(totals), torch.logit(noise.uniform(variance) + _HALF_A_GRAIN))
        return variance / shrink**2 * torch.sigmoid(_bilinear(quantiles, *place))

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        return 4 * (self._standard(z, t) / 4).asinh()

    def denoiser_from_output(self, out: Tensor, z: Tensor, t: Tensor) -> Tensor:
        u, size, k = self._standard(z, t), self.error_scale(t), self.at(t, z)
        kept = self._unit**2 * k.alpha / (self._unit**2 * k.alpha**2 + 2 * k.sigma**2).sqrt()
        return kept * u - (size if size.ndim == 0 else size.to(z)) * self._reach(u).sqrt() * out

    def error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        return 1 / self._reach(self._standard(z, t))

    def error_scale(self, t: Tensor) -> Tensor:
        """`√2 s σ/n`."""
        k = self.mix(t)
        return self._unit * (2 * k.sigma**2 / (self._unit**2 * k.alpha**2 + 2 * k.sigma**2)).sqrt()

    @property
    def _unit(self) -> float:
        return 1.0 if self.spread is None else self.spread

    def _reach(self, u: Tensor) -> Tensor:
        """`r²`."""
        return 1 + (2 - self.alpha) / 16 * u**2

    def _standard(self, z: Tensor, t: Tensor) -> Tensor:
        k = self.at(t, z)
        return z / (self._unit**2 * k.alpha**2 + 2 * k.sigma**2).sqrt()

    def _subordinator(self, shape: tuple[int, ...], noise: Noise, like: Tensor) -> Tensor:
        """Sample `A`, float64."""
        angle, waiting = ((noise.uniform(wide(like.new_empty(())), shape) + _HALF_A_GRAIN) for _ in range(2))
        angle = (math.pi - self.angle_cut) * angle
        a = _log_subordinator(self.alpha / 2, angle, math.pi - angle, (-waiting.log()).log()).exp()
        return a if self.clamp is None else a.clamp(max=self._largest)

    @property
    def _largest(self) -> float:
        return math.inf if self.clamp is None else self.clamp * math.cos(math.pi * self.alpha / 4) ** (2 / self.alpha)

    def _nodes(self, like: Tensor) -> "Nodes":
        return Nodes(*(part.to(like.device) for part in _quadrature(self.alpha / 2, self.angle_cut, 3.0).clamped(self._largest)))


class Nodes(NamedTuple):
    """A quadrature over the distribution of `A`: `E f(A) = Σ w_i f(A_i)`, float64 `(G,)` each."""

    log_a: Tensor
    """`ln A_i`, rising."""
    log_weight: Tensor
    """`ln w_i`."""
    log_slope: Tensor
    """Logarithm of the density of `ln A` at `ln A_i`."""

    def clamped(self, largest: float) -> "Nodes":
        """The same with `A` at most `largest`."""
        return Nodes(self.log_a.clamp(max=math.log(largest)), self.log_weight, self.log_slope)

    def log_density(self, at: Tensor) -> Tensor:
        """Logarithm of the density of `ln A` at `at`, of any shape, by linear interpolation; −∞ beyond the ends."""
        right = torch.searchsorted(self.log_a, at.contiguous()).clamp(1, len(self.log_a) - 1)
        x, y = self.log_a, self.log_slope
        share = (at - x[right - 1]) / (x[right] - x[right - 1])
        value = y[right - 1] + share * (y[right] - y[right - 1])
        return torch.where((at >= x[0]) & (at <= x[-1]), value, -math.inf)


def _log_g(h: float, u: Tensor, left: Tensor) -> Tensor:
    """`(1 − h) ln g(u)`, where `left` is `π − u`; 0 in the limit `h = 1`."""
    log_sin = torch.where(u < 1.5, u.sin(), left.sin()).log()
    over = (h * u).sin().log()
    return over - log_sin + (1 - h) * (((1 - h) * u).sin().log() - over) if h < 1 else torch.zeros_like(u)


def _log_subordinator(h: float, u: Tensor, left: Tensor, log_w: Tensor) -> Tensor:
    """`ln A` from the angle `u`, `left = π − u`, and the logarithm of the exponential number."""
    return (_log_g(h, u, left) - (1 - h) * log_w) / h


@lru_cache(maxsize=64)
@outside_transforms
def _quadrature(h: float, cut: float, coarser: float = 1.0) -> Nodes:
    """The quadrature for index `h` of `A`, whose angle stays below `π − cut`, with steps `coarser` times as large."""
    if h == 1:
        return Nodes(*torch.zeros(3, 1, dtype=torch.float64).unbind())
    per_log_a = h / (1 - h)
    # ℓ = ln g(u) rises with u, so that P(ℓ > x) = (π − cut − u(x))/(π − cut); fine in v, u = π/(1 + e^{−v}).
    v = torch.linspace(-20, 45 + 80 / h, 60_001, dtype=torch.float64)
    u, left = (math.pi * torch.sigmoid(w) for w in (v, -v))
    level, log_left = (_log_g(h, u, left) / (1 - h)).numpy(), left.log().numpy()
    # λ = ln W − ℓ from where nothing is left of e^{−g e^λ} down to where ln A is far in its tail; steps of both λ and ln A are small.
    lam, step = _spaced(math.log(80) - float(level[0]), -(37 / h + 25) * per_log_a, per_log_a, coarser)
    edges = np.linspace(-42, math.log(60), 1201)
    middle = (edges[1:] + edges[:-1]) / 2
    found = np.zeros_like(lam)
    for part in np.array_split(np.arange(len(lam)), 8):
        beyond = np.exp(np.interp(edges - lam[part, None], level, log_left, left=math.log(math.pi)))
        share = -np.diff(np.maximum(beyond - cut, 0.0)) / (math.pi - cut)  # probability that ℓ lies in each cell
        found[part] = share @ np.exp(middle - np.exp(middle))
    log_p = torch.from_numpy(np.log(np.maximum(found, 1e-300)))
    return Nodes(torch.from_numpy(-lam / per_log_a), log_p + torch.from_numpy(np.log(step)), log_p + math.log(per_log_a))


def _spaced(first: float, last: float, per_log_a: float, coarser: float) -> tuple[np.ndarray, np.ndarray]:
    """Falling `λ` from `first` to `last`, and the step at each: about 0.15 near `first`, and 0.1 in `ln A` beyond, times `coarser`."""
    fine = np.concatenate([np.linspace(0, 60, 60_001), np.geomspace(60, first - last, 60_001)[1:]])
    rate = (10 / per_log_a + 1 / 0.15 / (1 + (fine / 20) ** 2)) / coarser
    passed = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(fine))])
    count = math.ceil(passed[-1]) + 1
    v = np.linspace(0, passed[-1], count)
    below = np.interp(v, passed, fine)
    return first - below, (v[1] - v[0]) / np.interp(below, fine, rate)


def _log_joint(nodes: Nodes, square: Tensor, entries: int) -> Tensor:
    """`ln(w_i N(y; 0, 2A_i))` from `|y|²` `(…)`, `(…, G)`."""
    exponent = square[..., None] / 4 * (-nodes.log_a).exp().to(square)
    return (nodes.log_weight - entries / 2 * (nodes.log_a + math.log(4 * math.pi))).to(square) - exponent


@lru_cache(maxsize=64)
@outside_transforms
def _radial(h: float, cut: float, largest: float, entries: int) -> tuple[Tensor, Tensor]:
    """`ln p(e)` and its derivative by `ω = ½ ln(1 + |e|²)`, at `ω = 0, 0.05, …, 60`; `(1201,)` each."""
    nodes = _quadrature(h, cut).clamped(largest)
    square = torch.expm1(2 * torch.linspace(0, 60, 1201, dtype=torch.float64))
    terms = _log_joint(nodes, square, entries)
    slope = -((1 + square[:, None]) / 2 * (-nodes.log_a).exp() * terms.softmax(-1)).sum(-1)
    return terms.logsumexp(-1), slope


def _interpolated(value: Tensor, slope: Tensor, square: Tensor) -> Tensor:
    """`ln p(e)` from `|e|²` and the table of `_radial`: a cubic between its points, a power of `|e|` beyond its end."""
    value, slope = value.to(square), slope.to(square)
    omega = torch.log1p(square) / 2
    inside = omega.clamp(max=60.0)
    place = (20 * inside.detach()).long().clamp(max=1199)
    f, start, end = 20 * inside - place, value[place], value[place + 1]
    rise, fall = slope[place] / 20, slope[place + 1] / 20
    jump = end - start
    cubic = start + f * (rise + f * (3 * jump - 2 * rise - fall + f * (rise + fall - 2 * jump)))
    return cubic + slope[-1] * (omega - inside)


_LEVELS = torch.linspace(-18, 18, 289, dtype=torch.float64)
"""Logits of the probabilities at which quantiles are tabulated."""


def _quantiles(nodes: Nodes, totals: Tensor, kept: Tensor, fresh: Tensor) -> Tensor:
    """Quantiles of `ln(X/Y)` given `X + Y = e^total`, for `X = e^kept A` and `Y = e^fresh A'`, `(totals, levels)`.

    The density of the smaller of `X` and `Y` is that of its `A` times that of the other's: over nodes of the smaller one.
    """
    total = totals[:, None]
    x, y = nodes.log_a + kept, nodes.log_a + fresh
    beside_x, beside_y = (total + torch.log1p(-(part - total).clamp(max=0).exp()) for part in (x, y))
    small_x = torch.where(x < beside_x, nodes.log_weight + nodes.log_density(beside_x - fresh) - beside_x, -math.inf)
    small_y = torch.where(y <= beside_y, nodes.log_weight + nodes.log_density(beside_y - kept) - beside_y, -math.inf)
    # ln(X/Y) rises with X up to the middle, and falls with Y from there.
    to_y, to_x = (torch.where(part < beside, part - beside, 0.0) for part, beside in ((x, beside_x), (y, beside_y)))
    ratio = torch.cat([to_y, -to_x.flip(-1)], -1)
    shares = torch.cat([small_x, small_y.flip(-1)], -1).softmax(-1)
    reached = shares.cumsum(-1) - shares / 2
    levels = torch.sigmoid(_LEVELS).to(totals).clamp(reached[:, :1], reached[:, -1:])
    place = (torch.searchsorted(reached, levels) - 1).clamp(min=0)
    left, right = reached.gather(-1, place), reached.gather(-1, place + 1)
    share = ((levels - left) / (right - left).clamp(min=1e-300)).clamp(0, 1)
    return ratio.gather(-1, place) + share * (ratio.gather(-1, place + 1) - ratio.gather(-1, place))


def _between(knots: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the knot below `at`, and how far `at` is from it to the next."""
    place = (torch.searchsorted(knots, at.contiguous()) - 1).clamp(0, len(knots) - 2)
    return place, (at - knots[place]) / (knots[place + 1] - knots[place]).clamp(min=1e-300)


def _bilinear(table: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> Tensor:
    (i, f), (j, g) = rows, columns
    f, g = f.clamp(0, 1), g.clamp(0, 1)
    return (1 - f) * ((1 - g) * table[i, j] + g * table[i, j + 1]) + f * ((1 - g) * table[i + 1, j] + g * table[i + 1, j + 1])


def _chosen(values: Tensor, log_weight: Tensor, noise: Noise) -> Tensor:
    """A sample between neighbouring `values` `(…, G)` of each row, by their weights, `(B, 1, …, 1)`."""
    shares = log_weight.softmax(-1).cumsum(-1)
    u = noise.uniform(shares, shares.shape[:-1])[..., None] + _HALF_A_GRAIN
    place = torch.searchsorted(shares, u).clamp(max=shares.shape[-1] - 1)
    start = torch.where(place > 0, shares.gather(-1, (place - 1).clamp(min=0)), 0.0)
    within = (u - start) / (shares.gather(-1, place) - start) - 0.5
    values = values.expand_as(shares)
    here, beside = values.gather(-1, place), values.gather(-1, (place + within.sign().long()).clamp(0, shares.shape[-1] - 1))
    return (here + within.abs() * (beside - here))[..., 0]
