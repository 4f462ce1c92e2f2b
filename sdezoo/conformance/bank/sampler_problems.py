"""Test problems of samplers: models with an exact score.

There are three reference processes, on which the data are a mixture whose distribution is known at every time: `Additive`,
`Multiplicative` and `Curved`; `Hastening` takes the place of the second for samplers that refuse it. `Curved` is an SDE that is not affine
and whose noise depends on the state, so that a sampler that leaves out the divergence fails. A sampler of interpolants is tried on `Mixed`.
One that takes none of these is tried on data on a few points: under `Cauchy` if it takes self-similar noise, and under installed processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import smallest_event, typical
from sdezoo.conformance.bank.problems import Additive, Atoms, BridgeAtoms, Hastening, Mixture, Multiplicative, gaussian
from sdezoo.learning.model import Model
from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE
from sdezoo.process.bridge import Bridge
from sdezoo.process.interpolant import Interpolant, Mix, SelfSimilar
from sdezoo.process.noise import Noise
from sdezoo.process.process import Shape, Supervised
from sdezoo.process.sde import ForwardSDE, MatrixSDE
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SDES

COARSE = 0.05
"""First time of `t_span` when orders are measured: so far from 0 that a few dozen steps of any spacing are small."""

FINE = 1e-4
"""First time of `t_span` otherwise."""

WIDE = torch.empty((), dtype=torch.float64)
"""Passed as `like` to request float64."""

_INSTALLED = 2


@dataclass(frozen=True)
class _Bent(ForwardSDE):
    """Brownian motion `σ W` in other coordinates than those of the state."""

    sigma: Positive = 0.8
    """Volatility `σ`."""
    lo: Positive = FINE
    """First time of `t_span`."""

    @property
    def t_span(self) -> tuple[float, float]:
        return self.lo, 1.0

    @property
    def flat(self) -> AffineSDE:
        """The affine process whose coordinates obey the same equation as the straight ones: `α = 1`, `m = 0`, `v = σ² t`."""
        return Multiplicative(self.sigma, self.sigma**2 / 2, self.lo)

    def scale(self, t: Tensor) -> Tensor:
        return self.sigma * t.sqrt()


@dataclass(frozen=True)
class Curved(_Bent):
    """`dX = ½σ²X dt + σ√(1 + X²) dW` on the real line: Brownian motion in `asinh X`."""

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return self.sigma**2 / 2 * z

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return self.sigma * (1 + z**2).sqrt()

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return (x0.asinh() + self.scale(t).to(x0) * noise.normal(x0)).sinh()

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return (self.sigma * noise.normal(like, shape)).sinh()


class CurvedMixture(Model[Curved]):
    """The exact score of data whose `asinh` is a mixture: `(s − x/√(1 + x²)) / √(1 + x²)` with the mixture's score `s`.

    Args:
        sde: The process.
        law: The mixture, under the process `sde.flat`.
    """

    def __init__(self, sde: Curved, law: Mixture) -> None:
        self.sde, self.law = sde, law

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        slope = (1 + z**2).sqrt()
        return (self.law.score(z.asinh(), t) - z / slope) / slope

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Exact samples of `p(z_1)`."""
        return self.law.prior(shape, noise, like).sinh()


@dataclass(frozen=True)
class Sheared(_Bent, MatrixSDE):
    """`dX = (0, ½σ²) dt + σ J(X) dW`, `J` the identity with `X_0` below its first entry: Brownian motion in `X_i − ½X_0²`, `i > 0`."""

    sigma: Positive = 1.0
    """Volatility `σ`."""

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return self.sigma**2 / 2 * _below(torch.ones_like(z[..., :1]), z)

    def diffuse(self, z: Tensor, t: Tensor, dw: Tensor) -> Tensor:
        return self.sigma * (dw + _below(z[..., :1] * dw[..., :1], z))

    def noise_shape(self, shape: Sequence[int]) -> Shape:
        return tuple(shape)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return sheared(sheared(x0, -1) + self.scale(t).to(x0) * noise.normal(x0))

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return sheared(self.sigma * noise.normal(like, shape))


def _below(first: Tensor, like: Tensor) -> Tensor:
    """0 in the first entry, and `first` in the others."""
    return torch.cat([torch.zeros_like(first), first.expand_as(like[..., 1:])], -1)


def sheared(y: Tensor, sign: int = 1) -> Tensor:
    """`y_i ± ½ y_0²` for `i > 0`, shaped like `y`."""
    return y + sign * _below(y[..., :1] ** 2 / 2, y)


class ShearedMixture(Model[Sheared]):
    """The exact score of data whose flat coordinates are a mixture: `(s_0 − x_0 Σ s_i, s_i)` with the mixture's score `s`.

    Args:
        sde: The process.
        law: The mixture, under the process `sde.flat`.
    """

    def __init__(self, sde: Sheared, law: Mixture) -> None:
        self.sde, self.law = sde, law

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        s = self.law.score(sheared(z, -1), t)
        return torch.cat([s[..., :1] - z[..., :1] * s[..., 1:].sum(-1, keepdim=True), s[..., 1:]], -1)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Exact samples of `p(z_1)`."""
        return sheared(self.law.prior(shape, noise, like))


@dataclass(frozen=True)
class Mixed(Interpolant):
    """`Additive` as a mixture of data and normal noise, without drift and diffusion: its network learns a denoiser."""

    sigma: Positive = 2.0
    """Volatility `σ`."""
    lo: Positive = FINE
    """First time of `t_span`."""

    @property
    def t_span(self) -> tuple[float, float]:
        return self.lo, 1.0

    @property
    def flat(self) -> Additive:
        """The process with the same transition."""
        return Additive(self.sigma, self.lo)

    def mix(self, t: Tensor) -> Mix:
        k = self.flat.exact(t)
        return Mix(k.alpha, k.sigma)

    def base(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return noise.normal(like, shape)


class MixedMixture(Model[Mixed]):
    """The exact denoiser of a mixture.

    Args:
        sde: The interpolant.
        law: The mixture, under the process `sde.flat`.
    """

    def __init__(self, sde: Mixed, law: Mixture) -> None:
        self.sde, self.law = sde, law

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        return self.law.score(z, t)

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:
        return self.law.denoise(z, t)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Exact samples of `p(z_1)`."""
        return self.law.prior(shape, noise, like)


@dataclass(frozen=True)
class Cauchy(SelfSimilar):
    """`z_t = e^{−t} z_0 + σ(t) e` with Cauchy noise, `σ = 1 − e^{−t}`: self-similar of index 1, far from normal."""

    lo: Positive = FINE
    """First time of `t_span`."""

    @property
    def t_span(self) -> tuple[float, float]:
        return self.lo, 2.0

    @property
    def index(self) -> float:
        return 1.0

    def mix(self, t: Tensor) -> Mix:
        return Mix(torch.exp(-t.double()), -torch.expm1(-t.double()))

    def base(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        one = noise.normal(like, (shape[0], *(1,) * (len(shape) - 1)))
        return noise.normal(like, shape) / one.abs()

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """Joint log-density of all entries, `(B, 1, …, 1)`: they share a scale."""
        k, d = self.at(t, z), z[0].numel()
        away = (((z - k.alpha * x0) / k.sigma) ** 2).sum(list(range(1, z.ndim)), keepdim=True)
        constant = math.lgamma((d + 1) / 2) - (d + 1) / 2 * math.log(math.pi)
        return constant - d * k.sigma.log() - (d + 1) / 2 * away.log1p()


@dataclass(frozen=True, eq=False)
class ReferenceProblem:
    """A reference process and a distribution of the data."""

    model: Model[Any]
    """The exact model to sample from."""
    law: Mixture
    """Distribution of the coordinates at every time; counts the evaluations of the score."""
    data: Callable[[Tensor], Tensor]
    """Maps coordinates to data."""
    coordinates: Callable[[Tensor], Tensor]
    """Maps data to coordinates."""

    @property
    def title(self) -> str:
        """Name for messages."""
        return self.model.sde.spec

    def moments(self, t: float) -> tuple[Tensor, Tensor]:
        """Mean and variance of each component at `t`, `(K, d)`."""
        return self.law.components(WIDE, torch.tensor(t, dtype=torch.float64))

    def draw(self, count: int, t: float, seed: int) -> Tensor:
        """Sample the coordinates at one time, float64 `(count, d)`.

        Args:
            count: Number of samples.
            t: The time.
            seed: Of the samples.
        """
        alpha, shift, variance = self.law.sde.exact(torch.tensor(t, dtype=torch.float64))
        generator = torch.Generator().manual_seed(seed)
        clean = self.law.clean(count, seed=int(torch.randint(2**40, (), generator=generator)))
        return alpha * clean + shift + variance.sqrt() * torch.randn(clean.shape, generator=generator, dtype=torch.float64)


def reference_problems(
    sampler: Sampler, law: Callable[[AffineSDE], Mixture], lo: float = FINE, sigma: float | None = None
) -> list[ReferenceProblem]:
    """The reference processes that a sampler takes.

    Args:
        sampler: The sampler.
        law: Takes an affine process; returns the distribution of the data in its coordinates.
        lo: First time of `t_span`.
        sigma: Volatility; None: the default of each process. If given, `Multiplicative` has no drift in its coordinates,
            so that these stay within the range of float32.
    """
    curved = Curved(min(sigma or 0.8, 3.0), lo)  # its state is x = sinh z, whose square must stay within the range of float32
    additive = Additive(sigma or 2.0, lo)
    multiplicative = Multiplicative(lo=lo) if sigma is None else Multiplicative(sigma, sigma**2 / 2, lo)
    found = []
    if sampler.refuses(additive) is None:
        mixture = law(additive)
        found.append(ReferenceProblem(mixture, mixture, torch.clone, torch.clone))
    if found and sampler.refuses(multiplicative):  # it needs more, such as a stationary distribution
        mixture = law(Hastening(sigma or 2.0, lo))
        found.append(ReferenceProblem(mixture, mixture, torch.clone, torch.clone))
    if sampler.refuses(multiplicative) is None:
        mixture = law(multiplicative)
        found.append(ReferenceProblem(mixture, mixture, torch.exp, torch.log))
    if sampler.refuses(curved) is None:
        mixture = law(curved.flat)
        found.append(ReferenceProblem(CurvedMixture(curved, mixture), mixture, torch.sinh, torch.asinh))
    if not found and sampler.refuses(mixed := Mixed(sigma or 2.0, lo)) is None:
        mixture = law(mixed.flat)
        found.append(ReferenceProblem(MixedMixture(mixed, mixture), mixture, torch.clone, torch.clone))
    return found


class Problem(NamedTuple):
    """A model that a sampler takes."""

    model: Model[Any]
    """The exact model to sample from."""
    event: tuple[int, ...]
    """Shape of one sample."""
    counter: Mixture | Atoms | BridgeAtoms
    """Counts the evaluations of the score."""


def problems(sampler: Sampler, law: Callable[[AffineSDE], Mixture]) -> list[Problem]:
    """The reference problems that a sampler takes; if it takes none, data on a few points under installed processes.

    Args:
        sampler: The sampler.
        law: Takes an affine process; returns the distribution of the data in its coordinates.
    """
    found = [Problem(problem.model, (problem.law.means.shape[1],), problem.law) for problem in reference_problems(sampler, law)]
    return found or [Problem(atoms, tuple(atoms.points.shape[1:]), atoms) for atoms in atoms_of(sampler)]


def no_problem(sampler: Sampler) -> str | None:
    """Why there is no problem to try `sampler` on; None if there is one."""
    if problems(sampler, gaussian):
        return None
    return "It takes no reference process, and no installed process that says what its network learns."


def enough(sampler: Sampler, steps: int) -> int:
    """A number of steps with which a sampler stays in the support.

    Args:
        sampler: The sampler.
        steps: Number of steps. It is raised to at least 64 evaluations' worth if the sampler may leave the support.
    """
    return steps if sampler.preserves_support else max(steps, 64 * 64 // max(sampler.evaluations(64), 64))


def atoms_of(sampler: Sampler, event: tuple[int, ...] | None = None) -> list[Atoms | BridgeAtoms]:
    """Data on a few points: three if the process knows its transition density, else one; for a bridge three, and two at its other end.

    Args:
        sampler: The sampler.
        event: Event shape of the data under the affine reference processes; None: use `Cauchy` and the first installed processes instead.
    """
    candidates = [Additive(), Multiplicative()] if event else [Cauchy(), *(sde for _, sde in defaults(SDES))]
    found: list[Atoms | BridgeAtoms] = []
    for sde in candidates:
        if isinstance(sde, Supervised) and sampler.refuses(sde) is None:
            shape = event or smallest_event(sde)
            rows = 3 if sde.knows_density else 1
            found.append(Atoms(sde, typical(sde, _spaced(rows, shape))))
    for _, bridge in defaults(SDES):
        if isinstance(bridge, Bridge) and sampler.refuses(bridge) is None:
            shape = event or smallest_event(bridge)
            found.append(BridgeAtoms(bridge, *(typical(bridge, normals) for normals in (_spaced(3, shape), 0.5 - _spaced(2, shape)))))
    return found[:_INSTALLED]


def _spaced(rows: int, shape: Shape) -> Tensor:
    return torch.linspace(-0.8, 1.1, rows * int(torch.Size(shape).numel()), dtype=torch.float64).reshape(rows, *shape)


def drive(sampler: Sampler, view: Model[Any], z: Tensor, times: Tensor, noise: Noise) -> Tensor:
    """Run the loop of `Sampler.sample` from any state, over any times and with any noise.

    Args:
        sampler: The sampler.
        view: The model that it steps on, `sampler.view(model)`.
        z: State at the first time, `(B, *state)`.
        times: Decreasing times, float64 `(steps + 1,)`.
        noise: Source of the random numbers.

    Returns:
        The state at the last time.
    """
    memory = None
    with torch.no_grad():
        for t, s in pairwise(times.unbind()):
            z, memory = sampler.step(view, z, t, s, noise, memory)
    return z
