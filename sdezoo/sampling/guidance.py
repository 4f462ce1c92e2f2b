"""Guidance: models that steer another model towards a class or an observation, and are models themselves.

They act on the score in coordinates, so that every sampler takes them, they wrap one another, and what keeps a support
keeps it under guidance.

`Guided` is classifier-free guidance (Ho & Salimans, arXiv 2207.12598, eq. 6, with `w` their `1 + w`)::

    s = s(z) + w [s(z | c) − s(z)]

`Inpainting` and `LinearInverse` sample the posterior given `y = h(z_0) + σ_y ε`. With `D = E[z_0 | z_t]` the law of `z_0`
given `z_t` is taken to be normal, and `h` is linearized at `D`, `H = h'(D)`::

    ∇_z log p(y | z_t) = (∂D)ᵀ Hᵀ (H C Hᵀ + σ_y² I)⁻¹ (y − h(D)),      s = s(z) + ∇_z log p(y | z_t)

The methods of the literature differ in the covariance `C` of `z_0` given `z_t`; with `ρ = σ/α`:

=========== ========================== ==================================================================================
`tweedie`   `C = σ²/α · ∂D`            Tweedie's second moment (Boys et al., arXiv 2310.06721; Rozet et al., arXiv
                                       2405.13712). Exact for normal coordinates and `h` linear in them.
`isotropic` `C = ρ²τ²/(ρ² + τ²) I`     ΠGDM (Song et al., ICLR 2023), with `τ` the deviation of the coordinates. Exact if
                                       these are independent too, and all as wide as `τ`.
`zero`      `C = 0`                    DPS (Chung et al., arXiv 2209.14687, eq. 16). Exact nowhere; `σ_y > 0` is needed.
=========== ========================== ==================================================================================

The linear system is solved by conjugate gradients, each row by itself, with products alone: of `h` by automatic
differentiation, of `∂D` by a backward pass of the network. `∂D` is symmetric for a true score, and taken to be.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.learning.model import Model
from sdezoo.learning.output import Call
from sdezoo.parameters import Count, Plugin, Positive
from sdezoo.process.affine import AffineSDE
from sdezoo.process.differentiation import along
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import P, as_affine

Operator = Callable[[Tensor], Tensor]
"""A linear map of data `(B, *event)` to measurements `(B, *measurement)`, by differentiable torch operations."""


@dataclass(frozen=True)
class Covariance(Plugin):
    """`C`, the covariance of `z_0` given `z_t`, and how long its linear system is worked on."""

    kind: Literal["tweedie", "isotropic", "zero"] = "tweedie"
    """See `sdezoo.sampling.guidance`."""
    spread: Positive = 1.0
    """`τ` of `isotropic`: the standard deviation of the data in coordinates."""
    iterations: Count = 8
    """Conjugate gradients at most; as many as measurements are exact. For `tweedie` each costs a backward pass of the network."""


_TWEEDIE = Covariance()


class Guided(Model[P]):
    """Classifier-free guidance: `s + w (s_c − s)`.

    Args:
        model: one that was trained with labels and without. condition: labels `c`, `(B,)`. scale: the guidance scale `w`, any
        number: 0 is the model without labels, 1 the model given them, at half the cost of any other.

    Raises:
        CompositionError: for a model that is unconditional.
    """

    def __init__(self, model: Model[P], condition: Tensor, scale: float) -> None:
        self.model, self.scale, self.sde = model, scale, model.sde
        self.conditional = model.condition_on(condition)

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        return self._between(lambda model: model.score(z, t))

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._between(lambda model: model.denoise(z, t))

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.conditional.prior(shape, noise, like)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        return self.conditional.prior_log_prob(z)

    def condition_on(self, condition: Tensor) -> Model[P]:
        return Guided(self.model, condition, self.scale)

    def intercept_network(self, wrap: Callable[[Call], Call]) -> Model[P]:
        through = copy(self)
        through.model, through.conditional = self.model.intercept_network(wrap), self.conditional.intercept_network(wrap)
        return through

    @property
    def version(self) -> Hashable:
        return self.scale, self.model.version, self.conditional.version

    def _between(self, view: Callable[[Model], Tensor]) -> Tensor:
        # Tweedie's formula is affine in the score, and so the denoiser is guided by the same rule.
        if self.scale in (0, 1):
            return view(self.conditional if self.scale else self.model)
        free = view(self.model)
        return free + self.scale * (view(self.conditional) - free)


class Observed(Model[AffineSDE]):
    """The posterior given `observed = measure(z_0) + noise_sd ε`. Abstract: `measure`, `condition_on`.

    Args:
        model: the score of the law of the data, of an affine process. observed: `(B, *measurement)`, or a part of it that
        broadcasts. noise_sd: `σ_y`, in the units of `observed`. covariance: what is taken for `C`.

    Raises:
        CompositionError: for a process that is not affine.
        ParameterError: for a negative `noise_sd`, or none with `Covariance("zero")`.
    """

    def __init__(self, model: Model[AffineSDE], observed: Tensor, noise_sd: float, covariance: Covariance = _TWEEDIE) -> None:
        _affine(model.sde)
        if not noise_sd >= 0 or (covariance.kind == "zero" and not noise_sd):
            raise ParameterError(
                f"noise_sd={noise_sd:g} does not go with the covariance '{covariance.kind}'.",
                "Give it above 0 for 'zero', and else at least 0.",
            )
        self.model, self.sde = model, model.sde
        self.observed, self.noise_sd, self.covariance = observed, noise_sd, covariance
        self.noise_variance = torch.tensor(noise_sd, dtype=torch.float64) ** 2
        """Of the measurements, float64, 0-dim; or one for each entry of them."""

    @abstractmethod
    def measure(self, z0: Tensor) -> Tensor:
        """`h`: from clean coordinates to measurements, differentiable, and row by row."""

    @abstractmethod
    def condition_on(self, condition: Tensor) -> Model[AffineSDE]:
        """The same observation of the model of the law given `condition`."""

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        denoised, pull = self._observe(z, t)
        k = self.sde.at(t, z)
        return (k.alpha * denoised + k.shift - z) / k.variance + pull

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:
        denoised, pull = self._observe(z, t)
        k = self.sde.at(t, z)
        return denoised + k.variance / k.alpha * pull

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """A draw of (nearly) `p(z_1 | y)`: one of `p(z_1)`, moved.

        An observation moves the mean of `z_1` by as much as that of `α z_0`, and where the terminal noise is few times wider
        than the data, that is no small part of its deviation. With `z = mean + deviation`, the normal law `p(z_1 | y)` has its
        mean at `mean + v ∇ log p(y | z_1)`; half of the change that `v ∇ log p(y | ·)` makes to the deviation is right for its
        width. So it is taken halfway to the mean `z + v s`. What is left is of the order of `(α τ/σ)²` of the change.
        """
        z = self.model.prior(shape, noise, like)
        t = torch.tensor(self.sde.t_span[1], dtype=torch.float64)
        variance = self.sde.at(t, z).variance
        halfway = z + variance / 2 * self.model.score(z, t)
        return z + variance * self._observe(halfway, t)[1]

    def prior_log_prob(self, z: Tensor) -> Tensor:
        """Not known: the evidence of the observation is not.

        Raises:
            CompositionError: always.
        """
        raise CompositionError("A posterior's density is not normalized by guidance.", "Ask the unguided model for its log-likelihood.")

    def _observe(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """`D` and `∇_z log p(y | z_t)`."""
        # Tensors of inference mode cannot be differentiated; their copies outside of it can.
        with torch.inference_mode(False):
            z, t = (u.clone() if u.is_inference() else u for u in (z, t))
            denoised, back = _with_adjoint(lambda u: self.model.denoise(u, t), z)
            measured, adjoint = _with_adjoint(self.measure, denoised)
            residual = self.observed.to(z) - measured
            kind, k = self.covariance.kind, self.sde.at(t, z)
            noise, wide = k.ratio**2, self.covariance.spread**2
            noise_variance = self.noise_variance.to(residual)

            def product(v: Tensor) -> Tensor:
                """`(H C Hᵀ + diag(σ_y²)) v`."""
                w = adjoint(v)
                w = k.variance / k.alpha * back(w) if kind == "tweedie" else noise * wide / (noise + wide) * w
                return along(self.measure, denoised, w)[1] + noise_variance * v

            weights = residual / noise_variance if kind == "zero" else _solve(product, residual, self.covariance.iterations)
            return denoised, back(adjoint(weights))


class Inpainting(Observed):
    """Data of which some entries are known: posterior samples of the others.

    The entries are observed in coordinates, where the observation is linear: for `φ = exp` as `log x`, with `noise_sd` relative. Where
    columns have a spread of their own, `noise_sd` is that of `c + s z`.
    Without noise, the last step of an exponential sampler returns them; others come near.

    Args:
        known: data `(B, *event)`, or a part that broadcasts; where `mask` is False anything, NaN too. mask: True where known;
        broadcasts likewise. The rest as for `Observed`.

    Raises:
        CompositionError: for a process that is not affine, or whose `φ` is not element-wise.
        DataError: where a known entry is outside the support.
        ParameterError: as `Observed`.
    """

    def __init__(
        self, model: Model[AffineSDE], known: Tensor, mask: Tensor, noise_sd: float = 0.0, covariance: Covariance = _TWEEDIE
    ) -> None:
        _affine(model.sde)
        sde = model.sde
        if not sde.element_wise:
            raise CompositionError(
                f"The coordinates of '{sde.title()}' mix the entries of the data, so that none is known alone.",
                "Choose a process with coordinates for each entry, or LinearInverse.",
            )
        refused = int((mask & ~(sde.support.check(known) & known.isfinite())).sum())
        if refused:
            raise DataError(
                f"{refused} known entries are outside the support of '{sde.title()}'.", "Give known values inside, or mask them."
            )
        self.known, self.mask = known, mask
        observed = torch.where(mask, sde.encode(known), torch.zeros_like(known))
        super().__init__(model, observed, noise_sd, covariance)
        spread = sde.column_spread
        self.noise_variance = noise_sd**2 / torch.where(spread > 0, spread, 1.0).to(observed) ** 2

    def measure(self, z0: Tensor) -> Tensor:
        return torch.where(self.mask.to(z0.device), z0, torch.zeros_like(z0))

    def condition_on(self, condition: Tensor) -> Model[AffineSDE]:
        return Inpainting(self.model.condition_on(condition), self.known, self.mask, self.noise_sd, self.covariance)


class LinearInverse(Observed):
    """Data seen through a linear map, `y = A x + σ_y ε`: posterior samples of the data.

    The map acts on the data `x = φ(z)`. Where `φ` is not the identity the measurement is not linear in coordinates, and what
    is sampled is an approximation, inside the support as always.

    Args:
        observed: `y`, `(B, *measurement)` or a part that broadcasts. operator: `A`, a matrix `(m, d)` for data flattened to
        `(B, d)`, or a callable; its adjoint is found by automatic differentiation. The rest as for `Observed`.

    Raises:
        CompositionError: for a process that is not affine.
        ParameterError: as `Observed`.
    """

    def __init__(
        self,
        model: Model[AffineSDE],
        observed: Tensor,
        operator: Tensor | Operator,
        noise_sd: float,
        covariance: Covariance = _TWEEDIE,
    ) -> None:
        super().__init__(model, observed, noise_sd, covariance)
        self.operator = operator

    def measure(self, z0: Tensor) -> Tensor:
        x = self.sde.coordinates(z0)
        assert isinstance(x, Tensor)
        return x.flatten(1) @ self.operator.to(x).T if isinstance(self.operator, Tensor) else self.operator(x)

    def condition_on(self, condition: Tensor) -> Model[AffineSDE]:
        return LinearInverse(self.model.condition_on(condition), self.observed, self.operator, self.noise_sd, self.covariance)


def _affine(sde: Process) -> None:
    as_affine(sde, "Guidance by an observation")


def _with_adjoint(fn: Callable[[Tensor], Tensor], point: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """`fn(point)`, and the map `v ↦ (∂fn)ᵀ v`."""
    value, pull, *_ = torch.func.vjp(fn, point)
    return value, lambda v: pull(v)[0]


def _solve(product: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """`S⁻¹ b` by conjugate gradients, each row of `b` for itself; a row stops where it is solved or `S` is not positive."""

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).flatten(1).sum(1).reshape(-1, *(1,) * (b.ndim - 1))

    x, residual, direction = torch.zeros_like(b), b, b
    square = dot(b, b)
    goal = square * (16 * torch.finfo(b.dtype).eps) ** 2
    running = square > 0
    for _ in range(iterations):
        image = product(direction)
        curvature = dot(direction, image)
        running = running & (square > goal) & (curvature > 0)
        if not running.any():
            break
        step = torch.where(running, square, 0) / torch.where(running, curvature, 1)
        x, residual = x + step * direction, residual - step * image
        following = dot(residual, residual)
        direction = residual + torch.where(running, following, 0) / torch.where(running, square, 1) * direction
        square = following
    return x
