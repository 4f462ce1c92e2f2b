"""Processes that say something wrong of themselves beside their equation, and wrong bridges; each names the law that has to find it."""

import math
from dataclasses import replace

import torch
from torch.distributions import constraints

from sdezoo_plugins.sdes.affine.gbm import GBM
from sdezoo_plugins.sdes.affine.ve import VE
from sdezoo_plugins.sdes.affine.vp import VP
from sdezoo_plugins.sdes.boundary.cir import CIR
from sdezoo_plugins.sdes.boundary.jacobi import Jacobi
from sdezoo_plugins.sdes.boundary.reflected import Reflected
from sdezoo_plugins.sdes.boundary.wright_fisher import WrightFisher
from sdezoo_plugins.sdes.bridges.bridge import BrownianBridge
from sdezoo_plugins.sdes.joint.heston import Heston
from sdezoo_plugins.sdes.joint.rotation import Rotation
from sdezoo_plugins.sdes.non_gaussian.beta import Beta
from sdezoo_plugins.sdes.non_gaussian.levy import Levy
from sdezoo_plugins.sdes.non_gaussian.log_laplace import LogLaplace
from sdezoo_plugins.sdes.non_gaussian.student_t import StudentT
from sdezoo_plugins.sdes.non_gaussian.thinning import Thinning
from tests.conformance.right.losses import mutants

MUTANTS, killed_by = mutants()


@killed_by("prior-density-is-that-of-the-prior")
class DensityWithoutItsConstant(VP):
    """The density of the prior up to a constant."""

    def prior_log_prob(self, z):
        return -(z.double().flatten(1) ** 2).sum(1) / 2


@killed_by("volume-is-that-of-decode")
class VolumeOfTheInverse(GBM):
    """The determinant of `encode`."""

    def log_abs_det(self, z, x):
        return -super().log_abs_det(z, x)


@killed_by("denoised-follows-from-the-score")
class AgainstTheScore(VP):
    """Tweedie's formula with the wrong sign."""

    def denoised(self, z, t, s):
        k = self.at(t, z)
        return (z - k.variance * s) / k.alpha


@killed_by("starts-from-noised-data")
class StartsClean(VE):
    """Data without noise at every time."""

    def start_from(self, x, t, noise):
        return self.encode(x)


@killed_by("walls-are-where-it-says")
class WallsThatAreNotThere(CIR):
    """Walls at 0, which the process never reaches."""

    @property
    def reflecting_boundary(self):
        return True


@killed_by("walls-are-where-it-says")
class WallsForgotten(Jacobi):
    """No walls, also at `a = 1`, where the density is positive at 0."""

    @property
    def reflecting_boundary(self):
        return False


@killed_by("data-are-remembered")
class WrongPriorExcused(VP):
    """A prior that is too wide, excused by a claim."""

    @property
    def forgets_data(self):
        return False

    def prior(self, shape, noise, like):
        return 2 * noise.normal(like, shape)


@killed_by("tail-is-that-of-the-prior")
class PowerLawUnsaid(Levy):
    """Noise with a power law, said to fall faster."""

    @property
    def tail(self):
        return math.inf


@killed_by("tail-is-that-of-the-prior")
class ExponentialTailOfTheData(LogLaplace):
    """Noise without the exponential that lengthens its tail, said to reach every power law."""

    @property
    def support(self):
        return constraints.real

    def encode(self, x, noise=None):
        return x

    def decode_unchecked(self, z):
        return z

    def adapted(self, x0):
        return self


@killed_by("prior-gap")
class EndsTooEarly(LogLaplace):
    """The prior of an origin that only the data's centre has."""

    @property
    def t_span(self):
        return 1e-3, 0.8


@killed_by("increments-keep-the-noise")
class JumpsTogether(LogLaplace):
    """All entries jump at the same times."""

    def increment(self, z, t, s, noise):
        (alpha, sigma), (earlier_alpha, earlier_sigma) = self.at(t, z), self.at(s, z)
        none = (earlier_sigma * alpha / (earlier_alpha * sigma)) ** 2
        return sigma * self.base(z.shape, noise, z) * (noise.uniform(z[:, :1]) >= none)


@killed_by("steps-solve-the-sde")
class StepsTwiceAsLong(CIR):
    """An exact transition over twice the time."""

    def forward_step(self, z, t, dt, noise):
        return self.transition(z, t, t + 2 * dt, noise)


@killed_by("what-belongs-to-it-fits")
class SamplerOfAnother(GBM):
    """A sampler of its own that refuses it."""

    def own_sampler(self):
        return "sscs"


@killed_by("what-belongs-to-it-fits")
class ErrorsThatPay(CIR):
    """Weights of errors that are negative."""

    def score_error_weighting(self, z, t):
        return -z


@killed_by("known-entries-follow")
class EverythingKnown(GBM):
    """All entries of the state, whatever is known of the data."""

    def known_entries(self, known):
        return torch.ones_like(known)


@killed_by("draws-follow-the-density")
class OneScaleForEachEntry(StudentT):
    """A scale for each entry, where the density has one for all: right in each entry alone."""

    def base(self, shape, noise, like):
        halves = like.new_full(tuple(shape), self.nu / 2)
        return noise.normal(like, shape) / (noise.gamma(halves) / halves).sqrt()


@killed_by("variances-make-the-noise")
class IncrementsOfNormalNoise(Levy):
    """The scale of an increment by a difference of squares, nearly right where the noise is nearly normal."""

    def earlier_variance(self, variance, t, s, noise):
        p, q = self.mix(t), self.mix(s)
        return variance * (q.sigma / p.sigma) ** 2


@killed_by("prior-gap")
class NormsEvenlySpaced(Rotation):
    """A prior with the smallest and the largest norm of the data, and all between alike."""

    def prior(self, shape, noise, like):
        z = super().prior(shape, noise, like)
        radii = self.radii or (1.0,)
        r = radii[0] + (radii[-1] - radii[0]) * noise.uniform(z[..., :1])
        return r * z / z.norm(dim=-1, keepdim=True)


@killed_by("states-between-are-those-of-the-bridge")
class NoiseOfTheWholeTime(BrownianBridge):
    """The noise of a span of length 1, whatever its length."""

    def between(self, z0, z1, t, noise):
        a, b = self.span(t)
        u = (t.double() - a) / (b - a)
        return (1 - u) * z0 + u * z1 + self.rate * (u * (1 - u)).clamp(min=0).sqrt() * noise.normal(z0)


@killed_by("states-between-are-those-of-the-bridge")
class NoiseInProportionToTime(BrownianBridge):
    """The scale of a span in proportion to its length."""

    def noise_scale(self, a, b):
        return self.rate * (b - a)


@killed_by("target-points-to-the-knot-below")
class TargetFromZero(BrownianBridge):
    """The time from 0 for that from the knot."""

    def target(self, z, z0, t):
        return (z0 - z) / t.to(z)


@killed_by("the-other-direction-is-the-same-bridge")
class KnotsNotMirrored(BrownianBridge):
    """The same knots in both directions."""

    @property
    def knots(self):
        return tuple((time - self._first) / self._length for time in self._times)


@killed_by("times-of-snapshots-are-kept")
class TimesFromZero(BrownianBridge):
    """The first time forgotten."""

    def user_time(self, t):
        return super().user_time(t) - self._first


@killed_by("distance-is-that-of-the-ends")
class SpreadForDistance(BrownianBridge):
    """The standard deviation, which is the distance over √2."""

    def adapted(self, x0):
        found = super().adapted(x0)
        return type(self)(gap=found.distance / 2**0.5)


@killed_by("ggt-is-the-product")
class SquareOfAllPlanes(Rotation):
    """`g gᵀ` of all planes alike, also where some are chosen, which they are not by default."""

    def ggt(self, z, t, s):
        return super(SquareOfAllPlanes, replace(self, skew=None)).ggt(z, t, s)


@killed_by("prior-fits-what-it-adapts-to")
class NoiseAsWideAsTheData(VE):
    """The spread of the data as terminal noise, not four times that."""

    def adapted(self, x0):
        found = super().adapted(x0)
        return found if self.sigma_max is not None else replace(found, sigma_max=found.sigma_max / 4)


@killed_by("prior-fits-what-it-adapts-to")
class NoiseInAbsoluteUnits(StudentT):
    """Noise that does not grow with the spread of the data: too little for wide data."""

    def mix(self, t):
        found = super().mix(t)
        return replace(found, sigma=found.sigma / self._unit)


@killed_by("decode-inverts-encode")
class SilentOverflow(GBM):
    """The largest number for every state whose data overflow."""

    def decode(self, z):
        return self.decode_unchecked(z).clamp_max(torch.finfo(z.dtype).max)


@killed_by("noise-of-an-entry-is-its-own")
class NoiseOfWhatIsLeft(WrightFisher):
    """Noise that depends on the sticks before it, and does not say so."""

    entrywise_noise = True


@killed_by("scale-is-the-size-of-the-noise")
class ScaleByTime(CIR):
    """The scale of constant rates, though the clock runs slowly near the data."""

    def scale(self, t):
        return (self.sigma**2 / (2 * self.kappa) * -(-2 * self.kappa * t.double()).expm1()).sqrt()


@killed_by("short-steps-take-the-mean")
class RoundedDown(Thinning):
    """A number of missing items that is rounded down."""

    def earlier(self, z, denoised, t, s, noise):
        return super().earlier(z, denoised.floor(), t, s, noise)


@killed_by("long-steps-are-exact-where-it-says")
class DeviationForVariance(Beta):
    """The standard deviation of the data for their variance."""

    def adapted(self, x0):
        found = super().adapted(x0)
        return found if self.variance else replace(found, variance=tuple(v**0.5 for v in found.variance))


@killed_by("draws-follow-the-density")
class GoesAround(Reflected):
    """Steps beyond a wall that come in at the other one."""

    def project(self, proposal, z):
        return self.low + (proposal - self.low).remainder(self.width)


@killed_by("decode-inverts-encode")
class FirstUnitForAll(CIR):
    """The divisor of the first column for all columns."""

    def encode(self, x, noise=None):
        return x if self.unit is None else x / x.new_tensor(self.unit[:1])


@killed_by("stated-equation")
class SpreadLost(GBM):
    """An equation without the spreads of the columns."""

    def equation(self, x, t):
        return GBM.equation(replace(self, spread=None), x, t)


@killed_by("steps-solve-the-sde")
class RevertsToMore(Heston):
    """Steps that revert to a variance that is too large, which shows where the variance is small."""

    def forward_step(self, z, t, dt, noise):
        return Heston(self.mu, self.kappa, 1.3 * self.theta, self.xi, self.rho).forward_step(z, t, dt, noise)
