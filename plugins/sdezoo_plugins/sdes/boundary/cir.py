"""Square-root diffusion (Cox–Ingersoll–Ross), `dX = κ (θ − X) dβ + σ √X dW_β`: reverts to `θ`, Gaussian in no coordinates.

Feller, Annals of Mathematics 54 (1951); Cox, Ingersoll & Ross, Econometrica 53 (1985), eq. 17 to 20. `β(t)` is a clock of
`square_root`: it runs slowly near the data and reaches 1 at `t = 1`. `start = 1` is the published process. With
`q = 2κθ/σ² − 1`, `c = 2κ/(σ² (1 − e^{−κβ}))`, `u = c x_0 e^{−κβ}`, `v = c x` and `w = 2√(uv)`::

    p(x_t = x | x_0) = c e^{−u−v} (v/u)^{q/2} I_q(w)
    ∂_x log p        = −c + q/x + w/(2x) · I_{q+1}(w)/I_q(w)
    X_t              = (√(x_0 e^{−κβ}) + ε/√(2c))² + Gamma(q + ½)/c           2c X_t is non-central χ²
    X_∞              = Gamma(q + 1) · σ²/(2κ)                                 the prior
    ∇·(g gᵀ)         = σ² β'

If `2κθ ≥ σ²` (Feller), that is `q ≥ 0`, the process never reaches 0. It may start there, so the data may contain zeros. A step that
overshoots 0 is reflected there, once. No state is negative or 0, for any number of steps.

Both `u` and `v` are of the order `1/t`, and the terms of density and score cancel as `t → 0`. They are computed as
`log c − (√v − √u)² + q log 2v + L_q(w)` and `c (x_0 e^{−κβ} − x)/(√x (√x + √(x_0 e^{−κβ}))) + (2q − D_q(w))/(2x)`. `L` and `D` have no
singularity; see `bessel`.

The state is the data over `unit`, one number per column (for images: one for all), so that `θ` has the size of the data. The network
input is `2 (√x − √θ)`, standardized: the noise is the same everywhere in it, and small values are as visible as large ones. The network
output is `√x` times the score minus that of the prior, `q/x − 2κ/σ²`: it is of order one, also near 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import constraints

from sdezoo.errors import ParameterError
from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.noise import Noise
from sdezoo_plugins.sdes.shared.bessel import bessel
from sdezoo_plugins.sdes.shared.square_root import RESOLVED, Growth, SquareRoot, Start, root


@dataclass(frozen=True)
class CIR(SquareRoot):
    """Square-root diffusion dX = κ(θ − X)dt + σ√X dW on positive data, zeros included; its prior is a Gamma distribution."""

    papers: ClassVar[tuple[str, ...]] = ("feller1951singular", "cox1985theory")

    kappa: Positive = 4.0
    """Mean-reversion rate `κ`."""
    theta: Positive = 1.0
    """Mean `θ` of the prior, in units."""
    sigma: Positive = 1.4
    """Noise `σ`; at most `√(2κθ)`."""
    growth: Growth | None = None
    start: Start | None = None
    unit: tuple[Positive, ...] | None = None
    """Divisor of the data, one number per column or one for all; None: their means."""
    center: tuple[float, ...] | None = None
    spread: tuple[NonNegative, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.q < 0:
            raise ParameterError(
                f"{self.title()}: with sigma={self.sigma:g} the process reaches 0, where its score is undefined.",
                f"Give sigma at most sqrt(2 kappa theta) = {(2 * self.kappa * self.theta) ** 0.5:.4g}.",
            )

    @property
    def q(self) -> float:
        """`2κθ/σ² − 1`, the order of the Bessel function and the power of `x` in the density near 0."""
        return 2 * self.kappa * self.theta / self.sigma**2 - 1

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative

    @property
    def reflecting_boundary(self) -> bool:
        return self.q < 1e-12  # 0 to rounding

    def adapted(self, x0: Tensor) -> Self:
        if self.unit is not None:
            return self.fitted(x0)
        means = x0.double().mean(0) if x0.ndim == 2 else x0.double().mean().reshape(1)
        return replace(self, unit=tuple(torch.where(means > 0, means, 1.0).tolist())).fitted(x0)

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        return x if self.unit is None else x / x.new_tensor(self.unit)

    def decode(self, z: Tensor) -> Tensor:
        return z if self.unit is None else z * z.new_tensor(self.unit)

    def even(self, z: Tensor) -> Tensor:
        """`2 (√x − √θ)`."""
        return 2 * (z.abs().sqrt() - math.sqrt(self.theta))

    def even_noise(self, columns: int) -> tuple[float, float]:
        return self.sigma, self.kappa

    def resolved(self, z: Tensor) -> float:
        return float(z.max()) * (RESOLVED / self.sigma) ** 2

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return (self.clock_speed(t) * self.kappa).to(z) * (self.theta - z)

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return (self.clock_speed(t).sqrt() * self.sigma).to(z) * root(z)

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        return (self.clock_speed(t) * self.sigma**2).to(z).expand_as(z)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """Reflection at 0; a step that would end at 0 exactly is rejected."""
        return torch.where(proposal == 0, z, proposal.abs())

    def scale(self, t: Tensor) -> Tensor:
        """Standard deviation of `X_t` from `x_0 = θ`, over `√θ`: `√(σ² (1 − e^{−2κβ}) / 2κ)`."""
        return (self.sigma**2 / (2 * self.kappa) * -torch.expm1(-2 * self.kappa * self.clock(t))).sqrt()

    def score_error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        return z

    def score_from_output(self, s: Tensor, z: Tensor, t: Tensor) -> Tensor:
        return s / z.abs().sqrt() + self.stationary_score(z, t)

    def stationary_score(self, z: Tensor, t: Tensor) -> Tensor:
        return self.q / z - 2 * self.kappa / self.sigma**2

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return self._moved(self.encode(x0), self.clock(t.double()), noise)

    def transition(self, z: Tensor, s: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return self._moved(z, self.clock(t) - self.clock(s), noise)

    def reverse_transition(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """The stationary process is reversible: its transition is the same in both directions of time."""
        return self.transition(z, s, t, noise)

    def _moved(self, z: Tensor, clock: Tensor, noise: Noise) -> Tensor:
        c, decay = self._law(clock, z)
        root = (z + z * decay).sqrt() + noise.normal(z) / (2 * c).sqrt()
        rest = noise.gamma(torch.full_like(z, self.q + 0.5)) / c
        return torch.where(clock.to(z.device) > 0, root**2 + rest, z)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return noise.gamma(like.new_full(tuple(shape), self.q + 1)) * (self.sigma**2 / (2 * self.kappa))

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        (c, decay), z0 = self._law(self.clock(t.double()), z), self.encode(x0)
        start = z0 + z0 * decay
        between = (z - z0 - z0 * decay) / (z.sqrt() + start.sqrt())
        log, _ = bessel(self.q, 2 * c * (z * start).sqrt())
        return c.log() - c * between**2 + self.q * (2 * c * z).log() + log

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        (c, decay), z0 = self._law(self.clock(t.double()), z), self.encode(x0)
        start = z0 + z0 * decay
        between = (z - z0 - z0 * decay) / (z.sqrt() + start.sqrt())
        _, gap = bessel(self.q, 2 * c * (z * start).sqrt())
        return (self.q - gap / 2) / z - c * between / z.sqrt()

    def _law(self, clock: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        # e^{−κβ} − 1 in place of e^{−κβ}: for small t, all other digits of x_0 e^{−κβ} − x cancel.
        decay = torch.expm1(-self.kappa * clock)
        return (-2 * self.kappa / self.sigma**2 / decay).to(like), decay.to(like)
