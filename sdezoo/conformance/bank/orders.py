"""Orders: how fast the error of a sampler decreases with its step size, measured without sampling error if possible.

- A sampler whose step is affine keeps normal coordinates normal: its result is affine in the start and in the normal
  numbers that it draws. One row for each number, with all others 0, gives the whole map, and with it the mean and
  covariance of the result, to rounding.
- A sampler that draws no noise pushes the distribution at `t = 1` forward. In one dimension, expectations are integrals on a line.
- For all others the error is measured along Brownian paths. With `k = r + g²/V`, `V` the variance of the coordinates, the
  reverse process of normal coordinates has the solution `y_s = Φ(s, t) y_t + ∫_s^t Φ(s, u) g(u) dW̄_u` for `y = z − E z`, with
  `Φ(s, t) = exp(−∫_s^t k) = V_s α_t / (V_t α_s)`. The sampler may move in other coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sdezoo.conformance.bank.noise_doubles import BrownianPath, Counted, Impulse, Still, keyed
from sdezoo.conformance.bank.problems import Hastening, Mixture
from sdezoo.conformance.bank.sampler_problems import FINE, WIDE, ReferenceProblem, drive, reference_problems
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler

END = 0.125
"""Last time at which strong orders are measured: below it, the steps of a coarse grid are not small compared with `t`."""

_FINE = 2048
_NODES = 1024
_FREQUENCIES = (0.5, 1.0, 2.0)
_NEGLIGIBLE = 1e-9


class Error(NamedTuple):
    """Errors of several expectations."""

    value: Tensor
    """In units of the distribution's standard deviation, `(k,)`."""
    deviation: Tensor
    """Their standard errors, `(k,)`."""

    @classmethod
    def exact(cls, value: Tensor) -> Error:
        """Errors `value` `(k,)` without sampling error."""
        return cls(value, torch.zeros_like(value))

    @classmethod
    def paired(cls, differences: Tensor) -> Error:
        """The mean of independent paired differences `(B, k)`, with its standard error."""
        return cls(differences.mean(0), differences.std(0) / math.sqrt(len(differences)))

    @property
    def size(self) -> float:
        """Euclidean norm of the errors."""
        return float(self.value.norm())

    @property
    def slack(self) -> float:
        """Allowance for sampling error: three standard errors."""
        return 3 * float(self.deviation.norm())


def order_problems(sampler: Sampler, law: Callable[[AffineSDE], Mixture], lo: float = FINE) -> list[ReferenceProblem]:
    """The `reference_problems` of a sampler, and `Hastening`: noise that grows within a step shows whether a step takes it at one time.

    Args:
        sampler: The sampler.
        law: Takes an affine process; returns the distribution of the data in its coordinates.
        lo: First time of `t_span`.
    """
    found, hastening = reference_problems(sampler, law, lo), Hastening(lo=lo)
    if sampler.refuses(hastening) is None and not any(isinstance(problem.model.sde, Hastening) for problem in found):
        mixture = law(hastening)
        found.append(ReferenceProblem(mixture, mixture, torch.clone, torch.clone))
    return found


def draws_noise(sampler: Sampler, problem: ReferenceProblem) -> bool:
    """Whether the steps of a sampler draw random numbers.

    Args:
        sampler: The sampler.
        problem: A problem that it takes.
    """
    view = sampler.view(problem.model)
    noise = Counted(keyed(1))
    drive(sampler, view, _state(sampler, problem, problem.moments(problem.model.sde.t_span[1])[0][:1]), sampler.grid(view, 4), noise)
    return noise.asked > 0


def affine_error(
    sampler: Sampler, problem: ReferenceProblem, steps: int, *, whole: bool = False, times: Tensor | None = None
) -> Error | None:
    """Error of the mean and covariance of normal coordinates.

    Args:
        sampler: The sampler.
        problem: The problem; its data are normal in coordinates.
        steps: Number of steps.
        whole: If True, step from `hi` to 0; else from `hi` to `lo`.
        times: The times of the steps, from `hi` to `lo`; None: the sampler's own grid.

    Returns:
        None if the result is not affine in start and noise, or the noise is not normal.
    """
    view, (lo, hi) = sampler.view(problem.model), problem.model.sde.t_span
    if times is None:
        times = sampler.grid(view, steps) if whole else sampler.grid(view, steps + 1)[:-1]
    (m1, v1), (m0, v0) = (tuple(part[0] for part in problem.moments(t)) for t in (hi, 0.0 if whole else lo))

    def ends(start: Tensor, noise: Noise) -> Tensor:
        return problem.coordinates(view.sde.decode_unchecked(drive(sampler, view, _state(sampler, problem, start), times, noise)))

    response = normal_end(ends, m1, v1)
    if response is None:
        return None
    relative = response.covariance / (v0[:, None] * v0).sqrt() - torch.eye(len(m0), dtype=torch.float64)
    return Error.exact(torch.cat([(response.mean - m0) / v0.sqrt(), relative.flatten()]))


class Normal(NamedTuple):
    """A normal distribution in `d` dimensions."""

    mean: Tensor
    """float64 `(d,)`."""
    covariance: Tensor
    """float64 `(d, d)`."""


def normal_end(ends: Callable[[Tensor, Noise], Tensor], mean: Tensor, variance: Tensor) -> Normal | None:
    """The distribution of `ends(start, noise)` for `start ~ N(mean, diag variance)`, to rounding, if it is affine in start and noise.

    Args:
        ends: Takes starts `(B, d)` and a noise to draw from; returns ends `(B, d)`, row by row.
        mean: Mean of the start, float64 `(d,)`.
        variance: Variance of the start, float64 `(d,)`.

    Returns:
        None if `ends` is not affine, or its noise is not normal.
    """
    d = len(mean)
    try:
        probe = _Probe(0.7)
        elsewhere = ends((mean + 0.5 * variance.sqrt())[None], probe)[0]
        responses = ends(mean + torch.cat([torch.zeros(probe.numbers, d), torch.eye(d), torch.zeros(1, d)]).to(WIDE), Impulse())
    except NotImplementedError:
        return None
    centre = responses[-1]
    to_noise, to_start = responses[: probe.numbers] - centre, responses[probe.numbers : -1] - centre
    superposed = centre + 0.7 * to_noise.sum(0) + 0.5 * variance.sqrt() @ to_start
    if not torch.allclose(superposed, elsewhere, rtol=1e-6, atol=1e-6 * float(1 + responses.abs().max())):
        return None
    return Normal(centre, to_noise.T @ to_noise + (to_start * variance[:, None]).T @ to_start)


class _Probe(Still):
    """Constant normal numbers; counts how many are drawn per row."""

    numbers = 0

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        raise NotImplementedError("only normal numbers are linear")

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        drawn = super().normal(like, shape)
        self.numbers += drawn[0].numel()
        return drawn


def flow_error(sampler: Sampler, problem: ReferenceProblem, steps: int) -> Error:
    """Error of `E cos(ω u)` and `E sin(ω u)` at `lo`, `u` the standardized coordinate, for a sampler that draws no noise.

    The integrals use the trapezoidal rule, which converges exponentially for such distributions.

    Args:
        sampler: The sampler; its steps are deterministic.
        problem: The problem; its data have one coordinate.
        steps: Number of steps from `hi` to `lo`.
    """
    view, (lo, hi) = sampler.view(problem.model), problem.model.sde.t_span
    mean, variance = (part[:, 0] for part in problem.moments(hi))
    reach = 9 * float(variance.max().sqrt())
    nodes = torch.linspace(float(mean.min()) - reach, float(mean.max()) + reach, _NODES, dtype=torch.float64)
    density = torch.exp(-((nodes[:, None] - mean) ** 2) / (2 * variance)) / (2 * math.pi * variance).sqrt() @ problem.law.weights
    times = sampler.grid(view, steps + 1)[:-1]
    ends = problem.coordinates(
        view.sde.decode_unchecked(drive(sampler, view, _state(sampler, problem, nodes[:, None]), times, keyed(_NODES)))
    )
    mean, variance = (part[:, 0] for part in problem.moments(lo))
    centre = mean @ problem.law.weights
    spread = (((mean - centre) ** 2 + variance) @ problem.law.weights).sqrt()
    errors = []
    for frequency in _FREQUENCIES:
        w = frequency / spread
        wave = torch.exp(1j * w * (ends[:, 0] - centre)) @ (density * (nodes[1] - nodes[0])).to(torch.complex128)
        expected = (torch.exp(1j * w * (mean - centre) - w**2 * variance / 2) * problem.law.weights).sum()
        errors.append(torch.view_as_real(wave - expected))
    return Error.exact(torch.cat(errors))


@dataclass(frozen=True, eq=False)
class ReferencePaths:
    """Brownian paths, and the exact reverse process along them, in one normal coordinate."""

    problem: ReferenceProblem
    """The problem; its data have one normal coordinate."""
    end: float
    """Time at which the paths end."""
    increments: Tensor
    """Increments over equal intervals, in units of their standard deviation, float64 `(n, B, 1)`."""
    start: Tensor
    """The coordinate at `hi`, float64 `(B, 1)`."""
    finish: Tensor
    """The coordinate at `end`, float64 `(B, 1)`."""

    @classmethod
    def of(cls, problem: ReferenceProblem, end: float, count: int, seed: int = 0) -> ReferencePaths:
        """Sample paths from `hi` to `end`.

        Args:
            problem: The problem; its data have one normal coordinate.
            end: Time at which the paths end.
            count: Number of paths.
            seed: Of starts and paths.
        """
        generator = torch.Generator().manual_seed(seed)
        hi = problem.model.sde.t_span[1]
        increments = torch.randn(_FINE, count, 1, generator=generator, dtype=torch.float64)
        h = (hi - end) / _FINE
        (m1, v1), (m0, v0) = (tuple(part[0] for part in problem.moments(t)) for t in (hi, end))
        y = v1.sqrt() * torch.randn(count, 1, generator=generator, dtype=torch.float64)
        # With midpoints the error of the stochastic integral is of first order in a step much smaller than any sampler's.
        u = hi - h * (torch.arange(_FINE, dtype=torch.float64) + 0.5)
        process = problem.law.sde
        p, last, first = process.exact(u), *(process.exact(torch.tensor(t, dtype=torch.float64)) for t in (end, hi))
        variance = p.alpha**2 * problem.law.deviations[0] ** 2 + p.variance
        weight = v0 * p.alpha / (variance * last.alpha) * process.rates(u)[2].sqrt()
        finish = m0 + v0 * first.alpha / (v1 * last.alpha) * y + h**0.5 * torch.einsum("k,kbi->bi", weight, increments)
        return cls(problem, end, increments, m1 + y, finish)

    def ends(self, sampler: Sampler, steps: int) -> Tensor | None:
        """Run a sampler along the paths.

        Args:
            sampler: The sampler.
            steps: Number of equal steps.

        Returns:
            The coordinate at `end`, float64 `(B, 1)`; None unless a step draws one normal number per entry.
        """
        view = sampler.view(self.problem.model)
        times = torch.linspace(view.sde.t_span[1], self.end, steps + 1, dtype=torch.float64)
        noise = BrownianPath(self.increments, steps)
        try:
            z = drive(sampler, view, _state(sampler, self.problem, self.start), times, noise)
        except (NotImplementedError, IndexError):
            return None
        return self.problem.coordinates(view.sde.decode_unchecked(z))

    def error(self, sampler: Sampler, steps: int) -> Error | None:
        """Error of `E cos u` and `E sin u`, `u` in standard deviations, by the difference to the reverse process along the same paths.

        Args:
            sampler: The sampler.
            steps: Number of equal steps.

        Returns:
            None as in `ends`.
        """
        ends = self.ends(sampler, steps)
        if ends is None:
            return None
        spread = self.problem.moments(self.end)[1][0].sqrt()
        rows = torch.cat([wave(ends / spread) - wave(self.finish / spread) for wave in (torch.cos, torch.sin)], 1)
        return Error.paired(rows)

    def distance(self, sampler: Sampler, steps: int) -> float | None:
        """Mean distance to the reverse process along the same paths.

        Args:
            sampler: The sampler.
            steps: Number of equal steps.

        Returns:
            None as in `ends`.
        """
        ends = self.ends(sampler, steps)
        return None if ends is None else float((ends - self.finish).abs().mean())


def falls(measure: Callable[[int], Error], order: float, steps: Sequence[int]) -> str | None:
    """Why an error does not decrease as `h^order`, measured at the first and last of `steps`; None if it does.

    The order may be lower by 0.25, since errors may not be asymptotic yet. Sampling error is allowed for. A negligible
    error passes.

    Args:
        measure: Takes a number of steps; returns the error.
        order: The declared order.
        steps: Numbers of steps, in increasing order.
    """
    coarse, fine = measure(steps[0]), measure(steps[-1])
    growth = steps[-1] / steps[0]
    if fine.size - fine.slack <= max(_NEGLIGIBLE, (coarse.size + coarse.slack) * growth ** -(order - 0.25)):
        return None
    measured = math.log(max(coarse.size, 1e-300) / fine.size) / math.log(growth)
    return (
        f"the error of expectations is {coarse.size:.3g} in {steps[0]} steps and {fine.size:.3g} in {steps[-1]}: "
        f"order {measured:.2f}, and {order:g} is declared"
    )


def _state(sampler: Sampler, problem: ReferenceProblem, coordinates: Tensor) -> Tensor:
    return sampler.view(problem.model).sde.encode(problem.data(coordinates), keyed(len(coordinates)))
