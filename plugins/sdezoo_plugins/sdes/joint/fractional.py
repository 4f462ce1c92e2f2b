"""Generative fractional diffusion: noise with memory, in the place of Brownian motion.

Nobis et al., *Generative fractional diffusion models*, arXiv 2310.17638. Fractional Brownian motion of Hurst index `H` is approximated by
a sum of Ornstein–Uhlenbeck processes that share one Brownian motion `B` an entry (Harms & Stefanovits, Stoch. Proc. Appl. 129 (2019))::

    dX = [μ X − g Σ_k ω_k γ_k Y_k] dt + g Σ_k ω_k dB,      dY_k = −γ_k Y_k dt + dB,      Y_k(0) ~ N(0, ε)

================= ================= ============================
`kind`            `μ(t)`            `g(t)`
================= ================= ============================
`fvp`             `−β/2`            `√β`, `β` from 0.1 to 20
`fve`             0                 `σ_min r^t √(2 ln r)`, `r = σ_max/σ_min`
================= ================= ============================

`γ = 1` for `K = 1`, else `γ_k = 20^{2 (k − (K + 1)/2)/(K − 1)}`. `ω = A⁻¹ b` minimizes the mean squared error of `Σ ω_k Y_k` on [0, 1],
against fractional Brownian motion of type II. With the regularized incomplete gamma function `P`::

    A_ij = [1 + (e^{−(γ_i + γ_j)} − 1)/(γ_i + γ_j)]/(γ_i + γ_j),      b_k = γ_k^{−H − ½} P(H + ½, γ_k) − (H + ½) γ_k^{−H − 3/2} P(H + 3/2,
    γ_k)

`ω` is then scaled so that `Var(X_1 | x_0)` is 1, or `σ_max²` for `fve`. The state `(B, 1 + K, *event)` is `(X, Y_1, …, Y_K)`, and normal
given `x_0`, with the mean `(a x_0, 0)`, `a = e^{∫μ}`, and the covariance, `δ` Kronecker's::

    S_ij = Cov(Y_i, Y_j) = (1 − e^{−(γ_i + γ_j) t})/(γ_i + γ_j) + ε δ_ij e^{−2 γ_i t}
    C_k' = (μ − γ_k) C_k + g [Σ ω − Σ_j ω_j γ_j S_jk],      V' = 2 μ V − 2 g Σ ω_k γ_k C_k + (g Σ ω)²

`C = Cov(X, Y)` and `V = Var(X)` are integrals, taken by Gauss and Legendre's rule once, and interpolated by Chebyshev polynomials; both
in `√β` for `fvp`, where the integrands are entire functions. Without the
start `ε` the covariance is singular to rounding at small times; the paper adds `ε e^{−2γt}` to `S` alone, which leaves out what the start
does to `C` and `V`.

With `η = S⁻¹ C` and `v = V − η·C`, the score of the state follows from one number an entry, `∇_x` (augmented score matching)::

    ∇_y log p = −η ∇_x log p − S⁻¹ y,      ∇_x log p(z | x_0) = −(x − η·y − a x_0)/v

A network sees `x − η·y`. Its output is added to the score of normal data with variance 1, so scale the data to that. An error of the
score in `x` is one of `η` times its size in `y`; the weights of the squared errors, `1/(K (1 + η_k²))` in `y_k`, keep that from deciding
the loss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Interval
from scipy.special import gammainc
from torch import Tensor

from sdezoo.errors import ParameterError
from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.differentiation import outside_transforms
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Shape
from sdezoo.process.sde import ForwardSDE

_FASTEST = 20.0
_NODES = 40
_PANELS, _DEGREE = 8, 18
_LEAST = 1e-13
"""Smallest eigenvalue of the correlation matrix of the state that float64 resolves."""


@dataclass(frozen=True)
class Fractional(ForwardSDE, Conditional):
    """Fractional diffusion: noise with memory, by Ornstein–Uhlenbeck processes that share one Brownian motion; it takes many steps."""

    papers: ClassVar[tuple[str, ...]] = ("nobis2023generative",)

    hurst: Annotated[float, Interval(gt=0, lt=1)] = 0.9
    """Hurst index `H`: ½ is Brownian motion, more is smoother, less is rougher."""
    count: Annotated[int, Interval(ge=1, le=5)] = 3
    """Number `K` of Ornstein–Uhlenbeck processes."""
    kind: Literal["fvp", "fve"] = "fvp"
    """Whether the data fade (`fvp`) or are drowned (`fve`)."""
    beta_min: Positive = 0.1
    """`β` at the beginning, for `fvp`."""
    beta_max: Positive = 20.0
    """`β` at the end, for `fvp`."""
    sigma_min: Positive = 0.01
    """Scale of the noise at the beginning, for `fve`."""
    sigma_max: Positive = 50.0
    """Scale of the noise at the end, for `fve`."""
    start: NonNegative = 1e-4
    """Variance `ε` of each `Y_k` at the beginning."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising(beta_min=self.beta_min, beta_max=self.beta_max)
        self.check_rising(sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        covariance = self._covariance(torch.linspace(*self.t_span, 257, dtype=torch.float64))
        unit = covariance.diagonal(dim1=1, dim2=2).rsqrt()
        if not float(torch.linalg.eigvalsh(unit[:, :, None] * covariance * unit[:, None]).min()) > _LEAST:
            raise ParameterError(
                f"{self.title()}: with count={self.count} the covariance of the state is not positive definite in float64.",
                "Choose a smaller count, or a larger start.",
            )

    def state_shape(self, shape: Sequence[int]) -> Shape:
        return (shape[0], 1 + self.count, *shape[1:])

    def noise_shape(self, shape: Sequence[int]) -> Shape:
        return (shape[0], 1, *shape[2:])

    def encode(self, x: Tensor, noise: Noise) -> Tensor:
        memory = math.sqrt(self.start) * noise.normal(x, (x.shape[0], self.count, *x.shape[1:]))
        return torch.cat([x[:, None], memory], 1)

    def decode(self, z: Tensor) -> Tensor:
        return z[:, 0]

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        gamma, omega = self._rates
        mu, g = self._coefficients(t)
        x, y = z[:, :1], z[:, 1:]
        memory = (_along(omega * gamma, z) * y).sum(1, keepdim=True)
        return torch.cat([_like(mu, z) * x - _like(g, z) * memory, -_along(gamma, z) * y], 1)

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        g = _like(self._coefficients(t)[1], z) * float(self._rates[1].sum())
        first = (g * torch.ones_like(z[:1, :1])) if g.ndim == 0 else g.expand(-1, 1, *z.shape[2:])
        return torch.cat([first.to(z), torch.ones_like(z[: len(first), 1:])], 1)

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        law, fresh = self._law(t), noise.normal(x0, self.state_shape(x0.shape))
        y = _apply(torch.linalg.cholesky(law.memory), fresh[:, 1:])
        x = _beside(self._fade(t), x0) * x0 + _dot(law.eta, y) + _beside(law.variance.sqrt(), x0) * fresh[:, 0]
        return torch.cat([x[:, None], y], 1)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Sample the state at the last time for data 0."""
        return self.perturb(like.new_zeros(tuple(shape)), torch.tensor(self.t_span[1], dtype=torch.float64), noise)

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        law = self._law(t)
        return (z[:, 0] - _dot(law.eta, z[:, 1:])) / _beside((self._fade(t).reshape(-1) ** 2 + law.variance).sqrt(), z[:, 0])

    def network_input_shape(self, event: Sequence[int]) -> Shape:
        return tuple(event)

    def score_from_output(self, s: Tensor, z: Tensor, t: Tensor) -> Tensor:
        law = self._law(t)
        known = (z[:, 0] - _dot(law.eta, z[:, 1:])) / _beside(self._fade(t).reshape(-1) ** 2 + law.variance, z[:, 0])
        return self._whole(s - known, z, law)

    def scale(self, t: Tensor) -> Tensor:
        """Standard deviation of `X` given `x_0` and `Y`."""
        return self._law(t).variance.sqrt().reshape(t.shape)

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        law = self._law(t)
        return self._whole(-self._away(z, x0, t, law) / _beside(law.variance, x0), z, law)

    def score_error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        weights = 1 / (self.count * (1 + self._law(t).eta ** 2))
        weights = torch.cat([torch.ones_like(weights[:, :1]), weights], 1).to(z)
        return weights.reshape(*weights.shape, *[1] * (z.ndim - 2)).expand_as(z)

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`log p(y) + log p(x | y)` of each entry of the data."""
        law, y = self._law(t), z[:, 1:]
        spread = _beside(law.variance, x0)
        size = _beside(torch.logdet(law.memory), x0) + spread.log() + (1 + self.count) * math.log(2 * math.pi)
        return -((y * _apply(law.memory.inverse(), y)).sum(1) + self._away(z, x0, t, law) ** 2 / spread + size) / 2

    def _whole(self, s: Tensor, z: Tensor, law: "Law") -> Tensor:
        """The score of the state from that in `x`."""
        eta = law.eta.to(s)
        rest = -eta.reshape(*eta.shape, *[1] * (s.ndim - 1)) * s[:, None] - _apply(law.memory.inverse(), z[:, 1:])
        return torch.cat([s[:, None], rest], 1)

    def _away(self, z: Tensor, x0: Tensor, t: Tensor, law: "Law") -> Tensor:
        return z[:, 0] - _dot(law.eta, z[:, 1:]) - _beside(self._fade(t), x0) * x0

    @property
    def _path(self) -> "Path":
        ends = (self.beta_min, self.beta_max) if self.kind == "fvp" else (self.sigma_min, self.sigma_max)
        return Path(self.kind, *ends)

    @cached_property
    def _rates(self) -> tuple[Tensor, Tensor]:
        """`γ` and the scaled `ω`, float64 `(K,)`."""
        return _table(self.hurst, self.count, self._path, self.start)[:2]

    def _coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self._path.coefficients(t.double())

    def _fade(self, t: Tensor) -> Tensor:
        return self._path.fade(t.double())

    def _covariance(self, t: Tensor) -> Tensor:
        """Covariance of the state at times `t`, float64 `(N, 1 + K, 1 + K)`."""
        gamma, _, polynomials = _table(self.hurst, self.count, self._path, self.start)
        t = t.double().reshape(-1).cpu()
        crossed, memory = _chebyshev(polynomials, self._path, t), _memory(gamma, t, self.start)
        return torch.cat([crossed[:, None], torch.cat([crossed[:, 1:, None], memory], 2)], 1)

    def _law(self, t: Tensor) -> "Law":
        covariance = self._covariance(t)
        memory, crossed = covariance[:, 1:, 1:], covariance[:, 1:, 0]
        eta = torch.linalg.solve(memory, crossed)
        return Law(eta, covariance[:, 0, 0] - (eta * crossed).sum(-1), memory)


class Law(NamedTuple):
    """The distribution of the state given `x_0` at some times, float64."""

    eta: Tensor
    """`η`, `(N, K)`."""
    variance: Tensor
    """`v`, `(N,)`."""
    memory: Tensor
    """`S`, `(N, K, K)`."""


class Path(NamedTuple):
    """`μ`, `g` and `a` of one `kind`, between two ends."""

    kind: str
    """`fvp` or `fve`."""
    first: float
    """`β` or `σ` at the beginning."""
    last: float
    """`β` or `σ` at the end."""

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """`μ` and `g` at `t`, shaped like `t`."""
        if self.kind == "fvp":
            beta = self.first + (self.last - self.first) * t
            return -beta / 2, beta.sqrt()
        growth = math.log(self.last / self.first)
        return torch.zeros_like(t), self.first * math.sqrt(2 * growth) * torch.exp(growth * t)

    def clock(self, t: Tensor) -> Tensor:
        """A rising function of time in which coefficients are smooth: `√β` for `fvp`, else `t`."""
        return (self.first + (self.last - self.first) * t).sqrt() if self.kind == "fvp" else t

    def time(self, q: Tensor) -> Tensor:
        """The time at which the clock reads `q`."""
        return (q**2 - self.first) / (self.last - self.first) if self.kind == "fvp" else q

    def nodes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Gauss–Legendre nodes and weights for integrals from 0 to each of `t` `(N,)`, `(N, nodes)` each."""
        node, weight = (torch.from_numpy(part) / 2 for part in np.polynomial.legendre.leggauss(_NODES))
        first, width = self.clock(torch.zeros_like(t))[:, None], (self.clock(t) - self.clock(torch.zeros_like(t)))[:, None]
        q = first + width * (node + 0.5)
        return self.time(q), width * weight * (2 * q / (self.last - self.first) if self.kind == "fvp" else 1.0)

    def fade(self, t: Tensor) -> Tensor:
        """`a` at `t`, shaped like `t`."""
        if self.kind == "fvp":
            return torch.exp(-(self.first * t + (self.last - self.first) * t**2 / 2) / 2)
        return torch.ones_like(t)


@lru_cache(maxsize=64)
@outside_transforms
def weights(hurst: float, count: int) -> tuple[Tensor, Tensor]:
    """`γ` and `ω` before scaling, float64 `(K,)`: the best approximation of fractional Brownian motion on [0, 1].

    Args:
        hurst: `H`.
        count: `K`.
    """
    k = np.arange(1, count + 1)
    gamma = np.ones(1) if count == 1 else _FASTEST ** (2 * (k - (count + 1) / 2) / (count - 1))
    total = gamma[:, None] + gamma
    a = (1 + np.expm1(-total) / total) / total
    b = gamma ** (-hurst - 0.5) * gammainc(hurst + 0.5, gamma) - (hurst + 0.5) * gamma ** (-hurst - 1.5) * gammainc(hurst + 1.5, gamma)
    return torch.from_numpy(gamma), torch.from_numpy(np.linalg.solve(a, b))


def _memory(gamma: Tensor, t: Tensor, start: float) -> Tensor:
    """`S` at times `t` `(N,)`."""
    total = gamma[:, None] + gamma
    return -torch.expm1(-total * t[:, None, None]) / total + start * torch.diag_embed(torch.exp(-2 * gamma * t[:, None]))


@lru_cache(maxsize=64)
@outside_transforms
def _table(hurst: float, count: int, path: Path, start: float) -> tuple[Tensor, Tensor, Tensor]:
    """`γ`, the scaled `ω`, and Chebyshev coefficients of `(V, C)/t` on equal panels of the clock, `(panels, degree + 1, 1 + K)`."""
    gamma, omega = weights(hurst, count)
    angle = math.pi * (torch.arange(_DEGREE + 1, dtype=torch.float64) + 0.5) / (_DEGREE + 1)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    first, last = path.clock(ends)
    t = path.time(first + (last - first) * ((torch.arange(_PANELS)[:, None] + (1 + angle.cos()) / 2) / _PANELS).reshape(-1))
    scale = (1.0 if path.kind == "fvp" else path.last) / _crossed(gamma, omega, path, start, ends)[1, 0].sqrt()
    omega = scale * omega
    values = (_crossed(gamma, omega, path, start, t) / t[:, None]).reshape(_PANELS, _DEGREE + 1, 1 + count)
    transform = 2 / (_DEGREE + 1) * torch.cos(torch.arange(_DEGREE + 1, dtype=torch.float64)[:, None] * angle)
    transform[0] /= 2
    return gamma, omega, torch.einsum("nj,pjk->pnk", transform, values)


def _crossed(gamma: Tensor, omega: Tensor, path: Path, start: float, t: Tensor) -> Tensor:
    """`(V, C_1, …, C_K)` at times `t`, `(N, 1 + K)`."""
    u, weight = path.nodes(t)
    inner = _covariance_with_memory(gamma, omega, path, start, u.reshape(-1)).reshape(*u.shape, -1)
    _, g = path.coefficients(u)
    total = float(omega.sum())
    rate = (g * total) ** 2 - 2 * g * (inner * omega * gamma).sum(-1)
    variance = (weight * (path.fade(t)[:, None] / path.fade(u)) ** 2 * rate).sum(-1)
    return torch.cat([variance[:, None], _covariance_with_memory(gamma, omega, path, start, t)], 1)


def _covariance_with_memory(gamma: Tensor, omega: Tensor, path: Path, start: float, t: Tensor) -> Tensor:
    """`C` at times `t` `(N,)`, `(N, K)`."""
    parts = []
    for few in t.split(4096):
        u, weight = path.nodes(few)
        memory = _memory(gamma, u.reshape(-1), start).reshape(*u.shape, len(gamma), len(gamma))
        source = omega.sum() - torch.einsum("nujk,j->nuk", memory, omega * gamma)
        faded = path.fade(few)[:, None] / path.fade(u) * path.coefficients(u)[1]
        kernel = torch.exp(-gamma * (few[:, None] - u)[..., None])
        parts.append(torch.einsum("nu,nu,nuk->nk", weight, faded, kernel * source))
    return torch.cat(parts)


def _chebyshev(coefficients: Tensor, path: Path, t: Tensor) -> Tensor:
    """`t` times the interpolant at times `t` `(N,)` in [0, 1], by Clenshaw's recurrence."""
    first, last = path.clock(torch.tensor([0.0, 1.0], dtype=torch.float64))
    place = _PANELS * (path.clock(t) - first) / (last - first)
    panel = place.detach().long().clamp(0, _PANELS - 1)
    x, chosen = (2 * (place - panel) - 1)[:, None], coefficients[panel]
    high = higher = torch.zeros_like(chosen[:, 0])
    for n in range(_DEGREE, 0, -1):
        high, higher = chosen[:, n] + 2 * x * high - higher, high
    return t[:, None] * (chosen[:, 0] + x * high - higher)


def _like(k: Tensor, z: Tensor) -> Tensor:
    return k if k.ndim == 0 else k.to(z)


def _along(v: Tensor, z: Tensor) -> Tensor:
    return v.to(z).reshape(1, -1, *[1] * (z.ndim - 2))


def _beside(v: Tensor, x: Tensor) -> Tensor:
    """Numbers for each time, beside the entries of data `x`."""
    return v.to(x).reshape(-1, *[1] * (x.ndim - 1))


def _apply(matrix: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("bij,bj...->bi...", matrix.to(y).expand(len(y), -1, -1), y)


def _dot(v: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("bi,bi...->b...", v.to(y).expand(len(y), -1), y)
