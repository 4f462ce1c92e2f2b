"""Guidance: models that steer another model towards a class or an observation, and are models themselves.

They act on the score in coordinates. Every sampler can use them, they can wrap one another, and a sampler that preserves the
support does so under guidance too.

`Guided` is classifier-free guidance (Ho & Salimans, arXiv 2207.12598, eq. 6, with `w` their `1 + w`)::

    s = s(z) + w [s(z | c) − s(z)]

`Inpainting` and `LinearInverse` sample the posterior given `y = h(z_0) + σ_y ε`. With `D = E[z_0 | z_t]`, the distribution of `z_0`
given `z_t` is approximated by a normal one, and `h` is linearized at `D`, `H = h'(D)`::

    ∇_z log p(y | z_t) = (∂D)ᵀ Hᵀ (H C Hᵀ + σ_y² I)⁻¹ (y − h(D)),      s = s(z) + ∇_z log p(y | z_t)

The methods of the literature differ in the covariance `C` of `z_0` given `z_t`; with `ρ = σ/α`:

=========== ========================== ==================================================================================
`tweedie`   `C = σ²/α · ∂D`            Tweedie's second moment (Boys et al., arXiv 2310.06721; Rozet et al., arXiv
                                       2405.13712). Exact for normal coordinates and `h` linear in them.
`isotropic` `C = ρ²τ²/(ρ² + τ²) I`     ΠGDM (Song et al., ICLR 2023), with `τ` the standard deviation of the coordinates.
                                       Exact if these are also independent, all with standard deviation `τ`.
`zero`      `C = 0`                    DPS (Chung et al., arXiv 2209.14687, eq. 16). Never exact; requires `σ_y > 0`.
=========== ========================== ==================================================================================

The linear system is solved by conjugate gradients, row by row, from matrix-vector products alone: those with `H` by automatic
differentiation, those with `∂D` by a backward pass of the network. `∂D` is symmetric for a true score, and assumed to be.
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
"""A linear map from data `(B, *event)` to measurements `(B, *measurement)`, made of differentiable torch operations."""


@dataclass(frozen=True)
class Covariance(Plugin):
    """The covariance `C` of `z_0` given `z_t`, and the number of iterations for its linear system."""

    kind: Literal["tweedie", "isotropic", "zero"] = "tweedie"
    """Choice of `C`, see `sdezoo.sampling.guidance`."""
    spread: Positive = 1.0
    """`τ` of `isotropic`: the standard deviation of the data in coordinates."""
    iterations: Count = 8
    """Maximum number of conjugate gradient steps; one per measurement is exact. For `tweedie` each costs a backward pass of the network."""


_TWEEDIE = Covariance()


class Guided(Model[P]):
    """Classifier-free guidance: `s + w (s_c − s)`.

    Args:
        model: a model trained both with and without labels.
        condition: labels `c`, `(B,)`.
        scale: guidance scale `w`, any number. 0 is the unconditional model and 1 the conditional one, each at half the cost of other
            scales.

    Raises:
        CompositionError: if the model is unconditional.
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
    """The posterior given `observed = measure(z_0) + noise_sd ε`; subclasses implement `measure` and `condition_on`.

    Args:
        model: score model of the data distribution, of an affine process.
        observed: measurements `y`, `(B, *measurement)`, or a shape that broadcasts to it.
        noise_sd: standard deviation `σ_y` of the measurement noise, in the units of `observed`.
        covariance: choice of `C`.

    Raises:
        CompositionError: if the process is not affine.
        ParameterError: if `noise_sd` is negative, or 0 with `Covariance("zero")`.
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
        """Variance of the measurement noise, 0-dim float64, or one value per entry."""

    @abstractmethod
    def measure(self, z0: Tensor) -> Tensor:
        """Map clean coordinates to measurements: `h`. Must be differentiable and act row by row.

        Args:
            z0: clean coordinates, `(B, *state)`.

        Returns:
            Measurements, `(B, *measurement)`.
        """

    @abstractmethod
    def condition_on(self, condition: Tensor) -> Model[AffineSDE]:
        """Return the same observation of the model given labels `condition`, `(B,)`."""

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        denoised, pull = self._observe(z, t)
        k = self.sde.at(t, z)
        return (k.alpha * denoised + k.shift - z) / k.variance + pull

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:
        denoised, pull = self._observe(z, t)
        k = self.sde.at(t, z)
        return denoised + k.variance / k.alpha * pull

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Draw (approximately) from `p(z_1 | y)`, by shifting a sample of `p(z_1)`.

        An observation moves the mean of `z_1` by as much as that of `α z_0`. If the terminal noise is only a few times wider than the
        data, that is no small part of its standard deviation. With `z = mean + deviation`, the normal distribution `p(z_1 | y)` has its
        mean at `mean + v ∇ log p(y | z_1)`. Half of the change that `v ∇ log p(y | ·)` makes to the deviation gives the right width, so
        the gradient is evaluated halfway to the mean `z + v s`. The remaining error is of the order of `(α τ/σ)²` of the change.
        """
        z = self.model.prior(shape, noise, like)
        t = torch.tensor(self.sde.t_span[1], dtype=torch.float64)
        variance = self.sde.at(t, z).variance
        halfway = z + variance / 2 * self.model.score(z, t)
        return z + variance * self._observe(halfway, t)[1]

    def prior_log_prob(self, z: Tensor) -> Tensor:
        """Unknown, since the evidence of the observation is unknown.

        Raises:
            CompositionError: always.
        """
        raise CompositionError("The density of a guided posterior is not normalized.", "Compute the log-likelihood of the unguided model.")

    def _observe(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """`D` and `∇_z log p(y | z_t)`."""
        # Inference tensors cannot be differentiated; clones made outside inference mode can.
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
    """Posterior samples of data of which some entries are known.

    Entries are observed in coordinates, where the observation is linear: as `log x` for `φ = exp`, so that `noise_sd` is relative. If
    columns have a spread of their own, `noise_sd` is that of `c + s z`. Without noise, the last step of an exponential sampler returns
    the known entries; other samplers come close.

    Args:
        model: score model of the data distribution, of an affine process.
        known: data, `(B, *event)`, or a shape that broadcasts to it; any value where `mask` is False, including NaN.
        mask: bool, True for known entries; broadcasts to `(B, *event)`.
        noise_sd: standard deviation of the measurement noise, at least 0.
        covariance: choice of `C`.

    Raises:
        CompositionError: if the process is not affine, or its `φ` is not element-wise.
        DataError: if a known entry is outside the support.
        ParameterError: if `noise_sd` is negative, or 0 with `Covariance("zero")`.
    """

    def __init__(
        self, model: Model[AffineSDE], known: Tensor, mask: Tensor, noise_sd: float = 0.0, covariance: Covariance = _TWEEDIE
    ) -> None:
        _affine(model.sde)
        sde = model.sde
        if not sde.element_wise:
            raise CompositionError(
                f"The coordinates of '{sde.title()}' mix the entries of the data, so none can be known by itself.",
                "Choose a process with element-wise coordinates, or LinearInverse.",
            )
        refused = int((mask & ~(sde.support.check(known) & known.isfinite())).sum())
        if refused:
            raise DataError(
                f"{refused} known entries are outside the support of '{sde.title()}'.",
                "Give values inside the support, or set the mask to False there.",
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
    """Posterior samples of data seen through a linear map, `y = A x + σ_y ε`.

    The map acts on the data `x = φ(z)`. If `φ` is not the identity, the measurement is not linear in coordinates, and the samples are
    approximate, though inside the support as always.

    Args:
        model: score model of the data distribution, of an affine process.
        observed: measurements `y`, `(B, *measurement)`, or a shape that broadcasts to it.
        operator: `A`, a matrix `(m, d)` for data flattened to `(B, d)`, or a callable; automatic differentiation gives its adjoint.
        noise_sd: standard deviation `σ_y` of the measurement noise, in the units of `observed`.
        covariance: choice of `C`.

    Raises:
        CompositionError: if the process is not affine.
        ParameterError: if `noise_sd` is negative, or 0 with `Covariance("zero")`.
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
    """Return `fn(point)`, and the map `v ↦ (∂fn)ᵀ v`."""
    value, pull, *_ = torch.func.vjp(fn, point)
    return value, lambda v: pull(v)[0]


def _solve(product: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """Return `S⁻¹ b` by conjugate gradients, each row of `b` by itself; a row stops if it is solved or `S` is not positive."""

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
