"""Right processes with unusual but legal choices: other coordinates, shared and partial noise, events of rank 3, odd times and inputs."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch.distributions import AffineTransform, ComposeTransform, SigmoidTransform, SoftplusTransform, Transform, constraints

from sdezoo import AffineSDE, Coefficients, Conditional, ForwardSDE, MatrixSDE
from sdezoo.parameters import Positive
from sdezoo.process.interpolant import Interpolant, Mix


class Sinh(Transform):
    """`x = sinh z`: logarithmic far out on both sides."""

    domain = codomain = constraints.real
    bijective = True
    sign = 1  # pyright: ignore

    def __eq__(self, other):
        return isinstance(other, Sinh)

    def __hash__(self):
        return hash(Sinh)

    def _call(self, x):
        return torch.sinh(x)

    def _inverse(self, y):
        return torch.asinh(y)

    def log_abs_det_jacobian(self, x, y):
        return torch.cosh(x).log()


class RunningSum(Sinh):
    """`x_i = z_1 + … + z_i`: entries of the data share entries of the state."""

    domain = codomain = constraints.independent(constraints.real, 1)

    def __eq__(self, other):
        return isinstance(other, RunningSum)

    def __hash__(self):
        return hash(RunningSum)

    def _call(self, x):
        return x.cumsum(-1)

    def _inverse(self, y):
        return torch.cat([y[..., :1], y.diff(dim=-1)], -1)

    def log_abs_det_jacobian(self, x, y):
        return torch.zeros_like(x[..., 0])


@dataclass(frozen=True)
class OU(AffineSDE):
    """`dz = −θ z dt + σ dW`: the process that most of these choices are made in."""

    theta: Positive = 1.5
    sigma: Positive = 1.2

    def coefficients(self, t):
        alpha = torch.exp(-self.theta * t)
        return Coefficients(alpha, torch.zeros_like(t), -torch.expm1(-2 * self.theta * t) * self.sigma**2 / (2 * self.theta))


@dataclass(frozen=True)
class LogFarOut(OU):
    """`x = sinh z`."""

    @property
    def coordinates(self):
        return Sinh()


@dataclass(frozen=True)
class Walk(OU):
    """`x` is the running sum of the state: coordinates of whole rows on the real line."""

    @property
    def coordinates(self):
        return RunningSum()


@dataclass(frozen=True)
class Interval(OU):
    """Data in (−3, 5), a descending map: `x = 5 − 8/(1 + e^{−z})`."""

    @property
    def coordinates(self):
        return ComposeTransform([SigmoidTransform(), AffineTransform(5.0, -8.0)])


@dataclass(frozen=True)
class Softened(OU):
    """Positive data, `x = log(1 + e^z)`."""

    @property
    def coordinates(self):
        return SoftplusTransform()


@dataclass(frozen=True)
class Cube(OU):
    """Rows of 2 × 1 × 2 entries and no others."""

    @property
    def row_shape(self):
        return (2, 1, 2)


@dataclass(frozen=True)
class Winds(OU):
    """A shift of its own for each of three entries, back and forth in time."""

    @property
    def row_shape(self):
        return (3,)

    def coefficients(self, t):
        shift = torch.sin(5 * t) * torch.tensor([1.0, -20.0, 0.0], dtype=torch.float64, device=t.device)
        return super().coefficients(t)._replace(shift=shift)


@dataclass(frozen=True)
class MiddleTimes(OU):
    """Scores from `t = 0.3` to `t = 0.6` alone."""

    @property
    def t_span(self):
        return 0.3, 0.6


@dataclass(frozen=True)
class Backward(OU):
    """A noise conditioning that falls with time; a network input in another order, in other units, with one more feature an entry."""

    def noise_conditioning(self, t):
        return -self.noise_level(t).log()

    def network_input(self, z, t):
        return torch.cat([z.flip(-1) / 3, (2 * z).tanh()], -1)

    def score_from_output(self, s, z, t):
        first, second = s.chunk(2, -1)
        return 7 * first.flip(-1) - second * (1 + z**2)


@dataclass(frozen=True)
class Bent(OU):
    """A clock that stands almost still, then runs: `t⁴`."""

    def coefficients(self, t):
        return super().coefficients(t**4 + 1e-3 * t)


@dataclass(frozen=True)
class OneWind(ForwardSDE, Conditional):
    """One Brownian motion for all entries along the last dimension; the score is known along the direction of that noise alone."""

    theta: Positive = 1.5
    sigma: Positive = 1.2

    def drift(self, z, t):
        return -self.theta * z

    def diffusion(self, z, t):
        return torch.full_like(z, self.sigma)

    def noise_shape(self, shape):
        return (*shape[:-1], 1)

    def scale(self, t):
        return (-torch.expm1(-2 * self.theta * t) * self.sigma**2 / (2 * self.theta)).sqrt()

    def perturb(self, x0, t, noise):
        return torch.exp(-self.theta * t).to(x0) * x0 + self.scale(t).to(x0) * noise.normal(x0, (*x0.shape[:-1], 1))

    def score(self, z, x0, t):
        away = z - torch.exp(-self.theta * t).to(z) * x0
        return -away / (self.scale(t) ** 2).to(z) / z.shape[-1]

    def prior(self, shape, noise, like):
        return self.perturb(torch.zeros(tuple(shape), dtype=like.dtype), torch.tensor(1.0, dtype=torch.float64), noise)


@dataclass(frozen=True)
class Distance(ForwardSDE, Conditional):
    """`dx = σ dW`, `dy = x dt`: the noise drives half of the state, and `y` starts at 0."""

    sigma: Positive = 1.0

    @property
    def t_span(self):
        return 0.02, 1.0

    def state_shape(self, shape):
        return (*shape[:-1], 2 * shape[-1])

    def scale(self, t):
        """Deviation of `x` given `y`."""
        return self.sigma * t.sqrt() / 2

    def encode(self, x, noise=None):
        return torch.cat([x, torch.zeros_like(x)], -1)

    def decode(self, z):
        return z.chunk(2, -1)[0]

    def drift(self, z, t):
        x, _ = z.chunk(2, -1)
        return torch.cat([torch.zeros_like(x), x], -1)

    def diffusion(self, z, t):
        x, _ = z.chunk(2, -1)
        return torch.cat([torch.full_like(x, self.sigma), torch.zeros_like(x)], -1)

    def perturb(self, x0, t, noise):
        one, two, t = noise.normal(x0), noise.normal(x0), t.to(x0)
        x = x0 + self.sigma * t.sqrt() * one
        return torch.cat([x, t * (x0 + x) / 2 + self.sigma * t**1.5 / 12**0.5 * two], -1)

    def log_prob(self, z, x0, t):
        (x, y), t = z.chunk(2, -1), t.to(z)
        v, w = self.sigma**2 * t, self.sigma**2 * t**3 / 12
        away = (x - x0) ** 2 / v + (y - t * (x0 + x) / 2) ** 2 / w
        return -away / 2 - (v * w).log() / 2 - math.log(2 * math.pi)

    def prior(self, shape, noise, like):
        return self.perturb(torch.zeros(tuple(shape), dtype=like.dtype), torch.tensor(1.0, dtype=torch.float64), noise)


@dataclass(frozen=True)
class Wanders(ForwardSDE, Conditional):
    """`dz = σ dW`, from which data are still known at the end; its log-density is one number a row."""

    sigma: Positive = 0.5

    @property
    def forgets_data(self):
        return False

    def drift(self, z, t):
        return torch.zeros_like(z)

    def diffusion(self, z, t):
        return torch.full_like(z, self.sigma)

    def scale(self, t):
        return self.sigma * t.sqrt()

    def perturb(self, x0, t, noise):
        return x0 + self.scale(t).to(x0) * noise.normal(x0)

    def log_prob(self, z, x0, t):
        s = self.scale(t).to(z)
        return (-(((z - x0) / s) ** 2) / 2 - s.log() - math.log(2 * math.pi) / 2).flatten(1).sum(1)

    def prior(self, shape, noise, like):
        return self.sigma * noise.normal(like, shape)


@dataclass(frozen=True)
class Simulated(ForwardSDE):
    """`dz = −3 z dt + √(1 + z²/4) dW`: no sample, density or score in closed form."""

    rate: Positive = 3.0

    def drift(self, z, t):
        return -self.rate * z

    def diffusion(self, z, t):
        return (1 + z**2 / 4).sqrt()

    def prior(self, shape, noise, like):
        return self.perturb(torch.zeros(tuple(shape), dtype=like.dtype), torch.tensor(1.0, dtype=torch.float64), noise)


@dataclass(frozen=True)
class Blur(Conditional):
    """Every entry fades into the mean of its row: a known score and no SDE."""

    sigma: Positive = 1.5

    def mean(self, x0, t):
        return torch.lerp(x0, x0.mean(-1, keepdim=True).expand_as(x0), t.to(x0))

    def scale(self, t):
        return self.sigma * t

    def perturb(self, x0, t, noise):
        return self.mean(x0, t) + self.scale(t).to(x0) * noise.normal(x0)

    def log_prob(self, z, x0, t):
        scale = self.scale(t).to(z)
        return -(((z - self.mean(x0, t)) / scale) ** 2) / 2 - scale.log() - math.log(2 * math.pi) / 2

    def prior(self, shape, noise, like):
        return self.sigma * noise.normal(like, shape)


@dataclass(frozen=True)
class Circle(Interpolant):
    """`α = cos`, `σ = sin`, with noise of Laplace's distribution."""

    turn: Annotated[float, Ge(0.01), Le(1.5)] = 1.5

    def mix(self, t):
        return Mix(torch.cos(self.turn * t), torch.sin(self.turn * t))

    def base(self, shape, noise, like):
        u = 2 * noise.uniform(like, shape) - 1
        return -u.sign() * torch.log1p(-u.abs() * (1 - 1e-7))


@dataclass(frozen=True)
class Coins(Circle):
    """Noise of ±1."""

    def base(self, shape, noise, like):
        return torch.where(noise.uniform(like, shape) < 0.5, -1.0, 1.0).to(like)


@dataclass(frozen=True)
class OneNoise(Circle):
    """One uniform number for all entries of a row."""

    def base(self, shape, noise, like):
        one = noise.uniform(like, (shape[0], *(1,) * (len(shape) - 1)))
        return (2 * one - 1).expand(tuple(shape)).contiguous()


@dataclass(frozen=True)
class Neighbours(MatrixSDE):
    """Columns that share a part of the noise of the column before: with one column, the share has no effect."""

    kappa: Positive = 4.0
    share: Annotated[float, Ge(-1), Le(1)] = 0.6
    homogeneous = True

    def _mixed(self, w):
        return w + self.share * torch.nn.functional.pad(w, (1, 0))[..., :-1]

    def drift(self, z, t):
        return -self.kappa * z

    def diffuse(self, z, t, dw):
        return math.sqrt(2 * self.kappa) * self._mixed(dw)

    def noise_shape(self, shape):
        return tuple(shape)

    def scale(self, t):
        return (-torch.expm1(-2 * self.kappa * t)).sqrt()

    def perturb(self, x0, t, noise):
        return torch.exp(-self.kappa * t).to(x0) * x0 + self.scale(t).to(x0) * self._mixed(noise.normal(x0))

    def prior(self, shape, noise, like):
        return self._mixed(noise.normal(like, shape))


SDES = [
    Neighbours(),
    LogFarOut(),
    Walk(),
    Interval(),
    Softened(),
    Cube(),
    Winds(),
    MiddleTimes(),
    Backward(),
    Bent(),
    OU(theta=30.0, sigma=0.01),
    OU(theta=1e-3, sigma=1e3),
    OneWind(),
    Distance(),
    Wanders(),
    Simulated(),
    Blur(),
    Circle(),
    Coins(),
    OneNoise(),
]
SPECS = ["ve:sigma_max=20000", "vp:beta_max=150", "gbm:sigma=6", "cir:theta=20,kappa=6", "student-t:sigma_max=2000", "exp-ou:kappa=20"]
"""Built-in processes with huge and tiny hyper-parameters."""
