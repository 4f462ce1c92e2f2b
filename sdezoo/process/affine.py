"""Affine processes: Gaussian in their own coordinates.

Data are `x = φ(z)`. The transition of the state `z` is::

    z_t = α(t) z_0 + m(t) + σ(t) ε,      ε ~ N(0, I),      α(0) = 1,  m(0) = 0,  σ(0) = 0

Everything follows from `φ`, `α`, `m` and the *variance* `v = σ²` (not `σ`: `√` has no derivative at `t = 0`):

- the SDE, `dz = (r z + c) dt + g dW` with `r = α'/α`, `c = m' − r m`, `g² = v' − 2 r v`;
- the conditional score `(α z_0 + m − z_t) / v` and density;
- the posterior `p(z_s | z_t, z_0)` for `s < t`, also Gaussian;
- the SDE of the data, by Itô's formula: `f_x = φ' f_z + ½ φ'' g²`, `g_x = φ' g` for element-wise `φ`;
- Tweedie: `E[z_0 | z_t] = (z_t − m + v ∇ log p) / α`.

If the columns of a table differ in spread, use a standardized `φ`, `x = φ(c + s z)`: then one noise level fits all columns.

Coefficients are computed in float64 and cast to the dtype of the state last.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import ExpTransform, Normal, Transform
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import identity_transform

from sdezoo.errors import CompositionError, DataError, SupportError, unknown_prior
from sdezoo.process.columns import count_outside
from sdezoo.process.differentiation import AtTimes, Last, along
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Process, Shape
from sdezoo.process.sde import ForwardSDE
from sdezoo.process.standardized import Standardized, unstandardized, wide


class Coefficients(NamedTuple):
    """Coefficients of `z_t = alpha z_0 + shift + sqrt(variance) ε`; each broadcasts against the state."""

    alpha: Tensor
    """`α(t)`, the scale of the clean state."""
    shift: Tensor
    """`m(t)`."""
    variance: Tensor
    """`v(t) = σ²(t)`, the variance of the noise."""

    @property
    def sigma(self) -> Tensor:
        """Standard deviation of the noise."""
        return self.variance.sqrt()

    @property
    def ratio(self) -> Tensor:
        """Noise-to-signal ratio `σ/α`: the noise level in units of the clean coordinates."""
        return self.sigma / self.alpha


class AffineSDE(ForwardSDE, Conditional):
    """A process that is Gaussian in its coordinates. Abstract: `coefficients`."""

    in_words = "an affine SDE (Gaussian in its coordinates)"

    @property
    def coordinates(self) -> Transform:
        """`φ`, the map from state to data. Default: the identity."""
        return identity_transform

    @abstractmethod
    def coefficients(self, t: Tensor) -> Coefficients:
        """`α`, `m` and `v` at `t`.

        Args:
            t: time, float64, of any shape.

        Returns:
            The coefficients, differentiable in `t` and shaped like `t`; `m` may also broadcast against the state.
        """

    @property
    def support(self) -> Constraint:
        """The codomain of `φ`."""
        codomain = self.coordinates.codomain
        assert isinstance(codomain, Constraint)
        return codomain

    @property
    def multiplicative(self) -> bool:
        """Whether `φ = exp`: the noise in `x` is proportional to `x`, and `∇_z log p = y ∘ ∇_y log p + 1` for `y = e^z`.

        `y` is `x`, or `(x/e^c)^{1/s}` for standardized coordinates.
        """
        return isinstance(unstandardized(self.coordinates), ExpTransform)

    @property
    def column_spread(self) -> Tensor:
        """`s` of standardized coordinates `φ(c + s z)`, float64 `(d,)` or `(1,)`; 1 for other coordinates."""
        phi = self.coordinates
        return phi.spread if isinstance(phi, Standardized) else torch.ones((), dtype=torch.float64)

    @property
    def default_output(self) -> str:
        """`edm`; `epsilon` if the process overrides `network_input`, which `edm` would not use."""
        return "edm" if type(self).network_input is Process.network_input else "epsilon"

    @property
    def element_wise(self) -> bool:
        """Whether `φ` is element-wise: each entry of the data depends on one entry of the state."""
        phi = self.coordinates
        return not (phi.domain.event_dim or phi.codomain.event_dim)

    def state_shape(self, shape: Sequence[int]) -> Shape:
        return tuple(self.coordinates.inverse_shape(torch.Size(shape)))

    def known_entries(self, known: Tensor) -> Tensor:
        """Which entries of a clean state follow from the `known` entries of its row: bool `(B, *event)` to `(B, *state)`.

        Default: the same entries if `φ` is element-wise, else all or none.
        """
        if self.element_wise:
            return known
        whole = known.flatten(1).all(1)
        return whole.reshape(-1, *(1,) * (known.ndim - 1)).expand(self.state_shape(known.shape))

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """`φ⁻¹(x)`; `noise` is unused."""
        return _tensor(self.coordinates.inv(x))

    def decode(self, z: Tensor) -> Tensor:
        """`φ(z)`.

        Raises:
            SupportError: if `z` is not in the domain of `φ`, if `φ` has no value in the support at a finite `z`, or if `φ(z)` overflows
                or saturates in the dtype of `z`. Saturated means that an element-wise bijective `φ` gives its value at `±∞`, which some
                torch transforms round to the nearest value inside the support.
        """
        phi, x = self.coordinates, self.decode_unchecked(z)
        outside = count_outside(self.support, x)
        if not outside and self.element_wise and unstandardized(phi).bijective:
            # A constant entry gives NaN at ±∞.
            outside = sum(int((x == _tensor(phi(torch.full_like(z[:1], end)))).sum()) for end in (-math.inf, math.inf))
        undefined = self._undefined(z, x)
        if undefined.any():
            example = _nearest_to_zero(z[undefined])
            raise SupportError(
                f"{self.title()}: the map from coordinates to data is not defined on the whole line, which the noise covers: it has no "
                f"value inside the support at {int(undefined.sum())} of {undefined.numel()} states, such as {example:.3g}.",
                "Use coordinates that map the whole line onto the support, such as ExpTransform for positive data.",
            )
        if outside:
            raise SupportError(
                f"{self.title()}: {outside} values are too far out for {z.dtype} once decoded (|z| up to {float(z.abs().max()):.3g}).",
                "Decode in float64, or lower the terminal noise.",
            )
        return x

    def decode_unchecked(self, z: Tensor) -> Tensor:
        return _tensor(self.coordinates(z))

    def log_abs_det(self, z: Tensor, x: Tensor) -> Tensor:
        constant = int((self.column_spread == 0).sum())
        if constant:
            raise CompositionError(
                f"{constant} of the columns are constant, so the data have no density.", "Remove the constant columns and train again."
            )
        if not self.coordinates.bijective:
            raise CompositionError(
                f"Several states of '{self.title()}' decode to the same data, so the flow does not give the density of the data.",
                "Choose a process with invertible coordinates.",
            )
        return self.coordinates.log_abs_det_jacobian(z, x).cpu().double().reshape(len(x), -1).sum(1)

    def _undefined(self, z: Tensor, x: Tensor) -> Tensor:
        """Mask of the entries of `z` (rows, if `φ` is not element-wise) that are finite and have no value of `φ` inside the support.

        A value that `φ` also takes at `±∞` is overflow or saturation, and not counted.
        """
        phi = self.coordinates
        if not self.element_wise:
            return z.isfinite().flatten(1).all(1) & x.isnan().flatten(1).any(1)
        ends = [_tensor(phi(torch.full_like(z, end))) for end in (-math.inf, math.inf)]
        lost = ~self.support.check(x) & ~x.isinf() & (x != ends[0]) & (x != ends[1])
        return z.isfinite() & (lost | ~phi.domain.check(z))

    def exact(self, t: Tensor) -> Coefficients:
        """The coefficients at `t` in float64."""
        return self.coefficients(wide(t))

    def at(self, t: Tensor, z: Tensor) -> Coefficients:
        """The coefficients at `t`, computed in float64, with the dtype and device of `z`."""
        return Coefficients(*(_like(c, z) for c in self.exact(t)))

    def scale(self, t: Tensor) -> Tensor:
        # Add a trailing dimension to the times, here and below: a shift may differ from entry to entry.
        return self.exact(t[..., None]).sigma[..., 0]

    def noise_level(self, t: Tensor) -> Tensor:
        return self.exact(t[..., None]).ratio[..., 0]

    def noise_conditioning(self, t: Tensor) -> Tensor:
        """`¼ ln(σ/α)`, as in Karras et al., arXiv 2206.00364, table 1."""
        return self.noise_level(t).log() / 4

    def denoised(self, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """`(z_t − m + v ∇ log p) / α`, Tweedie's formula."""
        k = self.at(t, z)
        return (z - k.shift + k.variance * s) / k.alpha

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`r`, `c` and `g²` of `dz = (r z + c) dt + g dW` at `t`, in float64."""
        # Drift and diffusion of one step need the rates at the same time, and the derivative costs a millisecond.
        t = wide(t)
        return _RATES.get(self, t, lambda: self._rates(t))

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def path(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            k = self.coefficients(u)
            return k.alpha.log(), k.shift, k.variance

        (_, m, v), (r, dm, dv) = along(path, t)
        return r, dm - r * m, dv - 2 * r * v

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        r, c, _ = (_like(rate, z) for rate in self.rates(t))
        return r * z + c

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return _like(self.rates(t)[2].sqrt(), z)

    def reverse_drift(self, z: Tensor, t: Tensor, s: Tensor, half: float = 1.0) -> Tensor:
        r, c, squared = (_like(rate, z) for rate in self.rates(t))
        return r * z + c - half * squared * s

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        """Zero: an affine process has additive noise in its coordinates."""
        return torch.zeros_like(z)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        z0, k = self.encode(x0), self.at(t, x0)
        return k.alpha * z0 + k.shift + k.sigma * noise.normal(z0)

    def transition(self, z: Tensor, s: Tensor, t: Tensor, noise: Noise) -> Tensor:
        p, q = self.exact(s), self.exact(t)
        alpha = q.alpha / p.alpha
        k = Coefficients(alpha, q.shift - alpha * p.shift, q.variance - alpha**2 * p.variance)
        return (k.alpha * z + k.shift + k.sigma * noise.normal(z)).to(z)

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`log N(z; α z_0 + m, v)` of each entry, shaped like `z`."""
        k = self.at(t, z)
        return Normal(k.alpha * self.encode(x0) + k.shift, k.sigma.to(z), validate_args=False).log_prob(z)

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`(α z_0 + m − z) / v`."""
        k = self.at(t, z)
        return (k.alpha * self.encode(x0) + k.shift - z) / k.variance

    def posterior(self, z: Tensor, z0: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of `p(z_s | z_t = z, z_0)` for `s < t` (Ho et al., arXiv 2006.11239, eq. 7, for any `α` and `σ`).

        Args:
            z: state at `t`, `(B, *state)`.
            z0: clean state, shaped like `z`.
            t: the later time, 0-dim or `(B, 1, …, 1)`.
            s: the earlier time, shaped like `t`.
        """
        p, q = self.at(t, z), self.at(s, z)
        gain = p.alpha / q.alpha * q.variance / p.variance
        mean = q.alpha * z0 + q.shift + gain * (z - p.alpha * z0 - p.shift)
        return mean, q.variance * (1 - gain * p.alpha / q.alpha)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Sample `N(m(1), v(1))`, the distribution of `z_1` for data at the origin of the coordinates."""
        k = self.at(torch.tensor(self.t_span[1], dtype=torch.float64), like)
        return k.shift + k.sigma * noise.normal(like, self.state_shape(shape))

    def prior_log_prob(self, z: Tensor) -> Tensor:
        if type(self).prior is not AffineSDE.prior:
            raise unknown_prior(self.title())
        k = self.at(torch.tensor(self.t_span[1], dtype=torch.float64), z)
        return Normal(k.shift.to(z), k.sigma.to(z), validate_args=False).log_prob(z).cpu().double().reshape(len(z), -1).sum(1)

    def ambient(self) -> Ambient:
        """The same process as an Itô SDE of the data `x`.

        Raises:
            CompositionError: if `φ` is not element-wise: one Brownian motion then drives several entries of the data.
        """
        if not self.element_wise:
            raise CompositionError(
                f"'{self.title()}' has no equation in the data with one Brownian motion for each entry.",
                "Choose a sampler that works on the state.",
            )
        return Ambient(self)


_RATES: AtTimes[tuple[Tensor, Tensor, Tensor]] = AtTimes()
_PLACES: Last[tuple[Tensor, Tensor, Tensor]] = Last()


@dataclass(frozen=True)
class Ambient(ForwardSDE):
    """An affine process as an SDE of the data: `f_x = φ' f_z + ½ φ'' g_z²`, `g_x = φ' g_z` at `z = φ⁻¹(x)` (Itô).

    For geometric Brownian motion these are `μ x` and `σ x`. A discretization of it may leave the support.
    """

    base: AffineSDE
    """The process on the state."""

    @property
    def support(self) -> Constraint:
        return self.base.support

    @property
    def t_span(self) -> tuple[float, float]:
        return self.base.t_span

    def noise_level(self, t: Tensor) -> Tensor:
        """That of the state, by which time grids are spaced."""
        return self.base.noise_level(t)

    def decode_unchecked(self, z: Tensor) -> Tensor:
        return z

    def place(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`φ⁻¹(x)`, and `φ'` and `φ''` there, shaped like `x`. Drift, diffusion and score of one step need them at the same place."""

        def found() -> tuple[Tensor, Tensor, Tensor]:
            state = self.base.encode(z)
            return state, *slopes(self.base.coordinates, state)

        return _PLACES.get(self.base, z, found)

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        state, first, second = self.place(z)
        return first * self.base.drift(state, t) + 0.5 * second * self.base.diffusion(state, t) ** 2

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        state, first, _ = self.place(z)
        return first * self.base.diffusion(state, t)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return self.base.decode(self.base.perturb(x0, t, noise))

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.base.decode(self.base.prior(shape, noise, like))


def slopes(phi: Transform, z: Tensor) -> tuple[Tensor, Tensor]:
    """`φ'(z)` and `φ''(z)` of an element-wise `φ`, shaped like `z`, by forward-mode differentiation."""

    def first(u: Tensor) -> Tensor:
        return along(lambda v: _tensor(phi(v)), u)[1]

    return along(first, z)


def leading_spread(z: Tensor) -> float:
    """Standard deviation of `z` `(N, …)` along its leading principal direction.

    Raises:
        DataError: if all rows are the same.
    """
    rows = z.flatten(1).double()
    spread = float(torch.linalg.matrix_norm(rows - rows.mean(0), ord=2)) / math.sqrt(max(len(rows) - 1, 1))
    if not spread > 0:
        raise DataError("All rows of the data are the same, so the noise cannot be scaled to their spread.", "Give data that differ.")
    return spread


def _like(c: Tensor, z: Tensor) -> Tensor:
    # 0-dim coefficients stay on the CPU in float64: they mix with any state without type promotion or a copy to its device.
    return c if c.ndim == 0 else c.to(z.device, z.dtype)


def _tensor(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def _nearest_to_zero(z: Tensor) -> float:
    values = z.flatten()
    return float(values[values.abs().argmin()])
