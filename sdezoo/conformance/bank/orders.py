"""Orders: how fast a sampler's error falls with its step, measured without sampling error wherever that can be done.

- Of normal coordinates a reasonable sampler makes normal ones: its result is affine in the start and in the normal
  numbers that it asks for. One row for each of them, with all others 0, gives the whole map, and with it mean and
  covariance of the result, to rounding.
- A sampler that draws nothing pushes the law at `t = 1` forward; in one dimension expectations are integrals on a line.
- Of anything else the error is measured along Brownian paths. With `k = r + g²/V`, `V` the variance of the coordinates, the
  reversed process of normal ones has the solution `y_s = Φ(s, t) y_t + ∫_s^t Φ(s, u) g(u) dW̄_u` for `y = z − E z`, with
  `Φ(s, t) = exp(−∫_s^t k) = V_s α_t / (V_t α_s)`; its coordinates do not know in which others the sampler moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sdezoo.conformance.bank.noise_doubles import BrownianPath, Counted, Impulse, Still, keyed
from sdezoo.conformance.bank.sampler_problems import WIDE, ReferenceProblem, drive
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler

END = 0.125
"""Where strong orders are measured: beyond, the steps of a coarse grid are no longer small against `t`."""

_FINE = 2048
_NODES = 1024
_FREQUENCIES = (0.5, 1.0, 2.0)


class Error(NamedTuple):
    """Errors of several expectations in units of the law's own spread, and the standard error of each."""

    value: Tensor
    deviation: Tensor

    @classmethod
    def exact(cls, value: Tensor) -> Error:
        """One without sampling error."""
        return cls(value, torch.zeros_like(value))

    @classmethod
    def paired(cls, differences: Tensor) -> Error:
        """The mean of `differences` `(B, k)` between independent pairs, each known up to its standard error."""
        return cls(differences.mean(0), differences.std(0) / math.sqrt(len(differences)))

    @property
    def size(self) -> float:
        """Length of the error."""
        return float(self.value.norm())

    @property
    def slack(self) -> float:
        """How far sampling alone may move it: three standard errors."""
        return 3 * float(self.deviation.norm())


def draws_noise(sampler: Sampler, problem: ReferenceProblem) -> bool:
    """Whether the steps of `sampler` ask for random numbers."""
    view = sampler.view(problem.model)
    noise = Counted(keyed(1))
    drive(sampler, view, _state(sampler, problem, problem.moments(problem.model.sde.t_span[1])[0][:1]), sampler.grid(view, 4), noise)
    return noise.asked > 0


def affine_error(sampler: Sampler, problem: ReferenceProblem, steps: int, *, whole: bool = False) -> Error | None:
    """Error of mean and covariance of normal coordinates after `steps` steps from `hi` to `lo`; of `whole` samplings: to 0.

    None where the result is not affine in start and noise, or the noise is not made of normal numbers.
    """
    view, (lo, hi) = sampler.view(problem.model), problem.model.sde.t_span
    times = sampler.grid(view, steps) if whole else sampler.grid(view, steps + 1)[:-1]
    (m1, v1), (m0, v0) = (tuple(part[0] for part in problem.moments(t)) for t in (hi, 0.0 if whole else lo))

    def ends(start: Tensor, noise: Noise) -> Tensor:
        return problem.coordinates(view.sde.decode(drive(sampler, view, _state(sampler, problem, start), times, noise)))

    response = normal_end(ends, m1, v1)
    if response is None:
        return None
    relative = response.covariance / (v0[:, None] * v0).sqrt() - torch.eye(len(m0), dtype=torch.float64)
    return Error.exact(torch.cat([(response.mean - m0) / v0.sqrt(), relative.flatten()]))


class Normal(NamedTuple):
    """A normal distribution in `d` entries, float64: mean `(d,)` and covariance `(d, d)`."""

    mean: Tensor
    covariance: Tensor


def normal_end(ends: Callable[[Tensor, Noise], Tensor], mean: Tensor, variance: Tensor) -> Normal | None:
    """The distribution of `ends(start, noise)` for `start ~ N(mean, diag variance)`, to rounding, where it is affine in start and noise.

    Args:
        ends: of starts `(B, d)`, row by row; the noise is drawn inside.
        mean: of the start, float64 `(d,)`.
        variance: of the start, float64 `(d,)`.

    Returns:
        None where it is not affine, or the noise is not made of normal numbers.
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
    """Constant normal numbers, and how many were asked for."""

    numbers = 0

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        raise NotImplementedError("only normal numbers are linear")

    def normal(self, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        drawn = super().normal(like, shape)
        self.numbers += drawn[0].numel()
        return drawn


def flow_error(sampler: Sampler, problem: ReferenceProblem, steps: int) -> Error:
    """Error of `E cos(ω u)` and `E sin(ω u)` at `lo`, `u` standardized, for a sampler that draws nothing and one coordinate.

    By the trapezoidal rule, which converges exponentially for laws like these.
    """
    view, (lo, hi) = sampler.view(problem.model), problem.model.sde.t_span
    mean, variance = (part[:, 0] for part in problem.moments(hi))
    reach = 9 * float(variance.max().sqrt())
    nodes = torch.linspace(float(mean.min()) - reach, float(mean.max()) + reach, _NODES, dtype=torch.float64)
    density = torch.exp(-((nodes[:, None] - mean) ** 2) / (2 * variance)) / (2 * math.pi * variance).sqrt() @ problem.law.weights
    times = sampler.grid(view, steps + 1)[:-1]
    ends = problem.coordinates(view.sde.decode(drive(sampler, view, _state(sampler, problem, nodes[:, None]), times, keyed(_NODES))))
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
    """Brownian paths, and the reversed process along them, in one normal coordinate: its values at `hi` and at `end`."""

    problem: ReferenceProblem
    end: float
    increments: Tensor
    start: Tensor
    finish: Tensor

    @classmethod
    def of(cls, problem: ReferenceProblem, end: float, count: int, seed: int = 0) -> ReferencePaths:
        """`count` paths from `hi` to `end`."""
        generator = torch.Generator().manual_seed(seed)
        hi = problem.model.sde.t_span[1]
        increments = torch.randn(_FINE, count, 1, generator=generator, dtype=torch.float64)
        h = (hi - end) / _FINE
        (m1, v1), (m0, v0) = (tuple(part[0] for part in problem.moments(t)) for t in (hi, end))
        y = v1.sqrt() * torch.randn(count, 1, generator=generator, dtype=torch.float64)
        # At the midpoints the error of the stochastic integral is of first order in a step that is much finer than any sampler's.
        u = hi - h * (torch.arange(_FINE, dtype=torch.float64) + 0.5)
        process = problem.law.sde
        p, last, first = process.exact(u), *(process.exact(torch.tensor(t, dtype=torch.float64)) for t in (end, hi))
        variance = p.alpha**2 * problem.law.deviations[0] ** 2 + p.variance
        weight = v0 * p.alpha / (variance * last.alpha) * process.rates(u)[2].sqrt()
        finish = m0 + v0 * first.alpha / (v1 * last.alpha) * y + h**0.5 * torch.einsum("k,kbi->bi", weight, increments)
        return cls(problem, end, increments, m1 + y, finish)

    def ends(self, sampler: Sampler, steps: int) -> Tensor | None:
        """Where `steps` equal steps of `sampler` lead along these paths; None where it asks for other noise than one normal number each."""
        view = sampler.view(self.problem.model)
        times = torch.linspace(view.sde.t_span[1], self.end, steps + 1, dtype=torch.float64)
        noise = BrownianPath(self.increments, steps)
        try:
            z = drive(sampler, view, _state(sampler, self.problem, self.start), times, noise)
        except (NotImplementedError, IndexError):
            return None
        return self.problem.coordinates(view.sde.decode(z))

    def error(self, sampler: Sampler, steps: int) -> Error | None:
        """Error of `E cos u` and `E sin u`, `u` in units of the spread, by the difference to the reversed process along the same paths."""
        ends = self.ends(sampler, steps)
        if ends is None:
            return None
        spread = self.problem.moments(self.end)[1][0].sqrt()
        rows = torch.cat([wave(ends / spread) - wave(self.finish / spread) for wave in (torch.cos, torch.sin)], 1)
        return Error.paired(rows)

    def distance(self, sampler: Sampler, steps: int) -> float | None:
        """Mean distance to the reversed process along the same paths."""
        ends = self.ends(sampler, steps)
        return None if ends is None else float((ends - self.finish).abs().mean())


def falls(measure: Callable[[int], Error], order: float, steps: Sequence[int]) -> str | None:
    """Why an error does not fall as `h^order`, measured at the first and at the last of `steps`; None where it does.

    A quarter is granted to what is not yet asymptotic, sampling error where there is any, and everything to what is exact.
    """
    coarse, fine = measure(steps[0]), measure(steps[-1])
    growth = steps[-1] / steps[0]
    if fine.size - fine.slack <= max(1e-7, (coarse.size + coarse.slack) * growth ** -(order - 0.25)):
        return None
    measured = math.log(max(coarse.size, 1e-300) / fine.size) / math.log(growth)
    return (
        f"the error of expectations is {coarse.size:.3g} in {steps[0]} steps and {fine.size:.3g} in {steps[-1]}: "
        f"order {measured:.2f}, where {order:g} is declared"
    )


def _state(sampler: Sampler, problem: ReferenceProblem, coordinates: Tensor) -> Tensor:
    return sampler.view(problem.model).sde.encode(problem.data(coordinates), keyed(len(coordinates)))
