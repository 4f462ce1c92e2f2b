"""Weights of exponential multistep methods, shared by the samplers that interpolate earlier network evaluations.

With `λ = ln(α/σ)` the probability flow of an affine process is linear but for the denoiser `D`, or for the noise
`ε = (z − m − α D)/σ`. Variation of constants gives, from `t` to `s` with `h = λ_s − λ_t`::

    z_s = m_s + (σ_s/σ_t)(z_t − m_t) + α_s ∫_0^h e^{u−h} D(λ_t + u) du           (Lu et al., arXiv 2211.01095, proposition 4.1)
    z_s = m_s + (α_s/α_t)(z_t − m_t) − (α_s σ_t/α_t) ∫_0^h e^{−u} ε(λ_t + u) du   (Lu et al., arXiv 2206.00927, proposition 3.1)

An exponential Adams method replaces `D` or `ε` by the polynomial through known values at `λ_t + x_k`. Its weights are
`w_k = ∫_0^h e^{u−h} ℓ_k(u) du`, or with `e^{−u}`, for the Lagrange polynomials `ℓ_k`. They follow from the moments, computed by
integration by parts: `Σ_k w_k x_k^j = ∫_0^h e^{u−h} u^j du` for all `j`.

With two values the second moment may be replaced by `h/2` times the first, which has the same limit: the slope counts half, as in
DPM-Solver++(2M).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sdezoo.process.affine import Coefficients

Known = Sequence[tuple[Tensor, Tensor]]
"""Pairs of `λ` and the value there."""


def log_snr(k: Coefficients) -> Tensor:
    """`λ = ln(α/σ)`."""
    return -k.ratio.log()


def interpolatory(knots: Sequence[Tensor], moments: Sequence[Tensor]) -> list[Tensor]:
    """Interpolatory quadrature weights: the `w_k` with `Σ_k w_k x_k^j = moments_j` for all `j`.

    Args:
        knots: the `x_k`, scalars.
        moments: the integrals of `u^j`, as many scalars as there are knots.

    Returns:
        The `w_k`, which integrate the polynomial through values at the knots exactly.
    """
    powers = torch.stack(list(knots)) ** torch.arange(len(knots))[:, None]
    return list(torch.linalg.solve(powers, torch.stack(list(moments))))


def with_data(p: Coefficients, q: Coefficients, z: Tensor, known: Known, half: bool = False) -> Tensor:
    """One step with the denoiser replaced by the polynomial through its known values.

    Args:
        p: coefficients at the start.
        q: coefficients at the end.
        z: state at the start, `(B, *event)`.
        known: pairs of `λ` and the denoised state there.
        half: if True, the slope through two values counts half.

    Returns:
        The state at the end, `(B, *event)`.
    """
    h = log_snr(q) - log_snr(p)
    moments = [-torch.expm1(-h)]
    for j in range(1, len(known)):
        moments.append(h**j - j * moments[-1])
    if half:
        moments = _halved(h, moments)
    return q.shift + q.sigma / p.sigma * (z - p.shift) + q.alpha * _integral(log_snr(p), moments, known)


def with_noise(p: Coefficients, q: Coefficients, z: Tensor, known: Known, half: bool = False) -> Tensor:
    """One step with the noise `ε` replaced by the polynomial through its known values.

    Args:
        p: coefficients at the start.
        q: coefficients at the end.
        z: state at the start, `(B, *event)`.
        known: pairs of `λ` and the noise `ε` there.
        half: if True, the slope through two values counts half.

    Returns:
        The state at the end, `(B, *event)`.
    """
    h = log_snr(q) - log_snr(p)
    moments = [-torch.expm1(-h)]
    for j in range(1, len(known)):
        moments.append(j * moments[-1] - h**j * torch.exp(-h))
    if half:
        moments = _halved(h, moments)
    return q.shift + q.alpha / p.alpha * (z - p.shift) - q.alpha * p.ratio * _integral(log_snr(p), moments, known)


def _halved(h: Tensor, moments: list[Tensor]) -> list[Tensor]:
    return [moments[0], h / 2 * moments[0]] if len(moments) == 2 else moments


def _integral(origin: Tensor, moments: Sequence[Tensor], known: Known) -> Tensor:
    weights = interpolatory([level - origin for level, _ in known], moments)
    first, *others = (w * value for w, (_, value) in zip(weights, known, strict=True))
    return sum(others, start=first)
