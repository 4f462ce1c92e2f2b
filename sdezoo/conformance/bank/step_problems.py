"""Tiny processes that make a property of a sampler's steps visible: walls, refused steps, shared noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from sdezoo.conformance.bank.problems import Mixture
from sdezoo.conformance.bank.sampler_problems import FINE, ReferenceProblem, Sheared, ShearedMixture, sheared
from sdezoo.learning.model import Model
from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE
from sdezoo.process.bridge import Bridge
from sdezoo.process.noise import Noise
from sdezoo.process.sde import ForwardSDE
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class _Brownian(ForwardSDE):
    """`dX = σ dW`, in a set."""

    sigma: Positive = 1.5
    """Volatility."""

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(z, self.sigma)

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def scale(self, t: Tensor) -> Tensor:
        return self.sigma * t.sqrt()

    def inside(self, z: Tensor) -> Tensor:
        """Whether states lie in the set, `(B,)`."""
        return torch.ones(len(z), dtype=torch.bool)


@dataclass(frozen=True)
class Box(_Brownian):
    """Brownian motion on `[0, 1]`, reflected at both walls, with a rule that folds steps of any size."""

    @property
    def support(self) -> Constraint:
        return constraints.unit_interval

    @property
    def reflecting_boundary(self) -> bool:
        return True

    def inside(self, z: Tensor) -> Tensor:
        return ((z >= 0) & (z <= 1)).flatten(1).all(1)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        folded = proposal.remainder(2)
        return torch.minimum(folded, 2 - folded)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return noise.uniform(like, shape)


@dataclass(frozen=True)
class Stops(Box):
    """Brownian motion in the disc of radius ½ in the unit square; steps out of it are refused."""

    def inside(self, z: Tensor) -> Tensor:
        return ((z - 0.5) ** 2).flatten(1).sum(1) <= 0.25

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        return torch.where(self.inside(proposal).reshape(-1, *(1,) * (z.ndim - 1)), proposal, z)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return 0.5 + 0.7 * (noise.uniform(like, shape) - 0.5)


@dataclass(frozen=True)
class SharedNoise(_Brownian):
    """`dX = σ dW` with one Brownian motion for all entries."""

    sigma: Positive = 2.0
    """Volatility."""

    def noise_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (shape[0], *(1,) * (len(shape) - 1))

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.sigma * noise.normal(like, self.noise_shape(shape)) + torch.linspace(-1, 1, shape[-1]).to(like)


@dataclass(frozen=True)
class HalfStill(_Brownian):
    """`dX = σ dW` in the first half of the entries; the others have no noise, and stay."""

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return self.sigma * self.moves(z).to(z)

    def moves(self, z: Tensor) -> Tensor:
        """Which entries move, shaped like a row."""
        return torch.arange(z.shape[-1]) < z.shape[-1] // 2

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.sigma * noise.normal(like, shape)


class Guarded(Model[Any]):
    """A score that pulls unequally towards a point, 0.2 or one outside the set, and that refuses states outside the set.

    Args:
        sde: `Box`, `Stops`, `SharedNoise` or `HalfStill`.
        end: Where the score pulls to.
    """

    def __init__(self, sde: _Brownian, end: float = 0.2) -> None:
        self.sde, self._set, self._end = sde, sde, end

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        outside = int((~self._set.inside(z)).sum())
        assert not outside, f"the score is asked for at {outside} states outside of {self._set.spec}"
        return (self._end - z) / self._set.scale(t) ** 2 / z.shape[-1]

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self._set.prior(shape, noise, like)


def thirds(times: Tensor) -> Tensor:
    """A grid whose steps alternate in size, 1 to 3, from one of twice as many steps.

    Args:
        times: `(4 k + 1,)`.

    Returns:
        Every time but the third and fourth of each four, `(2 k + 1,)`.
    """
    return torch.stack([time for k, time in enumerate(times.unbind()) if k % 4 in {0, 1}])


@dataclass(frozen=True)
class ShearedInClosedForm(Sheared):
    """`Sheared` with its divergence in closed form, for samplers that ask for it at every step."""

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        return self.sigma**2 * torch.cat([torch.zeros_like(z[..., :1]), torch.ones_like(z[..., 1:])], -1)


def matrix_problem(sampler: Sampler, law: Callable[[AffineSDE], Mixture], lo: float = FINE) -> ReferenceProblem | None:
    """The reference process whose noise is a matrix, `Sheared`; None if the sampler does not take it.

    Args:
        sampler: The sampler.
        law: Takes an affine process; returns the distribution of the data in its coordinates.
        lo: First time of `t_span`.
    """
    sde = ShearedInClosedForm(lo=lo)
    if sampler.refuses(sde) is not None:
        return None
    mixture = law(sde.flat)
    return ReferenceProblem(ShearedMixture(sde, mixture), mixture, sheared, lambda x: sheared(x, -1))


class NormalEnds(Model[Bridge]):
    """The exact denoiser of a bridge between two independent normal distributions, `N(0.4, 0.5²)` at 0 and `N(−0.6, 0.9²)` at 1.

    `z_t` is normal, of mean `M = (1 − t) m_0 + t m_1` and variance `V = (1 − t)² v_0 + t² v_1 + ς² t (1 − t)`, and
    `E[z_0 | z_t = z] = m_0 + (1 − t) v_0 (z − M)/V`.

    Args:
        sde: The bridge, with two ends.
    """

    def __init__(self, sde: Bridge) -> None:
        self.sde = sde

    def moments(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """`M` and `V` at a time, shaped like `t`."""
        (m0, d0), (m1, d1) = (0.4, 0.5), (-0.6, 0.9)
        return (1 - t) * m0 + t * m1, (1 - t) ** 2 * d0**2 + t**2 * d1**2 + self.sde.rate**2 * t * (1 - t)

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        raise AssertionError("a bridge has no score")

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (m0, v0), (mean, variance) = self.moments(torch.zeros_like(t)), self.moments(t)
        return m0 + (1 - t) * v0 / variance * (z - mean)
