"""Processes wrong in what they measure, in how often a value is drawn, in what they add, or far out; and right ones of these kinds."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch.distributions import StickBreakingTransform, constraints

from sdezoo import AffineSDE, Coefficients, Conditional, Interpolant, Mix, Rewindable
from sdezoo.process.affine import leading_spread
from sdezoo.process.columns import ColumnFit
from sdezoo_plugins.sdes.affine.exp_ou import ExpOU
from sdezoo_plugins.sdes.affine.gbm import GBM
from sdezoo_plugins.sdes.affine.vp import VP
from sdezoo_plugins.sdes.boundary.cir import CIR
from sdezoo_plugins.sdes.boundary.log_barrier import LogBarrier
from sdezoo_plugins.sdes.boundary.reflected import Reflected, by_images
from sdezoo_plugins.sdes.joint.fractional import Fractional
from sdezoo_plugins.sdes.non_gaussian.beta import Beta
from sdezoo_plugins.sdes.non_gaussian.log_laplace import LogLaplace
from sdezoo_plugins.sdes.non_gaussian.student_t import StudentT
from sdezoo_plugins.sdes.non_gaussian.thinning import Thinning
from tests.conformance.right.losses import mutants

MUTANTS, killed_by = mutants()


@killed_by("what-is-given-changes-nothing-else")
class AroundZero(ExpOU):
    """Given a mean, the root of the mean square for the deviation."""

    def adapted(self, x0):
        found = super().adapted(x0)
        return found if self.mean is None or self.sigma else replace(found, sigma=float(self.encode(x0).square().mean().sqrt()))


@killed_by("score-is-gradient")
class Saturated(VP):
    """A score that grows no more from eight deviations on."""

    def score(self, z, x0, t):
        most = (8 / self.scale(t)).to(z)
        return super().score(z, x0, t).clamp(-most, most)


@killed_by("prior-entries-depend-as-its-density-says")
class OneScale(VP):
    """One scale for all entries of a row of Student's t, with the density of independent ones."""

    def prior(self, shape, noise, like):
        halves = like.new_full((shape[0], *(1,) * (len(shape) - 1)), 2.5)
        return noise.normal(like, shape) / (noise.gamma(halves) / halves).sqrt()

    def prior_log_prob(self, z):
        return torch.distributions.StudentT(5.0).log_prob(z.double()).flatten(1).sum(1)


@killed_by("noise-follows-the-spread-in-coordinates")
class RawSpread(GBM):
    """The spread of the data for that of their logarithms."""

    def adapted(self, x0):
        return self if self.sigma is not None else replace(self, sigma=leading_spread(x0))


@killed_by("noise-adds-up-early")
class LongerSteps(LogBarrier):
    """A hundredth more variance than drift and diffusion give."""

    def perturb(self, x0, t, noise):
        return super().perturb(x0, t * 1.002, noise)


@killed_by("draws-do-not-repeat")
class CutOff(StudentT):
    """Noise that is clamped."""

    def base(self, shape, noise, like):
        return super().base(shape, noise, like).clamp(-4.5, 4.5)


@killed_by("score-has-a-finite-size")
class ReachesZero(CIR):
    """No limit of the noise: the process reaches 0, where its score is not square-integrable."""

    def __post_init__(self):
        if 4 * self.kappa * self.theta < self.sigma**2:
            super().__post_init__()

    @property
    def reflecting_boundary(self):
        return False


@killed_by("time-at-inverts-the-ratio")
class LevelOfItsOwn(CIR):
    """A noise level by which no time is found."""

    def noise_level(self, t):
        return self.scale(t)

    def time_at(self, level):
        return level.double().clamp(*self.t_span)


@killed_by("what-is-added-is-the-score-of-the-prior")
class PoleLost(CIR):
    """`(q + 1)/z` for `q/z`, the exponent of the prior without its 1."""

    def score_from_output(self, s, z, t):
        return super().score_from_output(s, z, t) + 1 / z


@killed_by("every-whole-number-is-read")
class SixComponents(Fractional):
    """A number of components of its own, whatever is given."""

    components: int = 6


@killed_by("error-scale-is-that-of-the-output")
class InUnits(LogLaplace):
    """The error of the denoiser in units of the data."""

    def error_scale(self, t):
        return super().error_scale(t) / (1 + self._unit)

    @property
    def _unit(self):
        return 0.5


class Normal(Interpolant, Conditional):
    """Normal noise on a quarter circle, with the score that follows from the denoiser."""

    def mix(self, t):
        return Mix((1.5 * t.double()).cos(), (1.5 * t.double()).sin())

    def base(self, shape, noise, like):
        return noise.normal(like, shape)

    def log_prob(self, z, x0, t):
        k = self.at(t, z)
        return -(((z - k.alpha * x0) / k.sigma) ** 2) / 2 - k.sigma.log() - math.log(2 * math.pi) / 2

    def target(self, z, x0, t):
        return x0

    def score_from_denoiser(self, denoised, z, t):
        k = self.at(t, z)
        return (k.alpha * denoised - z) / k.sigma**2


@killed_by("score-follows-from-the-denoiser")
class DeviationForVariance(Normal):
    """`σ` for `σ²` in Tweedie's formula."""

    def score_from_denoiser(self, denoised, z, t):
        return super().score_from_denoiser(denoised, z, t) * self.at(t, z).sigma


@killed_by("boundary-rule-leaves-what-is-inside")
class EarlyFold(CIR):
    """Reflection a little before the wall."""

    def project(self, proposal, z):
        return (proposal - 1e-3).abs() + 1e-3


@killed_by("earlier-states-have-the-marginals")
class InUnitsOfOne(Normal, Rewindable):
    """A step back whose noise is that of data of width 1; each step is too short to show it."""

    width: float = 1.0

    def mix(self, t):
        k = super().mix(t)
        return Mix(k.alpha, self.width * k.sigma)

    def earlier(self, z, denoised, t, s, noise):
        p, q = self.at(t, z), self.at(s, z)
        if s == 0:
            return denoised
        gain = p.alpha / q.alpha * (q.sigma / p.sigma) ** 2
        variance = q.sigma**2 * (1 - gain * p.alpha / q.alpha) / self.width**2
        return (q.alpha * denoised + gain * (z - p.alpha * denoised) + variance.sqrt() * noise.normal(z)).to(z)

    def step_divergence(self, z, denoised, x0, t, s):
        return (denoised - x0) ** 2


@killed_by("last-steps-end-in-the-support")
class NoiseAtTheEnd(Beta):
    """A last step that draws."""

    def earlier(self, z, denoised, t, s, noise):
        return denoised * (1 - 0.01 * noise.uniform(denoised)) if s == 0 else super().earlier(z, denoised, t, s, noise)


@killed_by("last-steps-end-in-the-support")
class NoLastStep(Thinning):
    """A last step that leaves the state as it is."""

    def earlier(self, z, denoised, t, s, noise):
        return z if s == 0 else super().earlier(z, denoised, t, s, noise)


@killed_by("steps-differ-least-at-the-mean")
class LeastAtTheMedian(Thinning):
    """The distance from the clean state, not its square."""

    def step_divergence(self, z, denoised, x0, t, s):
        return (denoised - x0).abs()


@killed_by("score-is-gradient")
class ScoreOfTwo(VP):
    """The score of the first two entries alone."""

    def score(self, z, x0, t):
        s = super().score(z, x0, t)
        return torch.cat([s[..., :2], 0.9 * s[..., 2:]], -1)


@killed_by("network-sees-enough")
class ClampedInput(CIR):
    """A network that does not see how far out a state is."""

    def network_input(self, z, t):
        return super().network_input(z, t).clamp(-0.7, 0.7)


@killed_by("columns-that-fit-are-taken")
class Sticks(AffineSDE):
    """Shares with zeros, whose coordinates are infinite."""

    name: ClassVar[str] = ""

    @property
    def coordinates(self):
        return StickBreakingTransform()

    def coefficients(self, t):
        return Coefficients((-4 * t).exp(), torch.zeros_like(t), -torch.expm1(-8 * t))

    @classmethod
    def shares_fit(cls, rows):
        return ColumnFit(1, "shares", "sticks")


@killed_by("what-belongs-to-it-fits")
class SaidToBeMultiplicative(VP):
    """Noise that does not grow with the data, and is said to."""

    @property
    def multiplicative(self):
        return True


@killed_by("contract")
class DriftInPlace(VP):
    """A drift that changes the state."""

    def drift(self, z, t):
        return z.mul_(-0.5)


@killed_by("adapted-once")
class SortedInPlace(GBM):
    """Data that are sorted where they lie."""

    def adapted(self, x0):
        x0.copy_(x0.sort(0).values)
        return super().adapted(x0)


@dataclass(frozen=True)
class Pepper(Rewindable):
    """Ones that go out: a zero stays, and a one that is left is known."""

    @property
    def support(self):
        return constraints.boolean

    def perturb(self, x0, t, noise):
        return torch.where(noise.uniform(x0) < t.to(x0), 0.0, x0).to(x0)

    def prior(self, shape, noise, like):
        return like.new_zeros(tuple(shape))

    def denoiser_from_output(self, out, z, t):
        return z + (1 - z) * out.sigmoid()

    def earlier(self, z, denoised, t, s, noise):
        if s == 0:
            return denoised.round()
        return torch.where((z < 0.5) & (noise.uniform(z) < denoised * ((t - s) / t).to(z)), 1.0, z).to(z)

    def step_divergence(self, z, denoised, x0, t, s):
        return (denoised - x0) ** 2


@dataclass(frozen=True)
class ImagesAlone(Reflected):
    """Images at all times: late the density is flat, and its derivatives are rounding alone."""

    def log_prob(self, z, x0, t):
        return by_images(*self._units(z, x0, t), 12)[0] - math.log(self.width)


RIGHT = [
    (Pepper(), "keyed-noise-only"),
    (Pepper(), "output-reaches-the-score"),
    (Pepper(), "earlier-states-have-the-marginals"),
    (ImagesAlone(sigma_max=2.5), "fokker-planck"),
]
"""Right processes, and laws that once condemned such ones."""
