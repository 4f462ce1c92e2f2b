"""The Wright–Fisher diffusion on the simplex: shares of `K` parts, `dX = (s/2) α (1 − K X) dβ + G dW_β`, `G Gᵀ = s (diag X − X Xᵀ)`.

Ethier & Kurtz, Markov Processes (1986), section 10.1, with mutation to every part at the rate `α`. The stationary distribution is
Dirichlet's with all parameters `α`. `β(t)` is a clock of `square_root`: it runs slowly near the data and reaches 1 at `t = 1`.

The state is the sticks `V_i = X_i/R_i`, `R_i = X_i + … + X_K`, for `i < K`. In it `g` is diagonal. Every stick is a Jacobi diffusion
whose time runs faster the less is left. By Itô's formula, with `b_i = (K − i) α` and `R_i = Π_{j<i} (1 − V_j)`::

    dV_i     = (s/2) [α (1 − V_i) − b_i V_i]/R_i dβ + √(s V_i (1 − V_i)/R_i) dW_i
    ∇·(g gᵀ) = s (1 − 2 V_i)/R_i β'

Exact samples and the density are those of `coalescent` and `simplex_transition` at `τ = s β`::

    X_t           = Dirichlet(α + n),     n ~ Multinomial(m, x_0),     m lines of descent
    ∂_{V_i} log p = (α − 1 + N_i)/V_i − (b_i − 1 + Σ_{j>i} N_j)/(1 − V_i),     N = E[n | x, x_0]

Below `τ = 0.005`, about 400 lines, `N` is the slope of the density's limit for small times. In units of the noise, the score is then
accurate to 0.001 for up to 30 parts, and to 0.002 for 60, in root mean square.

If `α ≥ 1`, no part ever vanishes. The process may start where some have: all parts but one may be 0 in the data. A stick that
overshoots is folded back. No state is outside or on a face, for any number of steps; samples that round to a face become the number
next to it.

The network input is `√(K x)`, a point on a sphere, where the noise is the same everywhere; each part of it is standardized. The network
output, without its last part, is `√(V (1 − V)/R)` times the score minus that of the prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import torch
from annotated_types import Ge
from torch import Tensor
from torch.distributions import constraints

from sdezoo.errors import DataError, ParameterError
from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.columns import ColumnFit
from sdezoo.process.noise import Noise
from sdezoo.process.process import Shape
from sdezoo_plugins.sdes.shared.coalescent import EARLIEST, draw_lines, folded, inside
from sdezoo_plugins.sdes.shared.simplex_transition import density_and_descendants, descendants, log_density
from sdezoo_plugins.sdes.shared.square_root import RESOLVED, Growth, SquareRoot, Start, root

RETURN = 4.0


@dataclass(frozen=True)
class WrightFisher(SquareRoot):
    """Wright–Fisher diffusion dX = (s/2)α(1 − KX)dt + √(s(diag X − XXᵀ)) dW on the simplex; its prior is a Dirichlet distribution."""

    papers: ClassVar[tuple[str, ...]] = ("ethier1986markov", "griffiths1979exact", "jenkins2017exact", "griffiths1984asymptotic")

    alpha: Annotated[float, Ge(1)] = 2.0
    """Parameter `α` of the Dirichlet distribution, the same for all parts."""
    speed: Positive | None = None
    """Noise `s`; None: `8/(Kα)`, which makes the mean-reversion rate 4."""
    growth: Growth | None = None
    start: Start | None = None
    center: tuple[float, ...] | None = None
    spread: tuple[NonNegative, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._s <= EARLIEST:
            raise ParameterError(
                f"{self.title()}: with speed={self._s:g} the process is too short for the series of its density.",
                f"Give speed above {EARLIEST:g}.",
            )

    @property
    def support(self) -> constraints.Constraint:
        return constraints.simplex

    @property
    def reflecting_boundary(self) -> bool:
        return self.alpha == 1

    @property
    def entrywise_noise(self) -> bool:
        return False

    @classmethod
    def shares_fit(cls, rows: Tensor) -> ColumnFit | None:
        return ColumnFit(1, "shares", cls.title()) if rows.min() >= 0 else None

    def adapted(self, x0: Tensor) -> Self:
        if x0.shape[-1] < 2:
            raise DataError(f"{self.title()}: rows of one part have nothing to share.", "Give rows of two parts or more.")
        speed = 2 * RETURN / (self.alpha * x0.shape[-1]) if self.speed is None else self.speed
        return replace(self, speed=speed).fitted(x0)

    def state_shape(self, shape: Sequence[int]) -> Shape:
        return (*shape[:-1], shape[-1] - 1)

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """The sticks; ½ if nothing is left to break."""
        left = x.flip(-1).cumsum(-1).flip(-1)[..., :-1]
        return torch.where(left > 0, x[..., :-1] / torch.where(left > 0, left, 1.0), 0.5)

    def decode(self, z: Tensor) -> Tensor:
        left = self._left(z, all_of_them=True)
        return torch.cat([z * left[..., :-1], left[..., -1:]], -1)

    def even(self, z: Tensor) -> Tensor:
        """`√(K x)`, a point on a sphere."""
        x = self.decode(z)
        return (x.abs() * x.shape[-1]).sqrt()

    def even_noise(self, columns: int) -> tuple[float, float]:
        return (columns * self._s) ** 0.5 / 2, columns * self.alpha * self._s / 2

    def resolved(self, z: Tensor) -> float:
        return float((self._left(z) * RESOLVED**2 / (1 - z).clamp_min(RESOLVED)).max()) / self._s

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return self._rate(t).to(z) / 2 * (self.alpha * (1 - z) - self._rest(z) * z) / self._left(z)

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return self._rate(t).sqrt().to(z) * root(z * (1 - z) / self._left(z))

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        return self._rate(t).to(z) * (1 - 2 * z) / self._left(z)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """Folding of every stick at both ends; a step that would end on an end exactly is rejected."""
        return folded(proposal, z)

    def scale(self, t: Tensor) -> Tensor:
        """Spread in units of `√(V (1 − V)/R)`: `√((1 − e^{−2τ}) / 2)`."""
        return (-torch.expm1(-2 * self._tau(t)) / 2).sqrt()

    def score_error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        return z * (1 - z) / self._left(z)

    def score_from_output(self, s: Tensor, z: Tensor, t: Tensor) -> Tensor:
        return s[..., :-1] * (self._left(z) / (z * (1 - z))).abs().sqrt() + self.stationary_score(z, t)

    def stationary_score(self, z: Tensor, t: Tensor) -> Tensor:
        return (self.alpha - 1) / z - (self._rest(z) - 1) / (1 - z)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return self._moved(self.encode(x0.double()), self._tau(t.double()), noise, x0)

    def transition(self, z: Tensor, s: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return self._moved(z.double(), self._tau(t) - self._tau(s), noise, z)

    def reverse_transition(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """The stationary process is reversible: its transition is the same in both directions of time."""
        return self.transition(z, s, t, noise)

    def _moved(self, sticks: Tensor, tau: Tensor, noise: Noise, like: Tensor) -> Tensor:
        tau = tau.to(sticks)
        left = draw_lines(torch.where(tau > 0, tau, 1.0), self.alpha * (sticks.shape[-1] + 1), sticks[..., :1], noise)
        counts = []
        for stick in sticks.split(1, -1):
            counts.append(noise.draw(torch.binomial, left, stick))
            left = left - counts[-1]
        return torch.where(tau > 0, self._dirichlet(torch.cat([*counts, left], -1), noise, like), sticks.to(like))

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self._dirichlet(like.new_zeros(tuple(shape), dtype=torch.float64), noise, like)

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        x, start, tau = self._parts(z, x0, t)
        return self._log_prob(log_density(x, start, self.alpha, tau), z)

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        x, start, tau = self._parts(z, x0, t)
        return self._score(descendants(x, start, self.alpha, tau), z, t)

    def log_prob_and_score(self, z: Tensor, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x, start, tau = self._parts(z, x0, t)
        density, n = density_and_descendants(x, start, self.alpha, tau)
        return self._log_prob(density, z), self._score(n, z, t)

    def _log_prob(self, density: Tensor, z: Tensor) -> Tensor:
        # dx_i = R_i dv_i + …, a triangular matrix
        return (density + self._left(z.double()).log().sum(-1)).unsqueeze(-1).to(z)

    def _score(self, n: Tensor, z: Tensor, t: Tensor) -> Tensor:
        after = n.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        return (self.stationary_score(z.double(), t) + n[..., :-1] / z.double() - after / (1 - z.double())).to(z)

    def _parts(self, z: Tensor, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, start = torch.broadcast_tensors(self.decode(z.double()), x0.double())
        return x, start, self._tau(t).to(x).expand_as(x[..., :1])[..., 0]

    def _dirichlet(self, counts: Tensor, noise: Noise, like: Tensor) -> Tensor:
        """The sticks of a sample of `Dirichlet(α + counts)`."""
        return inside(self.encode(noise.gamma(self.alpha + counts)), like)

    def _left(self, z: Tensor, all_of_them: bool = False) -> Tensor:
        """`R_i` for `i < K`, or `i ≤ K`."""
        return torch.nn.functional.pad((1 - (z if all_of_them else z[..., :-1])).cumprod(-1), (1, 0), value=1.0)

    def _rest(self, z: Tensor) -> Tensor:
        """`b_i`."""
        return self.alpha * torch.arange(z.shape[-1], 0, -1, device=z.device).to(z)

    @property
    def _s(self) -> float:
        return 1.0 if self.speed is None else self.speed

    def _tau(self, t: Tensor) -> Tensor:
        return self.clock(t, self._s)

    def _rate(self, t: Tensor) -> Tensor:
        return self.clock_speed(t, self._s)
