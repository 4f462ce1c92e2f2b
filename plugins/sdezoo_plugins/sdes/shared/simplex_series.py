"""The series of the Wright–Fisher diffusion's transition density, and the mean numbers of lines of descent that end in each part.

With `q_m` of `coalescent`, `π` Dirichlet's density with all parameters `α` and `θ = K α` (Griffiths, Adv. Appl. Probab. 11 (1979))::

    p(x | x_0)    = π(x) Σ_m q_m(τ) (θ)_m m! [λ^m] Π_i 0F1(α; λ x_i x_{0,i})
    x_i ∂_i log p = α − 1 + E[n_i | x, x_0]

where `n_i` counts the lines of descent that end in part `i`: the index of the coefficient of factor `i`. All terms are positive. The
coefficients of the product are computed by Fourier transforms, at a radius `r = |λ|` where the relevant ones are largest. A sum over them
is a sum over their transforms.

**Few lines.** The factors are transforms of tables of coefficients, at a radius for each state.

**Many lines.** Only frequencies `φ` near 0 matter. The radius is the same for all states at a time, and factors are interpolated. With
`v² = r x_i x_{0,i} + b²`, `w² = r x_i x_{0,i} e^{iφ}`, Chebyshev's polynomials `T_j` and `z` linear in `log v`::

    log 0F1(α; w²) = 2 e^{iφ/2} v + Σ_j A_j(φ) T_j(z)
    n_i            =   e^{iφ/2} v + Σ_j B_j(φ) T_j(z)

`b` is about half the first zero of the Bessel function; then 48 polynomials give 12 digits. They are summed over the parts before they are
multiplied by `A`, and numbers of lines over the frequencies before they are multiplied by the polynomials, so that the work is that of
one part.
"""

import math
from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from sdezoo.process.differentiation import outside_transforms, transforming
from sdezoo_plugins.sdes.shared.bessel import bessel
from sdezoo_plugins.sdes.shared.coalescent import EARLIEST, line_moments, lines

T = TypeVar("T", float, Tensor)

OCTAVES = (2 * EARLIEST, 4 * EARLIEST, 8 * EARLIEST, math.inf)
"""Ends of the stretches of time that have the same table each; in the last, there are few lines."""

_MANY = 30
"""Lines of descent that are many, if there are also more than `1.5 θ`."""

_WIDTH = 7.0
_TERMS = 48
_DIGITS = 36.0
"""Frequencies are left out where the product of the factors is below `e^{−36}` of that at frequency 0."""


def log_series(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    """`log p(x | x_0)`, `(N, 1)`, differentiable in `x`, `x_0` and `τ`.

    Args:
        x: end points, `(N, K)`, float64; rows sum to 1.
        x0: starting points, `(N, K)`, float64; rows sum to 1.
        alpha: `α`, the same for all parts.
        tau: times `τ`, `(N,)`, float64, from `EARLIEST` on; all in the same `octave`.
    """
    table = _interpolation(alpha, x.shape[-1], octave(float(tau[0].detach())))
    if table is None:
        sizes, weight, log_size = _coefficients(x, x0, alpha, tau)
        total = (torch.fft.irfft(torch.fft.rfft(sizes).prod(-2), sizes.shape[-1]) * weight).sum(-1, keepdim=True)
    else:
        _, terms, log_size = _frequencies(x, x0, alpha, tau, table)
        total = _total(terms)
    return _log_density(total, log_size, x, alpha)


def count_series(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    """`E[n_i | x, x_0]`, `(N, K)`.

    Args:
        x: end points, `(N, K)`, float64; rows sum to 1.
        x0: starting points, `(N, K)`, float64; rows sum to 1.
        alpha: `α`, the same for all parts.
        tau: times `τ`, `(N,)`, float64, from `EARLIEST` on; all in the same `octave`.
    """
    counts, total, _ = _counts(x, x0, alpha, tau)
    return counts / total


def log_and_count_series(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> Tensor:
    """`log p(x | x_0)`, then `E[n_i | x, x_0]`, `(N, 1 + K)`.

    Args:
        x: end points, `(N, K)`, float64; rows sum to 1.
        x0: starting points, `(N, K)`, float64; rows sum to 1.
        alpha: `α`, the same for all parts.
        tau: times `τ`, `(N,)`, float64, from `EARLIEST` on; all in the same `octave`.
    """
    counts, total, log_size = _counts(x, x0, alpha, tau)
    return torch.cat([_log_density(total, log_size, x, alpha), counts / total], -1)


def _log_density(total: Tensor, log_size: Tensor, x: Tensor, alpha: float) -> Tensor:
    """`log p`, `(N, 1)`, from the sum of the series and the logarithm of its unit."""
    parts = x.shape[-1]
    log = total.log() + log_size.unsqueeze(-1) - parts * math.lgamma(alpha) + math.lgamma(alpha * parts)
    return log + (alpha - 1) * x.log().sum(-1, keepdim=True)


def _counts(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sums of the series with and without the factors `n_i`, `(N, K)` and `(N, 1)`, and the logarithm of their unit."""
    table = _interpolation(alpha, x.shape[-1], octave(float(tau[0].detach())))
    if table is None:
        return _few_counts(x, x0, alpha, tau)
    features, terms, log_size = _frequencies(x, x0, alpha, tau, table)
    return (features @ (terms @ table.counts.to(x.device)).unsqueeze(-1))[..., 0], _total(terms), log_size


def _total(terms: Tensor) -> Tensor:
    """The sum of the real parts."""
    return terms[:, : terms.shape[-1] // 2].sum(-1, keepdim=True)


def octave(tau: float) -> int:
    """Which of the stretches of time that `OCTAVES` ends contains `τ`.

    Args:
        tau: `τ`.
    """
    return bisect_right(OCTAVES, tau)


class _Interpolation(NamedTuple):
    """The logarithms of the factors, as linear functions of `T_0(z), …, v`, for the times of an octave."""

    period: int
    """Frequencies are `2πk/period`."""
    shift: float
    """`b²`."""
    low: float
    """`log v²` at `z = −1`."""
    size: float
    """Half of how far `log v²` is from there at `z = 1`."""
    logs: Tensor
    """From features to logarithms of the factor, `(49, 2F)`: real parts, then imaginary parts."""
    counts: Tensor
    """From products at all frequencies, real and imaginary parts, to numbers of lines as functions of the features, `(2F, 49)`."""


@lru_cache(maxsize=32)
@outside_transforms
def _interpolation(alpha: float, parts: int, number: int) -> _Interpolation | None:
    """The table of an octave; None if there may be few lines."""
    theta, end = alpha * parts, torch.tensor(OCTAVES[number], dtype=torch.float64)
    (most, least), (spread, _) = (part.tolist() for part in line_moments(torch.stack([end / 2, end]), theta))
    if not least > max(_MANY, 1.5 * theta):  # nor if it is no number
        return None
    wide = (most * (most + theta) / (2 * most + theta)) ** 0.5
    period = int(2 * _WIDTH * spread + (_WIDTH + 2) * wide) + 22
    # The angle `δ` is below `3√τ`, so that the product at frequency `φ` is below `e^{−2 (m − 9) (1 − cos(φ/2))}`.
    reach = math.acos(max(0.0, 1 - _DIGITS / (2 * (least - 9))))
    count = min(int(reach * period / math.pi) + 1, period // 2 + 1)
    half = math.pi * torch.arange(count, dtype=torch.float64) / period
    turn = torch.polar(torch.ones_like(half), half)
    shift = (0.6 * alpha + 0.7) ** 2
    # A little wider than needed: `acos` has no derivative at the ends.
    low, high = math.log(shift) - 0.1, math.log(_radius(most, theta) + shift) + 0.1
    at = math.pi * (torch.arange(_TERMS, dtype=torch.float64) + 0.5) / _TERMS
    squared = (low + (high - low) / 2 * (1 + torch.cos(at))).exp().unsqueeze(-1)
    v, w = squared.sqrt(), (squared - shift).to(turn).sqrt() * turn
    log, gap = bessel(alpha - 1, 2 * w)
    log = log + 2 * (w - turn * v) + (alpha - 1) * math.log(2) + math.lgamma(alpha)
    inverse = torch.cos(torch.arange(_TERMS, dtype=torch.float64).unsqueeze(-1) * at) * 2 / _TERMS
    inverse[0] /= 2
    inverse = inverse.to(turn)
    logs = torch.cat([inverse @ log, 2 * turn.unsqueeze(0)])
    counts = torch.cat([inverse @ (w - gap / 2 - turn * v), turn.unsqueeze(0)])
    return _Interpolation(
        period,
        shift,
        low,
        (high - low) / 2,
        torch.cat([logs.real, logs.imag], -1),
        torch.cat([counts.real, -counts.imag], -1).T.contiguous(),
    )


def _frequencies(x: Tensor, x0: Tensor, alpha: float, tau: Tensor, table: _Interpolation) -> tuple[Tensor, Tensor, Tensor]:
    """Features `(N, K, 49)`, the terms of the sum over frequencies, `(N, 2F)`, and the logarithm of the factor taken out."""
    once = _once(tau)
    if _known(once):
        log_radius, ends, base = (part.to(x.device) for part in _ends_at(float(once), alpha, x.shape[-1]))
    else:
        log_radius, ends, base = _ends(once, alpha, x.shape[-1], table)
    squared = x * x0 * log_radius.exp() + table.shift
    z = (squared.log() - table.low) / table.size - 1
    order = torch.arange(_TERMS, dtype=x.dtype, device=x.device)
    features = torch.cat([torch.cos(torch.acos(z).unsqueeze(-1) * order), squared.sqrt().unsqueeze(-1)], -1)
    log, angle = (features.sum(-2) @ table.logs.to(x.device)).chunk(2, -1)
    size, (real, imaginary) = (log - log[:, :1]).exp(), ends.chunk(2, -1)
    cos, sin = angle.cos(), angle.sin()
    terms = torch.cat([size * (real * cos - imaginary * sin), size * (real * sin + imaginary * cos)], -1)
    return features, terms, log[:, 0] + base


@lru_cache(maxsize=16)
@outside_transforms
def _ends_at(tau: float, alpha: float, parts: int) -> tuple[Tensor, Tensor, Tensor]:
    """`_ends` at one time, which a sampler asks for again and again in each of its steps."""
    table = _interpolation(alpha, parts, octave(tau))
    assert table is not None
    return _ends(torch.tensor([tau], dtype=torch.float64), alpha, parts, table)


def _ends(tau: Tensor, alpha: float, parts: int, table: _Interpolation) -> tuple[Tensor, Tensor, Tensor]:
    """The logarithm of the radius `(T, 1)`, conjugate transforms of the weights `(T, 2F)`, their unit's logarithm `(T,)`."""
    centre, log, q = _lines_left(tau, alpha * parts)
    log_radius = _radius(centre, alpha * parts).log()
    weight, base = _weights(log, q, log_radius)
    frequency = torch.arange(table.counts.shape[0] // 2, dtype=tau.dtype, device=tau.device)
    phase = 2 * math.pi / table.period * torch.arange(len(log), dtype=tau.dtype, device=tau.device).unsqueeze(-1) * frequency
    twice = (2 - (2 * frequency % table.period == 0).to(tau)) / table.period  # all but the self-conjugate frequencies
    return log_radius, weight @ torch.cat([phase.cos() * twice, -phase.sin() * twice], -1), base


def _radius(centre: T, theta: float) -> T:
    """A radius at which the coefficients of the product are largest near `centre`, whether lines end in one part or in all alike."""
    return centre * (centre + theta / 2)


def _once(tau: Tensor) -> Tensor:
    """The time, `(1,)`, if all are equal; all else."""
    return tau[:1] if (tau == tau[0]).all() else tau


def _known(tau: Tensor) -> bool:
    """Whether there is one time that is a constant: what depends on it alone is kept."""
    return len(tau) == 1 and not tau.requires_grad and not transforming()


@lru_cache(maxsize=16)
@outside_transforms
def _lines_left_at(tau: float, theta: float) -> tuple[Tensor, Tensor, Tensor]:
    """`_lines_left` at one time."""
    return _lines_left(torch.tensor([tau], dtype=torch.float64), theta)


def _lines_left(tau: Tensor, theta: float) -> tuple[Tensor, Tensor, Tensor]:
    """The mean number of lines `(T, 1)`, `log (θ)_m m!` `(J,)` and `q_m` `(T, J)`, which is 0 where it is small."""
    centre, spread = (part.unsqueeze(-1) for part in line_moments(tau.detach(), theta))
    n = torch.arange(_fast(int((centre + _WIDTH * spread).max()) + 16), dtype=tau.dtype, device=tau.device)
    q = torch.where(n >= centre - _WIDTH * spread - 5, lines(tau, theta, len(n)), 0.0)
    return centre, torch.lgamma(theta + n) - math.lgamma(theta) + torch.lgamma(n + 1), q


def _weights(log: Tensor, q: Tensor, log_radius: Tensor) -> tuple[Tensor, Tensor]:
    """`q_m (θ)_m m! / r^m`, `(N, J)`, in units whose logarithm is also returned, `(N,)`."""
    weight = log - torch.arange(len(log), dtype=log.dtype, device=log.device) * log_radius
    base = weight.amin(-1, keepdim=True)
    return (weight - base).clamp_max(60).exp() * q, base[:, 0]


def _few_counts(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`_counts` if there are few lines."""
    sizes, weight, log_size = _coefficients(x, x0, alpha, tau)
    count = sizes.shape[-1]
    factors, ends = torch.fft.rfft(sizes).unbind(1), torch.fft.rfft(weight)
    twice = 2 - (2 * torch.arange(count // 2 + 1, device=x.device) % count == 0).to(x)  # all but the self-conjugate frequencies
    before, after = [ends * (twice / count)], [torch.ones_like(ends)]
    for factor in factors[:-1]:
        before.append(before[-1] * factor.conj())
    for factor in factors[:0:-1]:
        after.append(after[-1] * factor.conj())
    others = [one * other for one, other in zip(before, reversed(after), strict=True)]
    moments = torch.fft.rfft(torch.arange(count, dtype=x.dtype, device=x.device) * sizes).unbind(1)
    found = [_product(other, moment) for other, moment in zip(others, moments, strict=True)]
    return torch.stack(found, -1), _product(others[0], factors[0]).unsqueeze(-1), log_size


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The real part of `Σ conj(a) b` over the last dimension."""
    return (torch.view_as_real(a) * torch.view_as_real(b)).flatten(-2).sum(-1)


def _coefficients(x: Tensor, x0: Tensor, alpha: float, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients of `0F1(α; λ x_i x_{0,i})` `(N, K, J)`, weights of those of their product, the logarithm of the factor taken out."""
    theta, once = alpha * x.shape[-1], _once(tau)
    found = _lines_left_at(float(once), theta) if _known(once) else _lines_left(once, theta)
    centre, log_weight, q = (part.to(x.device) for part in found)
    n = torch.arange(len(log_weight), dtype=x.dtype, device=x.device)
    # At this radius the coefficients of the product are largest where `q_m` is, if lines end in some parts alike and in the others not.
    both, some = (x * x0).detach(), centre.clamp_min(1)
    radius = some * (some / both.sqrt().sum(-1, keepdim=True) ** 2 + alpha / both.sum(-1, keepdim=True))
    y = (x * x0 * radius).clamp_min(1e-300)
    table = torch.lgamma(n + 1) + torch.lgamma(alpha + n) - math.lgamma(alpha)
    # The largest coefficient is that of the last `n` with `n (n + α − 1) ≤ y`.
    top = ((y.detach() + (alpha - 1) ** 2 / 4).sqrt() - (alpha - 1) / 2).floor().clamp(0, len(n) - 1)
    peak = top * y.detach().log() - table[top.long()]
    log = torch.stack([y.log(), peak, torch.ones_like(peak)], -1) @ torch.stack([n, -torch.ones_like(n), -table])
    weight, base = _weights(log_weight, q, radius.log())
    return log.exp(), weight, base + peak.sum(-1)


def _fast(size: int) -> int:
    """`size` or a little more, 4 to 8 times a power of 2: transforms of such sizes are fast."""
    even = 2 ** max(0, size.bit_length() - 3)
    return -(-size // even) * even
