"""The transition density of the Wright–Fisher diffusion, Jacobi's for two parts: a series, and its limit for small times.

Take vectors `x` of `K` parts that sum to 1 and the diffusion of `coalescent` at time `τ`. Densities are of all parts but one.

**Series** (equal `α`). With `q_m` of `coalescent` and `π` Dirichlet's density (Griffiths, Adv. Appl. Probab. 11 (1979))::

    p(x | x_0)    = π(x) Σ_m q_m(τ) (θ)_m m! [λ^m] Π_i 0F1(α; λ x_i x_{0,i})
    x_i ∂_i log p = α − 1 + E[n_i | x, x_0]

where `n_i` counts the lines of descent that end in part `i`: the index of the coefficient of factor `i`. All terms are positive. The
coefficients of the product are computed by Fourier transforms, at a radius where the relevant ones are largest. A sum over them is a
sum over their transforms.

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
from sdezoo_plugins.sdes.shared.coalescent import EARLIEST, line_moments, lines

_NEAR = 6.0
_WIDTH = 7.0

_ENTRIES = 2**18
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
    return _by_rows(_log_series, lambda x, x0, a, t: small_time(x, x0, (a,) * x.shape[-1], t)[:, None], x, x0, alpha, tau)[..., 0]


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
    return _by_rows(_count_series, _small_time_counts, x, x0, alpha, tau)


Part = Callable[[Tensor, Tensor, float, Tensor], Tensor]


def _by_rows(near: Part, far: Part, x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    """`near` or `far` of each row; rows with about as many lines are computed together, as many as fit the cache."""
    shape, (x, x0, tau) = x.shape, (x.reshape(-1, x.shape[-1]), x0.reshape(-1, x.shape[-1]), tau.reshape(-1))
    times = tau.detach()
    reached = (times >= EARLIEST) & (2 * angle(x, x0)[:, 0] < _NEAR * times.sqrt())
    found, order = [], [(~reached).nonzero()[:, 0]]
    if len(order[0]):
        found.append(far(x[order[0]], x0[order[0]], alpha, tau[order[0]]))
    rest = reached.nonzero()[:, 0]
    rest = rest[times[rest].argsort()]
    while len(rest):
        size = max(1, int(_ENTRIES * float(times[rest[0]]) / (2 * shape[-1])))  # the first has the most lines, about 2/τ
        some, rest = rest[:size], rest[size:]
        found.append(near(x[some], x0[some], alpha, tau[some]))
        order.append(some)
    return torch.cat(found)[torch.cat(order).argsort()].reshape(*shape[:-1], -1)


def _log_series(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    parts = x.shape[-1]
    sizes, weight, log_size, length = _coefficients(x, x0, alpha, tau)
    sizes, weight = _wrapped(sizes, length), _wrapped(weight, length)
    product = torch.fft.irfft(torch.fft.rfft(sizes).prod(-2), sizes.shape[-1])
    total = (product * weight).sum(-1).log() + log_size - parts * math.lgamma(alpha) + math.lgamma(alpha * parts)
    return (total + (alpha - 1) * x.log().sum(-1)).unsqueeze(-1)


def _count_series(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    sizes, weight, _, length = _coefficients(x, x0, alpha, tau)
    count = sizes.shape[-1]
    factors = torch.fft.rfft(_wrapped(sizes, length)).unbind(1)
    ends = torch.fft.rfft(_wrapped(weight, length))
    twice = 2 - (2 * torch.arange(length // 2 + 1, device=x.device) % length == 0).to(x)  # all but the self-conjugate frequencies
    before, after = [ends * twice], [torch.ones_like(ends)]
    for factor in factors[:-1]:
        before.append(before[-1] * factor.conj())
    for factor in factors[:0:-1]:
        after.append(after[-1] * factor.conj())
    others = [one * other for one, other in zip(before, reversed(after), strict=True)]
    moments = torch.fft.rfft(_wrapped(torch.arange(count, dtype=x.dtype, device=x.device) * sizes, length)).unbind(1)
    found = [_product(other, moment) for other, moment in zip(others, moments, strict=True)]
    return torch.stack(found, -1) / _product(others[0], factors[0]).unsqueeze(-1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The real part of `Σ conj(a) b` over the last dimension."""
    return (torch.view_as_real(a) * torch.view_as_real(b)).flatten(-2).sum(-1)


def _wrapped(rows: Tensor, length: int) -> Tensor:
    """Sums of the entries whose places are equal modulo `length`, `(…, length)`."""
    total, *others = rows.split(length, -1)
    for other in others:
        total = torch.cat([total[..., : other.shape[-1]] + other, total[..., other.shape[-1] :]], -1)
    return total


def _coefficients(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Coefficients of `0F1(α; λ x_i x_{0,i})` `(N, K, J)`, weights of those of their product, the logarithm of the factor taken out.

    Also the period that products may be taken with: the coefficients of the product are about normal around the centre of the weights, with
    a variance of at most `m (m + θ)/(2m + θ)`; those that fall upon the weights from a period away are below `e^{−40}` of the largest.
    """
    theta = alpha * x.shape[-1]
    once = tau[:1] if (tau == tau[0]).all() else tau
    centre, spread = line_moments(once.detach(), theta)
    count = int((centre + _WIDTH * spread).max()) + 16
    count = _fast(count)
    last = float(centre.max())
    wide = (last * (last + theta) / (2 * last + theta)) ** 0.5
    length = min(count, _fast(int(last - float(centre.min()) + (_WIDTH + 2) * wide + _WIDTH * float(spread.max())) + 21))
    n = torch.arange(count, dtype=x.dtype, device=x.device)
    # At this radius the coefficients of the product are largest where `q_m` is.
    radius = (centre.clamp_min(1).unsqueeze(-1) / (x * x0).sqrt().sum(-1, keepdim=True).detach()) ** 2
    y = (x * x0 * radius).clamp_min(1e-300)
    table = torch.lgamma(n + 1) + torch.lgamma(alpha + n) - math.lgamma(alpha)
    # The largest coefficient is that of the last `n` with `n (n + α − 1) ≤ y`.
    top = ((y.detach() + (alpha - 1) ** 2 / 4).sqrt() - (alpha - 1) / 2).floor().clamp(0, count - 1)
    peak = top * y.detach().log() - table[top.long()]
    log = torch.stack([y.log(), peak, torch.ones_like(peak)], -1) @ torch.stack([n, -torch.ones_like(n), -table])
    weight = torch.lgamma(theta + n) - math.lgamma(theta) + torch.lgamma(n + 1) - n * radius.log()
    base = weight.amin(-1, keepdim=True)
    kept = n >= (centre - _WIDTH * spread - 5).unsqueeze(-1)
    weight = torch.where(kept, (weight - base).clamp_max(60).exp() * lines(once, theta, count), 0.0)
    return log.exp(), weight, base[:, 0] + peak.sum(-1), length


def _fast(size: int) -> int:
    """`size` or a little more, 4 to 8 times a power of 2: transforms of such sizes are fast."""
    even = 2 ** max(0, size.bit_length() - 3)
    return -(-size // even) * even


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
