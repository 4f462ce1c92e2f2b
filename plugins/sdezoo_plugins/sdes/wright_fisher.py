"""The Wright–Fisher diffusion on the simplex: shares of `K` parts, `dX = (s/2) α (1 − K X) dβ + G dW_β`, `G Gᵀ = s (diag X − X Xᵀ)`.

Ethier & Kurtz, Markov Processes (1986), section 10.1, with mutation to every part at the rate `α`; the stationary law is Dirichlet's with
all parameters `α`. `β(t) = c t + (1 − c) t²` is a clock that runs slowly near the data and reaches 1 at `t = 1`.

The state are the sticks `V_i = X_i/R_i`, `R_i = X_i + … + X_K`, for `i < K`. There `g` is diagonal, and every stick is a Jacobi diffusion
whose clock runs faster the less is left; by Itô, with `b_i = (K − i) α` and `R_i = Π_{j<i} (1 − V_j)`::

    dV_i     = (s/2) [α (1 − V_i) − b_i V_i]/R_i dβ + √(s V_i (1 − V_i)/R_i) dW_i
    ∇·(g gᵀ) = s (1 − 2 V_i)/R_i β'

Exact draws and density are those of `coalescent` and `simplex_transition` at `τ = s β`::

    X_t           = Dirichlet(α + n),     n ~ Multinomial(m, x_0),     m lines of descent
    ∂_{V_i} log p = (α − 1 + N_i)/V_i − (b_i − 1 + Σ_{j>i} N_j)/(1 − V_i),     N = E[n | x, x_0]

Below `τ = 0.005`, some 400 lines, `N` is the slope of the density's limit for small times: in units of the noise within 0.001 of the
score for up to 30 parts, and 0.002 for 60, in the root of the mean square.

Where `α ≥ 1` no part ever vanishes, and the process may start where some have: all parts but one may be 0 in the data. A stick that
overshoots is folded back, so that no state is outside or on a face, however few steps there are; draws that round to one are the number
next to it. A network sees `√(K x)`, a point of a sphere on which noise is the same everywhere. Its output, but for the last part, is
`√(V (1 − V)/R)` times what the score has beyond that of the prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

import torch
from annotated_types import Ge, Interval
from torch import Tensor
from torch.distributions import constraints

from sdezoo.errors import DataError, ParameterError
from sdezoo.parameters import Positive
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Shape
from sdezoo.process.sde import Stationary
from sdezoo_plugins.sdes.coalescent import EARLIEST, draw_lines, folded, inside
from sdezoo_plugins.sdes.simplex_transition import descendants, log_density

RETURN = 4.0


@dataclass(frozen=True)
class WrightFisher(Stationary, Conditional):
    """Wright–Fisher diffusion dX = (s/2)α(1 − KX)dt + √(s(diag X − XXᵀ)) dW on the simplex; its prior is a Dirichlet law."""

    alpha: Annotated[float, Ge(1)] = 2.0
    """Parameter of the Dirichlet law, the same for all parts."""
    speed: Positive | None = None
    """Noise `s`; None: `8/(Kα)`, so that the mean returns at the rate 4."""
    start: Annotated[float, Interval(gt=0, le=1)] = 0.05
    """Speed `c` of the clock at the data; 1: an even clock."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._s <= EARLIEST:
            raise ParameterError(
                f"{self.title()}: with speed={self._s:g} the process ends before the series of its density begins.",
                f"Give speed above {EARLIEST:g}.",
            )

    @property
    def support(self) -> constraints.Constraint:
        return constraints.simplex

    @property
    def reflecting_boundary(self) -> bool:
        return self.alpha == 1

    def adapted(self, x0: Tensor) -> Self:
        if x0.shape[-1] < 2:
            raise DataError(f"{self.title()}: rows of one part share nothing.", "Give rows of two parts or more.")
        return self if self.speed is not None else replace(self, speed=2 * RETURN / (self.alpha * x0.shape[-1]))

    def state_shape(self, shape: Sequence[int]) -> Shape:
        return (*shape[:-1], shape[-1] - 1)

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """The sticks; where nothing is left to break, a half."""
        left = x.flip(-1).cumsum(-1).flip(-1)[..., :-1]
        return torch.where(left > 0, x[..., :-1] / torch.where(left > 0, left, 1.0), 0.5)

    def decode(self, z: Tensor) -> Tensor:
        left = self._left(z, all_of_them=True)
        return torch.cat([z * left[..., :-1], left[..., -1:]], -1)

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        """`√(K x)`, a point of a sphere on which noise is the same everywhere."""
        x = self.decode(z)
        return (x.abs() * x.shape[-1]).sqrt()

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return self._rate(t).to(z) / 2 * (self.alpha * (1 - z) - self._rest(z) * z) / self._left(z)

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return (self._rate(t).to(z) * (z * (1 - z) / self._left(z)).abs()).sqrt()  # a stage of a solver may look beyond the wall

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        return self._rate(t).to(z) * (1 - 2 * z) / self._left(z)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """Every stick folded back at both ends; a step that would end on one itself is not taken."""
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

    def reverse_transition(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """The process at rest is the same in both directions of time."""
        return self._moved(z.double(), self._tau(t) - self._tau(s), noise, z)

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
        # dx_i = R_i dv_i + …, a triangular matrix
        return (log_density(x, start, self.alpha, tau) + self._left(z.double()).log().sum(-1)).unsqueeze(-1).to(z)

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        x, start, tau = self._parts(z, x0, t)
        n = descendants(x, start, self.alpha, tau)
        after = n.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        return (self.stationary_score(z.double(), t) + n[..., :-1] / z.double() - after / (1 - z.double())).to(z)

    def _parts(self, z: Tensor, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, start = torch.broadcast_tensors(self.decode(z.double()), x0.double())
        return x, start, self._tau(t).to(x).expand_as(x[..., :1])[..., 0]

    def _dirichlet(self, counts: Tensor, noise: Noise, like: Tensor) -> Tensor:
        """The sticks of a draw of `Dirichlet(α + counts)`."""
        return inside(self.encode(noise.gamma(self.alpha + counts)), like)

    def _left(self, z: Tensor, all_of_them: bool = False) -> Tensor:
        """`R_i` for `i < K`, or `i ≤ K`."""
        left = torch.cat([torch.ones_like(z[..., :1]), (1 - z).cumprod(-1)], -1)
        return left if all_of_them else left[..., :-1]

    def _rest(self, z: Tensor) -> Tensor:
        """`b_i`."""
        return self.alpha * torch.arange(z.shape[-1], 0, -1, device=z.device).to(z)

    @property
    def _s(self) -> float:
        return 1.0 if self.speed is None else self.speed

    def _tau(self, t: Tensor) -> Tensor:
        return self._s * t * (self.start + (1 - self.start) * t)

    def _rate(self, t: Tensor) -> Tensor:
        return self._s * (self.start + 2 * (1 - self.start) * t)
