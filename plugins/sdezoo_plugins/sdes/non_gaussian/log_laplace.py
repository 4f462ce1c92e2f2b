"""Log-Laplace noise on positive data, which arrives in jumps: `z_t = α z_0 + σ e`, `α = cos(πt/2)`, `σ = sin(πt/2)`.

The coordinates are `z_i = (ln x_i − c_i)/s_i`, with means `c_i` and deviations `s_i` of the columns. The entries of `e` are independent::

    p(e_i) = e^{−√2 |e_i|}/√2,      Var e_i = 1,      E e^{iu e_i} = 1/(1 + u²/2)

Exponential tails of the logarithm are power-law tails of the data, with moments below their index::

    P(X_i > r) ~ r^{−√2/(s_i σ)},      E X_i^p = e^{p(c_i + s_i α z_i)}/(1 − (p s_i σ)²/2)  for  p s_i σ < √2

With `ρ = σ/α` and `c = ρ_s/ρ_t`, the characteristic functions of `σ_t e` and of `(α_t/α_s) σ_s e = c σ_t e` have the ratio
`c² + (1 − c²)/(1 + σ_t² u²/2)`. That is the increment from `s` to `t`: 0 with probability `c²`, otherwise `σ_t e'` with a new `e'`. So
`z` is an Ornstein–Uhlenbeck process driven by jumps, `dz = (α'/α) z dt + dJ`. The jumps of an entry come at the rate `d ln ρ²/dt`, are
distributed as `σ_t e`, and multiply the data (Barndorff-Nielsen & Shephard, J. R. Stat. Soc. B 63 (2001), section 2, for other marginals).
Baule, arXiv 2503.06558, section 4, trains with Laplace jumps at a constant rate, whose sum is no Laplace noise.

The flow is that of `sdezoo.process.interpolant`. As state and noise have unit variance, the network output `F` is read as
`E[z_0 | z] = α z − σ F`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.process.interpolant import Mix, SelfDecomposable
from sdezoo.process.noise import Noise
from sdezoo_plugins.sdes.shared.logarithms import InLogarithms


@dataclass(frozen=True)
class LogLaplace(InLogarithms, SelfDecomposable):
    """Log-Laplace noise on positive data: power-law tails with known moments; it arrives in jumps."""

    papers: ClassVar[tuple[str, ...]] = ("baule2025generative",)

    @property
    def tail(self) -> float:
        """0: a multiple of the state is a power of the data, so that a network reaches every power law."""
        return 0.0

    @property
    def t_span(self) -> tuple[float, float]:
        return 1e-3, 0.995

    def mix(self, t: Tensor) -> Mix:
        angle = math.pi / 2 * t.double()
        return Mix(angle.cos(), angle.sin())

    def base(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        exponential = -(1 - noise.uniform(like, shape)).log()
        return exponential.sqrt() * noise.normal(like, shape)

    def increment(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        (alpha, sigma), (earlier_alpha, earlier_sigma) = self.at(t, z), self.at(s, z)
        none = (earlier_sigma * alpha / (earlier_alpha * sigma)) ** 2
        return sigma * self.base(z.shape, noise, z) * (noise.uniform(z) >= none)

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """Log-density of each entry, shaped like `z`: the noise of the entries is independent."""
        k = self.at(t, z)
        return -math.sqrt(2) * (z - k.alpha * self.encode(x0)).abs() / k.sigma - (math.sqrt(2) * k.sigma).log()

    def denoiser_from_output(self, out: Tensor, z: Tensor, t: Tensor) -> Tensor:
        k = self.at(t, z)
        return k.alpha * z - k.sigma * out

    def error_scale(self, t: Tensor) -> Tensor:
        """`σ`."""
        return self.mix(t).sigma
