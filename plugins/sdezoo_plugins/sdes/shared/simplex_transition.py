"""The transition density of the Wright–Fisher diffusion, Jacobi's for two parts: a series, and its limit for small times.

Take vectors `x` of `K` parts that sum to 1 and the diffusion of `coalescent` at time `τ`. Densities are of all parts but one.

**Series** (equal `α`): see `simplex_series`.

**Small time.** With `u = 2√x` the state is a point on a sphere of radius 2. There the diffusion is a Brownian motion with a potential
`(ν_i² − ¼)/(2u_i²)`, `ν_i = α_i − 1`, at each wall. Its density is a Gaussian of the distance `2δ`, `cos δ = Σ √(x_i x_{0,i})`, times a
Bessel function for each wall, of `w_i = 4 √(x_i x_{0,i}) δ/(τ sin δ)`: the integral of the potential along the geodesic. For two parts
`log p` is accurate to about `0.02 τ²` at the walls (`α = 2`), and to order `τ³` away from them. For more parts it is accurate to order
`τ²` away from the walls, and to `τ` within `√τ` of one.

The series is used for `τ ≥ 0.005` and `2δ < 6√τ`. Beyond, its sum has no digits left, and counts are the slope of the small-time form.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sdezoo_plugins.sdes.shared.bessel import bessel
from sdezoo_plugins.sdes.shared.coalescent import EARLIEST
from sdezoo_plugins.sdes.shared.simplex_series import OCTAVES, count_series, log_and_count_series, log_series, octave

_NEAR = 6.0

_ENTRIES = 2**17
"""Of a table of coefficients, about: as many as stay in the cache of a processor."""


def log_density(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    """`log p(x | x_0)`, differentiable in `x`, `x_0` and `τ`.

    Args:
        x: end points, `(…, K)`, float64; rows sum to 1.
        x0: starting points, `(…, K)`, float64; rows sum to 1.
        alpha: `α`, the same for all parts.
        tau: times `τ`, `(…)`, float64.

    Returns:
        `(…)`, float64.
    """
    return _by_rows(log_series, _small_time_density, x, x0, alpha, tau)[..., 0]


def descendants(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    """`E[n_i | x, x_0]`, the expected number of lines that end in each part.

    Args:
        x: end points, `(…, K)`, float64; rows sum to 1.
        x0: starting points, `(…, K)`, float64; rows sum to 1.
        alpha: `α`, the same for all parts.
        tau: times `τ`, `(…)`, float64.

    Returns:
        `(…, K)`, float64.
    """
    return _by_rows(count_series, _small_time_counts, x, x0, alpha, tau)


def density_and_descendants(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> tuple[Tensor, Tensor]:
    """`log_density` and `descendants`, in less time than both take.

    Args:
        x: end points, `(…, K)`, float64; rows sum to 1.
        x0: starting points, `(…, K)`, float64; rows sum to 1.
        alpha: `α`, the same for all parts.
        tau: times `τ`, `(…)`, float64.

    Returns:
        `(…)` and `(…, K)`, float64.
    """
    both = _by_rows(log_and_count_series, _small_time_both, x, x0, alpha, tau)
    return both[..., 0], both[..., 1:]


Part = Callable[[Tensor, Tensor, float, Tensor], Tensor]


def _by_rows(near: Part, far: Part, x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    """`near` or `far` of each row; rows with about as many lines are computed together, as many as fit the cache."""
    shape, (x, x0, tau) = x.shape, (x.reshape(-1, x.shape[-1]), x0.reshape(-1, x.shape[-1]), tau.reshape(-1))
    times = tau.detach()
    reached = (times >= EARLIEST) & (2 * angle(x, x0)[:, 0] < _NEAR * times.sqrt())
    rest = reached.nonzero()[:, 0]
    groups = [(far, (~reached).nonzero()[:, 0])] if len(rest) < len(x) else []
    rest = rest[times[rest].argsort()]
    while len(rest):
        first = float(times[rest[0]])
        # A table for the first has the most entries: about 2/τ for each part, or 49 if factors are interpolated.
        some = rest[: max(1, int(_ENTRIES * max(first, 0.04) / (2 * shape[-1])))]
        some = some[times[some] < OCTAVES[octave(first)]]
        rest = rest[len(some) :]
        groups.append((near, some))
    if len(groups) == 1:
        return groups[0][0](x, x0, alpha, tau).reshape(*shape[:-1], -1)
    found = [part(x[rows], x0[rows], alpha, tau[rows]) for part, rows in groups]
    return torch.cat(found)[torch.cat([rows for _, rows in groups]).argsort()].reshape(*shape[:-1], -1)


def angle(x: Tensor, x0: Tensor) -> Tensor:
    """`δ` between `√x` and `√x_0`: half the distance on the sphere of radius 2.

    Args:
        x: end points, `(…, K)`.
        x0: starting points, `(…, K)`.

    Returns:
        `(…, 1)`, in radians.
    """
    chord = ((x.sqrt() - x0.sqrt()) ** 2).sum(-1, keepdim=True)
    # √ and asin have no second derivative at 0 and no first at 1.
    return 2 * torch.asin((chord + 1e-30).sqrt().clamp_max(2) / 2)


def small_time(x: Tensor, x0: Tensor, alpha: tuple[float, ...], tau: Tensor) -> Tensor:
    """`log p(x_τ = x | x_0)` for small `τ`, as a density of all parts but one.

    Args:
        x: end points, `(…, K)`.
        x0: starting points, `(…, K)`.
        alpha: the `K` parameters `α_i`.
        tau: times `τ`, `(…)`.

    Returns:
        `(…)`.
    """
    parts = len(alpha)
    delta = angle(x, x0)
    stretch = delta / torch.sin(delta)
    tau = tau.unsqueeze(-1)
    w = 4 * x.sqrt() * x0.sqrt() * stretch / tau
    orders = x.new_tensor(alpha) - 1
    found = [bessel(a - 1, w[..., i]) for i, a in enumerate(alpha)] if len(set(alpha)) > 1 else None
    log, gap = (torch.stack(part, -1) for part in zip(*found, strict=True)) if found else bessel(alpha[0] - 1, w)
    walls = (orders + 0.5) * (4 * x * stretch / tau).log() + (math.log(2 * math.pi) - x.log()) / 2 + log
    walls = walls - tau / 12 * ((orders**2 - 0.25) / 2 - w * (orders + 0.5 - gap))
    degree = sum(alpha) - parts / 2
    free = (degree * (degree + parts - 2) / 8 + (parts - 1) * (parts - 2) / 48) * tau
    free = free - (parts - 1) / 2 * (2 * math.pi * tau).log() - 2 * delta**2 / tau + (parts - 2) / 2 * stretch.log()
    return free[..., 0] + walls.sum(-1)


def _small_time_density(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    return small_time(x, x0, (alpha,) * x.shape[-1], tau).unsqueeze(-1)


def _small_time_both(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    return torch.cat([_small_time_density(x, x0, alpha, tau), _small_time_counts(x, x0, alpha, tau)], -1)


def _small_time_counts(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    """`x ∂ log p − α + 1` of `small_time`, for equal `α`; `(…, K)`.

    With `ν = α − 1`, `S = δ/sin δ`, `q_i = √x_i (√x_i − √x_{0,i})`, `D_i` of `bessel` and `c = (1 − δ cot δ)/(δ sin δ)`::

        A_i                   = −D_i + τ/12 · w_i (ν + ½ − D_i − w_i D'_i),     w D' = 2w (ν + ½ − D) + D (D − 2ν)
        x_i ∂_i log S         = c q_i / 2
        x_i ∂_i log p − α + 1 = A_i/2 − 2 S q_i/τ + x_i ∂_i log S · (K (ν + ½) + K/2 − 1 + Σ_j A_j)
    """
    order, parts = alpha - 1, x.shape[-1]
    delta, tau = angle(x, x0), tau.unsqueeze(-1)
    stretch = delta / torch.sin(delta)
    shift = x.sqrt() * (x.sqrt() - x0.sqrt())
    w = 4 * x.sqrt() * x0.sqrt() * stretch / tau
    gap = bessel(order, w)[1]
    rest = w * (order + 0.5 - gap)
    each = tau / 12 * (rest - w * (2 * rest + gap * (gap - 2 * order))) - gap
    # 1 − δ cot δ has no digits left near 0.
    near = 1 / 3 + delta**2 / 45 + 2 * delta**4 / 945
    turn = torch.where(delta < 0.02, near * stretch, (1 - delta / torch.tan(delta)) / (delta * torch.sin(delta)))
    widening = turn * shift / 2 * (parts * (order + 1) - 1 + each.sum(-1, keepdim=True))
    return each / 2 - 2 * stretch * shift / tau + widening
