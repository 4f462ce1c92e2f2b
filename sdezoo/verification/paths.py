"""Reverse paths: a Brownian motion, the exact end of the reverse SDE along it, and the end that each method computes.

If the data are normal in the coordinates of an affine process, `z_0 ~ N(μ, d²)`, its reverse SDE is linear. With
`M = α μ + m`, `S = α² d² + v` and `λ = S'/S − α'/α` it is `d(z − M) = −λ (z − M) du + g dW` in `u = t_0 − t`, so that::

    z(t) = M(t) + S(t)/α(t) { α(t_0)/S(t_0) (z(t_0) − M(t_0)) + ∫ α/S g dW }

On an interval of length `h` with increment `W` and space-time area `H`, `∫ k dW = k_mid W − k'_mid h H + O(h^{5/2})`. So the
ends to which all methods must converge are known without discretizing an equation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.noise_doubles import BrownianPath, keyed
from sdezoo.conformance.bank.problems import Mixture
from sdezoo.conformance.bank.reference_laws import normal, points
from sdezoo.conformance.bank.sampler_problems import drive
from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE, slopes
from sdezoo.process.differentiation import along
from sdezoo.process.noise import Noise
from sdezoo.process.torchsde_bridge import Brownian, Method, PathBrownian, ReverseEquation, intervals, solve
from sdezoo.sampling.sampler import Sampler

NOISE = (0.8, 0.8 / math.sqrt(8))
"""The paths run between these noise levels `σ/α`: those of constant volatility 0.8 at `t = 1` and `t = 1/8`."""
SPREAD = 0.5 / 0.8
"""Standard deviation of the data in coordinates, in units of the larger noise level. Twice that is too heavy-tailed for `E |x_h − x|`."""
FINER = 8
"""If no exact end is known, the reference takes this many times more steps."""

BrownianFactory = Callable[[tuple[int, int], float], Brownian]
"""Takes the shape `(B, entries)` and the length of time; returns a Brownian motion."""


@dataclass(frozen=True)
class ReversePaths:
    """Reverse paths from `hi` to `hi − span`, under an exact score."""

    model: Model[Any]
    """The exact model; its process is reversed."""
    hi: float
    """Time at which the paths start."""
    span: float
    """Length of time that they cover."""
    start: Tensor
    """States at `hi`, float64 `(B, …)`."""
    brownian: Brownian
    """The Brownian motion that drives them."""
    increments: Tensor
    """`W` over the finest intervals, `(n, B, …)`."""
    end: Tensor
    """States at `hi − span`: exact for normal coordinates, else from Milstein's method on the finest intervals."""
    confined: Tensor
    """Whether the boundary rule acted along the path, bool `(B,)`."""

    def times(self, steps: int) -> Tensor:
        """The times of `steps` equal steps from `hi` to `hi − span`, float64 `(steps + 1,)`."""
        return torch.tensor([self.hi - k * (self.span / steps) for k in range(steps + 1)], dtype=torch.float64)

    def enter(self, view: Model[Any]) -> Tensor:
        """The start, as a state of `view`."""
        if view is self.model:
            return self.start
        return view.sde.encode(self.model.sde.decode(self.start), keyed(len(self.start)))

    def by_torchsde(self, view: Model[Any], method: Method, steps: int) -> Tensor:
        """Solve the reverse SDE by torchsde.

        Args:
            view: The model whose equation is solved: `model`, or its view on the data.
            method: torchsde's method.
            steps: Number of equal steps.

        Returns:
            The ends, as states of `view`.
        """
        start = self.enter(view)
        equation = ReverseEquation(view.sde, view.score, start.shape, self.hi, remembers=8)
        return solve(equation, start, self.span, method, self.brownian, steps)

    def by_sampler(self, sampler: Sampler[Any], view: Model[Any], steps: int) -> Tensor:
        """Run a sampler along the paths.

        Args:
            sampler: The sampler; it draws one normal number per entry and step.
            view: The model that it steps on, `sampler.view(model)`.
            steps: Number of equal steps.

        Returns:
            The ends, as states of `view`.
        """
        return drive(sampler, view, self.enter(view), self.times(steps), self._noise(steps))

    def by_formula(self, view: Model[Any], steps: int, *, milstein: bool, rounded: int | None = None) -> Tensor:
        """Solve the reverse SDE by the closed form of a method.

        Args:
            view: The model whose equation is solved.
            steps: Number of equal steps.
            milstein: If True, use Milstein's method, else Euler's.
            rounded: As in `formula`.

        Returns:
            The ends, as states of `view`; NaN on rows on which the boundary rule acted.
        """
        z, confined = formula(view, self.enter(view), self.hi, self.span, steps, self._noise(steps), milstein=milstein, rounded=rounded)
        z[confined] = math.nan
        return z

    def _noise(self, steps: int) -> Noise:
        return BrownianPath(self.increments / math.sqrt(self.span / len(self.increments)), steps)


def formula(
    view: Model[Any], z: Tensor, hi: float, span: float, steps: int, noise: Noise, *, milstein: bool, rounded: int | None = None
) -> tuple[Tensor, Tensor]:
    """Solve the reverse SDE by the closed form of Euler's or Milstein's method; for steps `δ` and normal `Z`::

        Euler      z ← z − δ f̃ + √δ g Z                        f̃ the reverse drift
        Milstein   that + ½ δ g g' (Z² − 1),   and ½ g g' = ¼ ∇·(g gᵀ)

    For geometric Brownian motion, Milstein's update is `X (1 + 2δσ² − δμ + δσ² X∘s + √δ σ Z + ½ σ² δ (Z² − 1))`.

    Args:
        view: The model whose equation is solved.
        z: States at `hi`, float64 `(B, …)`.
        hi: Time at which the paths start.
        span: Length of time that they cover.
        steps: Number of equal steps.
        noise: Source of `Z`.
        milstein: If True, use Milstein's method, else Euler's.
        rounded: If given, every state is rounded up or down to the next number, at random with this seed: what rounding may do.

    Returns:
        The states at `hi − span`, and whether the boundary rule acted, bool `(B,)`.
    """
    sde, delta, coins = view.sde, span / steps, None if rounded is None else keyed(len(z), rounded)
    confined = torch.zeros(len(z), dtype=torch.bool)
    for k in range(steps):
        t = torch.tensor(hi - k * delta, dtype=torch.float64)
        normals = noise.normal(z)
        z = z if coins is None else torch.nextafter(z, coins.normal(z) * math.inf)
        proposal = z - delta * sde.reverse_drift(z, t, view.score(z, t)) + math.sqrt(delta) * sde.diffusion(z, t) * normals
        if milstein:
            proposal = proposal + delta * sde.divergence(z, t) / 4 * (normals**2 - 1)
        z = sde.project(proposal, z)
        confined |= (z != proposal).flatten(1).any(1)
    return z, confined


def bent(sde: Any) -> bool:
    """Whether the data are an element-wise, non-linear function of the coordinates: the data then have an equation of their own."""
    if not isinstance(sde, AffineSDE) or sde.coordinates.domain.event_dim or sde.coordinates.codomain.event_dim:
        return False
    return bool((slopes(sde.coordinates, torch.linspace(-1, 1, 5, dtype=torch.float64))[1] != 0).any())


def stretch(sde: Any) -> tuple[float, float]:
    """`(t_0, span)` of the paths, as multiples of a power of 2, so that the times of 1024 steps are exact numbers."""
    lo, hi = sde.t_span
    early, late = max(lo, hi / 8), hi
    if isinstance(sde, AffineSDE):
        least, most = sde.exact(torch.tensor([lo, hi], dtype=torch.float64)).ratio.tolist()
        top = min(NOISE[0], most)
        bottom = max(top * NOISE[1] / NOISE[0], least)
        early, late = sde.time_at(torch.tensor([bottom, top], dtype=torch.float64)).tolist()
    unit = 2.0 ** (math.floor(math.log2(late - early)) - 6)
    # The slack keeps a time that is an exact multiple already, since it is known only to rounding.
    late, early = math.floor(late / unit + 1e-6) * unit, math.ceil(early / unit - 1e-6) * unit
    return late, late - early


def follow(sde: Any, factory: BrownianFactory, count: int, finest: int, seed: int, spread: float = SPREAD) -> ReversePaths:
    """Sample reverse paths of a process. The data are normal in coordinates if it is affine, else two points.

    Args:
        sde: The process.
        factory: Makes the Brownian motion.
        count: Number of paths.
        finest: Largest number of steps that will be compared.
        seed: Of the starts.
        spread: Standard deviation of normal data, in units of the noise level at `hi`.
    """
    hi, span = stretch(sde)
    t, draw = torch.tensor(hi, dtype=torch.float64), Noise.seeded(seed)
    if not isinstance(sde, AffineSDE):
        atoms = points(sde)
        start = sde.perturb(atoms.clean(count, draw), t, draw)
        brownian, finest = factory((count, start[0].numel()), span), FINER * finest
        increments = intervals(brownian, span, finest)[0].reshape(finest, *start.shape)
        noise = BrownianPath(increments / math.sqrt(span / finest), finest)
        return ReversePaths(atoms, hi, span, start, brownian, increments, *formula(atoms, start, hi, span, finest, noise, milstein=True))
    size = float(sde.exact(t).ratio)
    model = normal(sde, 0.25 * size, spread * size)
    mean, variance = model.components(model.means[:0], t)
    start = mean + variance.sqrt() * draw.normal(mean.expand(count, -1))
    brownian = factory((count, start.shape[1]), span)
    increments, areas = intervals(brownian, span, finest)
    end = exact_end(model, start, hi, span, increments, areas)
    return ReversePaths(model, hi, span, start, brownian, increments, end, torch.zeros(count, dtype=torch.bool))


def drawn(finest: int, seed: int) -> BrownianFactory:
    """A factory of Brownian motions that samples all increments and areas at once; `brownian_interval` samples them on demand.

    Args:
        finest: Number of intervals.
        seed: Of the increments and areas.
    """

    def factory(shape: tuple[int, int], span: float) -> Brownian:
        generator, h = torch.Generator().manual_seed(seed), span / finest
        w, area = torch.randn(2, finest, *shape, generator=generator, dtype=torch.float64)
        return PathBrownian(span, w * math.sqrt(h), area * math.sqrt(h / 12))

    return factory


def exact_end(model: Mixture, start: Tensor, hi: float, span: float, increments: Tensor, areas: Tensor) -> Tensor:
    """The exact states at `hi − span` for normal data; see the module for the formula.

    Args:
        model: The exact model, with a single component.
        start: States at `hi`, float64 `(B, d)`.
        hi: Time at which the paths start.
        span: Length of time that they cover.
        increments: `W` over `n` equal intervals, `(n, B, d)`.
        areas: `H` over the same intervals, `(n, B, d)`.
    """
    h = span / len(increments)
    middle = hi - (torch.arange(len(increments), dtype=torch.float64)[:, None] + 0.5) * h

    def law(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = model.components(start[:0], t)
        return mean.squeeze(-2), variance.squeeze(-2), model.sde.exact(t).alpha

    def kernel(t: Tensor) -> Tensor:
        _, variance, alpha = law(t)
        return alpha / variance * model.sde.rates(t)[2].sqrt()

    value, slope = along(kernel, middle)
    # The slope is a derivative in t, and dt = −du.
    noise = (value[:, None] * increments + h * slope[:, None] * areas).sum(0)
    m1, v1, a1 = law(torch.tensor(hi, dtype=torch.float64))
    m0, v0, a0 = law(torch.tensor(hi - span, dtype=torch.float64))
    return m0 + v0 / a0 * (a1 / v1 * (start - m1) + noise)
