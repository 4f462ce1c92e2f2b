"""Multiplicative noise that keeps the norm, by skew-symmetric matrices: `dX = −½ β' Σ_k A_kᵀ A_k X dt + √β' Σ_k A_k X dB_k`, `A_kᵀ = −A_k`.

After "Multiplicative Diffusion Models: Beyond Gaussian Latents" (2026, OpenReview F6w8LcJJFA); the equations here are derived, not
copied. By Itô's formula `d|X|² = 0`. The latent distribution is not Gaussian: it has the norms of the data, and a direction that is uniform
on the sphere. Heavy tails need not be learned, since no norm ever changes. `β(t) = t²`.

If no matrices are given, every plane rotates alike, and the direction is Brownian motion on the sphere. With `d` Brownian motions in place
of `d (d − 1)/2`, that is::

    dX = −½ (d − 1) σ² β' X dt + σ √β' |X| P dB,      P = 1 − X Xᵀ/|X|²
    D = G Gᵀ = σ² β' (|X|² − X Xᵀ),      ∇·D = −(d − 1) σ² β' X

With matrices, `D = β' Σ_k A_k X (A_k X)ᵀ` and `∇·D = β' Σ_k A_k² X`. In both cases the drift is `½ ∇·D`, and in the sense of Stratonovich
it is 0. The mean decays as `E X_t = e^{−λβ} x_0` in the slowest direction: `σ² = 2λ/(d − 1)`, and given matrices are scaled alike.

The angle from the start is sampled exactly. `(1 − cos)/2` is a Wright–Fisher diffusion, whose transition is a mixture of Beta distributions
(Mijatović, Mramor & Uribe Bravo, arXiv 2012.12018); for two columns the angle is normal. With matrices, paths are simulated. A step ends on
the sphere that it began on.

The score matters only along the sphere. The network sees the direction times `√d` and the standardized `log |X|`, and its output is
projected on the sphere's tangent. It is learned by sliced score matching in the geometry of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Self

import torch
from pydantic import BeforeValidator
from torch import Tensor
from torch.distributions import constraints

from sdezoo.errors import DataError, ParameterError
from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.differentiation import outside_transforms
from sdezoo.process.noise import Noise
from sdezoo.process.process import Shape
from sdezoo.process.sde import MatrixSDE
from sdezoo.zoo.spec import listed
from sdezoo_plugins.sdes.shared.coalescent import draw_lines

LEVELS = 257
_SKEW = 1e-9
_RANK = 1e-6


def _nested(value: object) -> object:
    """A list in parentheses within a list, from a spec string."""
    if isinstance(value, str) and value.startswith("("):
        return tuple(map(_nested, listed(value)))
    return tuple(map(_nested, value)) if isinstance(value, tuple | list) else value


Matrices = Annotated[tuple[tuple[tuple[float, ...], ...], ...], BeforeValidator(_nested)]


@dataclass(frozen=True)
class Rotation(MatrixSDE):
    """Skew-symmetric multiplicative noise, which keeps every row's norm: latents have the data's norms and a uniform direction."""

    papers: ClassVar[tuple[str, ...]] = ("mijatovic2020algorithm",)

    decay: Positive = 4.0
    """`λ`: the mean of the data decays by `e^{−λ}` over the whole time."""
    skew: Matrices | None = None
    """Skew-symmetric matrices `A_k`, a list of lists of rows: ((0,1),(-1,0)) is one; None: all planes alike."""
    radii: tuple[NonNegative, ...] | None = None
    """Quantiles of the norms, at the levels `1 − (1 − k/K)³` from 0 to 1, dense at large norms; None: set from the data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skew is not None:
            self._check(self.skew)

    def _check(self, skew: Sequence[Sequence[Sequence[float]]]) -> None:
        d = len(skew[0]) if skew else 0
        if d < 2 or any(len(a) != d or any(len(row) != d for row in a) for a in skew):
            raise ParameterError(f"{self.title()}: skew is not a list of square matrices of one size.", "Give rows of equal length.")
        a = torch.tensor(skew, dtype=torch.float64)
        for k, one in enumerate(a):
            if (one + one.T).abs().max() > _SKEW * max(1.0, float(one.abs().max())):
                i, j = divmod(int((one + one.T).abs().argmax()), d)
                raise ParameterError(
                    f"{self.title()}: matrix {k + 1} of skew is not skew-symmetric: its entries ({i + 1}, {j + 1}) and ({j + 1}, {i + 1}) "
                    f"are {float(one[i, j]):g} and {float(one[j, i]):g}.",
                    "Give matrices with A = −Aᵀ, so that they keep the norm.",
                )
        generic = torch.cos(torch.arange(1.0, d + 1, dtype=torch.float64))
        rank = int(torch.linalg.matrix_rank(a @ generic, rtol=_RANK))
        if rank < d - 1:
            raise ParameterError(
                f"{self.title()}: the matrices of skew move a row in {rank} of the {d - 1} directions of its sphere, so its direction does "
                "not become uniform.",
                f"Give at least {d - 1} independent matrices, or leave out skew.",
            )

    @property
    def row_shape(self) -> Shape | None:
        return None if self.skew is None else (len(self.skew[0]),)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.real_vector

    @property
    def tail(self) -> float:
        """0: the norms are those of the data, so no data have heavier tails."""
        return 0.0

    @property
    def prior_from_data(self) -> bool:
        return True

    def adapted(self, x0: Tensor) -> Self:
        if x0.shape[-1] < 2:
            raise DataError(
                f"{self.title()}: rows of one column have no direction.", "Give two columns or more, or choose another process."
            )
        if self.radii is not None:
            return self
        norms = x0.double().norm(dim=-1).flatten().sort().values
        place = _levels(LEVELS) * (len(norms) - 1)
        low = place.long()
        radii = torch.lerp(norms[low], norms[(low + 1).clamp_max(len(norms) - 1)], place - low)
        return replace(self, radii=tuple(float(f"{value:.7g}") for value in radii.tolist()))

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return self.divergence(z, t) / 2

    def diffuse(self, z: Tensor, t: Tensor, dw: Tensor) -> Tensor:
        speed = (2 * t).sqrt().to(z)
        if self.skew is not None:
            return speed * (self._turned(z) * dw.unsqueeze(-1)).sum(-2)
        r, u = _polar(z)
        return speed * self._sigma(z) * r * _tangent(u, dw)

    def noise_shape(self, shape: Sequence[int]) -> Shape:
        return tuple(shape) if self.skew is None else (*shape[:-1], len(self.skew))

    def ggt(self, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
        speed = (2 * t).to(z)
        if self.skew is not None:
            turned = self._turned(z)
            return speed * ((turned * s.unsqueeze(-2)).sum(-1, keepdim=True) * turned).sum(-2)
        r, u = _polar(z)
        return speed * self._sigma(z) ** 2 * r**2 * _tangent(u, s)

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        speed = (2 * t).to(z)
        if self.skew is None:
            return -speed * (z.shape[-1] - 1) * self._sigma(z) ** 2 * z
        a = self._matrices.to(z)
        return speed * (z @ (a @ a).sum(0).T)

    def stratonovich_correction(self, z: Tensor, t: Tensor) -> Tensor:
        """The whole drift."""
        return self.drift(z, t)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """Back to the norm at the start of the step."""
        return _polar(z)[0] * _polar(proposal)[1]

    @property
    def knows_transition(self) -> bool:
        return self.skew is None

    def transition(self, z: Tensor, s: Tensor, t: Tensor, noise: Noise) -> Tensor:
        if self.skew is not None:
            return self.forward_step(z, s, t - s, noise)
        return self._rotated(z, t.double() ** 2 - s.double() ** 2, noise)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return super().perturb(x0, t, noise) if self.skew is not None else self._rotated(x0, t.double() ** 2, noise)

    def _rotated(self, x: Tensor, clock: Tensor, noise: Noise) -> Tensor:
        """Brownian motion on the sphere for a time `σ² clock`."""
        r, u = _polar(x)
        a, tau = (x.shape[-1] - 1) / 2, clock.to(x.device) * self._sigma(x) ** 2
        if a == 0.5:
            angle = tau.sqrt() * noise.normal(r.double())
            cos, sin = angle.cos().to(x), angle.sin().to(x)
        else:
            lines = draw_lines(torch.where(tau > 0, tau, 1.0), 2 * a, r, noise)
            near, far = noise.gamma(torch.full_like(lines, a)), noise.gamma(a + lines)
            cos, sin = ((far - near) / (far + near)).to(x), (2 * (far * near).sqrt() / (far + near)).to(x)
        _, sideways = _polar(_tangent(u, noise.normal(x)))
        return torch.where(tau > 0, r * _polar(cos * u + sin * sideways)[1], x)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        _, u = _polar(noise.normal(like, shape))
        quantiles = torch.tensor(self.radii or (1.0,), dtype=torch.float64, device=like.device)
        place = (1 - (1 - noise.uniform(u[..., :1].double())) ** (1 / 3)) * (len(quantiles) - 1)
        low = place.long().clamp_max(max(len(quantiles) - 2, 0))
        high = (low + 1).clamp_max(len(quantiles) - 1)
        return (quantiles[low] + (place - low) * (quantiles[high] - quantiles[low])).to(u) * u

    def scale(self, t: Tensor) -> Tensor:
        """Noise in the direction times `√d`: `√(1 − e^{−2λβ})`."""
        return (-torch.expm1(-2 * self.decay * t**2)).sqrt()

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        """The direction times `√d`, and the standardized `log |X|`."""
        r, u = _polar(z)
        center, spread = self._log_moments
        size = (r.clamp_min(torch.finfo(z.dtype).tiny).log() - center) / spread
        return torch.cat([math.sqrt(z.shape[-1]) * u, size], -1)

    def score_from_output(self, s: Tensor, z: Tensor, t: Tensor) -> Tensor:
        r, u = _polar(z)
        return torch.where(r > 0, math.sqrt(z.shape[-1]) * _tangent(u, s[..., :-1]) / torch.where(r > 0, r, 1.0), 0.0)

    def _sigma(self, z: Tensor) -> float:
        return math.sqrt(2 * self.decay / max(z.shape[-1] - 1, 1))

    def _turned(self, z: Tensor) -> Tensor:
        """`A_k X`, `(B, …, K, d)`."""
        return torch.einsum("kij,...j->...ki", self._matrices.to(z), z)

    @cached_property
    @outside_transforms
    def _matrices(self) -> Tensor:
        a = torch.tensor(self.skew, dtype=torch.float64)
        slowest = float(torch.linalg.eigvalsh(-(a @ a).sum(0) / 2)[0])
        return a * math.sqrt(self.decay / slowest)

    @cached_property
    def _log_moments(self) -> tuple[float, float]:
        logs = torch.tensor(self.radii or (1.0,), dtype=torch.float64).clamp_min(torch.finfo(torch.float32).tiny).log()
        middle, mass = (logs[1:] + logs[:-1]) / 2, _levels(len(logs)).diff()
        if len(middle) == 0:
            return float(logs[0]), 1.0
        mean = (mass * middle).sum()
        spread = float((mass * (middle - mean) ** 2).sum().sqrt())
        return float(mean), spread if spread > 0 else 1.0


def _levels(count: int) -> Tensor:
    return 1 - (1 - torch.linspace(0, 1, count, dtype=torch.float64)) ** 3


def _polar(z: Tensor) -> tuple[Tensor, Tensor]:
    """The norm `(…, 1)` and the direction of rows; the direction of 0 is 0."""
    r = z.norm(dim=-1, keepdim=True)
    return r, z / torch.where(r > 0, r, 1.0)


def _tangent(u: Tensor, v: Tensor) -> Tensor:
    """`v` without its part along the unit vector `u`."""
    return v - u * (u * v).sum(-1, keepdim=True)
