"""Processes that are wrong beside their defaults: with other choices, more entries, other data; each names the law that has to find it."""

import math
from dataclasses import replace

import torch

from sdezoo_plugins.sdes.affine.exp_ou import ExpOU
from sdezoo_plugins.sdes.affine.gbm import GBM
from sdezoo_plugins.sdes.affine.lift import Lift, Softplus
from sdezoo_plugins.sdes.affine.vp import VP
from sdezoo_plugins.sdes.affine.walls import Walled, Walls
from sdezoo_plugins.sdes.boundary.cir import CIR
from sdezoo_plugins.sdes.boundary.reflected import SWITCH, Reflected, by_eigenfunctions
from sdezoo_plugins.sdes.boundary.wright_fisher import WrightFisher
from sdezoo_plugins.sdes.joint.cld import CLD
from sdezoo_plugins.sdes.joint.fractional import Fractional
from sdezoo_plugins.sdes.joint.heston import Heston
from sdezoo_plugins.sdes.joint.rotation import Rotation
from sdezoo_plugins.sdes.non_gaussian.levy import Levy
from sdezoo_plugins.sdes.non_gaussian.log_laplace import LogLaplace
from sdezoo_plugins.sdes.non_gaussian.student_t import StudentT
from sdezoo_plugins.sdes.non_gaussian.thinning import Thinning
from sdezoo_plugins.sdes.shared.coalescent import EARLIEST
from tests.conformance.right.losses import mutants

MUTANTS, killed_by = mutants()


@killed_by("every-parameter-counts")
class Unheeded(VP):
    """The default of a hyper-parameter for what is given."""

    def coefficients(self, t):
        return VP(self.beta_min).coefficients(t)

    def equation(self, x, t):
        return VP(self.beta_min).equation(x, t)


@killed_by("what-is-added-leaves-little-to-learn")
class Pointed(CLD):
    """The score of data at 0 is added, where that of normal data belongs: both are the prior's at the last time."""

    def score_from_output(self, s, z, t):
        return self._driven(s.chunk(2, 1)[1] + self._velocity_score(z, 0 * z[:, 0], t, 0.0))


@killed_by("draws-follow-the-density")
class Uncut(Levy):
    """Noise that is not cut where its density is; a clamp would hide it."""

    def base(self, shape, noise, like):
        return replace(self, angle_cut=0.0).base(shape, noise, like) if self.angle_cut else super().base(shape, noise, like)


@killed_by("density-has-no-jumps")
class TwoTerms(Reflected):
    """Two eigenfunctions for six: just beyond the switch the density is off by 3e-4."""

    def log_prob(self, z, x0, t):
        u, y, tau = self._units(z, x0, t)
        late = by_eigenfunctions(u, y, tau.clamp_min(SWITCH), 2)[0] - math.log(self.width)
        return torch.where(tau <= SWITCH, super().log_prob(z, x0, t), late)


@killed_by("density-has-no-jumps")
class OneTerm(Reflected):
    """One eigenfunction for six: each solves the equation, and the integral of each is 0."""

    def log_prob(self, z, x0, t):
        u, y, tau = self._units(z, x0, t)
        late = by_eigenfunctions(u, y, tau.clamp_min(SWITCH), 1)[0] - math.log(self.width)
        return torch.where(tau <= SWITCH, super().log_prob(z, x0, t), late)


@killed_by("draws-follow-the-density")
class ConstantOfThree(Fractional):
    """The constant of three normal numbers in the density of four."""

    def log_prob(self, z, x0, t):
        return super().log_prob(z, x0, t) + math.log(2 * math.pi) / 2


@killed_by("walls-are-where-it-says")
class NeverAtWalls(CIR):
    """No walls, also where the noise is as large as it may be."""

    @property
    def reflecting_boundary(self):
        return False


@killed_by("increments-keep-the-noise")
class JumpsTogether(LogLaplace):
    """Entries jump together, each by its own number."""

    def increment(self, z, t, s, noise):
        (alpha, sigma), (earlier_alpha, earlier_sigma) = self.at(t, z), self.at(s, z)
        none = (earlier_sigma * alpha / (earlier_alpha * sigma)) ** 2
        return sigma * self.base(z.shape, noise, z) * (noise.uniform(z[..., :1]) >= none)


@killed_by("tail-is-that-of-the-prior")
class ExactIfCut(Levy):
    """Increments of truncated noise that are said to be exact."""

    @property
    def inexact_increments(self):
        return None if self.clamp is None else super().inexact_increments


@killed_by("prior-gap")
class MediansAlone(Heston):
    """A prior from the medians of the data, without their spread."""

    def prior(self, shape, noise, like):
        return replace(self, spread=None).perturb(like.new_tensor(self._typical).expand(tuple(shape)), torch.tensor(1.0).double(), noise)


@killed_by("prior-gap")
class AtTheirOwnRate(Rotation):
    """Given matrices are not scaled."""

    @property
    def _matrices(self):
        return torch.tensor(self.skew, dtype=torch.float64)


@killed_by("long-steps-are-exact-where-it-says")
class DeviationOfCounts(Thinning):
    """The standard deviation of the data for their variance, which is below the mean for data that are not spread widely."""

    def adapted(self, x0):
        found = super().adapted(x0)
        return found if self.variance else replace(found, variance=tuple(v**0.5 for v in found.variance))


class _Turned(Softplus):
    def log_abs_det_jacobian(self, x, y):
        return super().log_abs_det_jacobian(-x, y)


@killed_by("volume-is-that-of-decode")
class VolumeOfOneChoice(Lift):
    """A sign in the volume of one of the transforms."""

    @property
    def coordinates(self):
        return _Turned() if self.transform == "softplus" and self.low is None and not self.spread else super().coordinates


@killed_by("stated-equation")
class CorrectionInUnits(GBM):
    """Itô's correction without the spread of the columns, which shows if drift and spread are given together."""

    def _shift(self, drift, variance):
        return super()._shift(drift + (self._spread.to(drift) - 1) * variance / 2 * self._spread.to(drift), variance)


@killed_by("adapted-once")
class SumForMean(CIR):
    """The sum of the values of a column in the place of their mean."""

    def adapted(self, x0):
        return super().adapted(x0) if self.unit else replace(self, unit=tuple(x0.double().sum(0).reshape(-1).tolist())).adapted(x0)


class _HighFromZero(Walled):
    def _call(self, x):
        return torch.where(x.chunk(2, 1)[1] > 0, self.high, super()._call(x))


@killed_by("decode-inverts-encode")
class HighFromZero(Walls):
    """Values whose mark is above 0, where that of values inside is, are on the upper wall."""

    @property
    def coordinates(self):
        return _HighFromZero(self.low, self.high, self.center or (0.0,), self.spread or (1.0,), self.threshold or (1.0,))


@killed_by("steps-do-not-pile-up")
class ClampedSticks(WrightFisher):
    """Clamping in place of the fold; near the data steps are too small to show it."""

    def project(self, proposal, z):
        return proposal.clamp(1e-6, 1 - 1e-6)


@killed_by("adapted-once")
class GrowthMeasuredAgain(CIR):
    """The growth of the clock is set from the data, also where it is given; numbers below 1 are none."""

    def adapted(self, x0):
        return super().adapted(x0) if self.start else replace(super().adapted(x0), growth=replace(self, growth=None).adapted(x0).growth)


@killed_by("zero-is-a-number")
class NoMeanOfZero(ExpOU):
    """A mean of 0 is taken for none."""

    @property
    def _stationary(self):
        return self.mean or 0.5, self.sigma or 1.0


@killed_by("prior-is-of-noised-data")
class WiderPrior(VP):
    """A tenth too much noise at the start of sampling: 0.01 nats."""

    def prior(self, shape, noise, like):
        return 1.1 * noise.normal(like, shape)


@killed_by("prior-is-of-noised-data")
class LowPrior(ExpOU):
    """A fifth of the mean is missing, which is little beside the spread unless data are far from 0."""

    def prior(self, shape, noise, like):
        mean, sigma = self._stationary
        return 0.8 * mean + sigma * noise.normal(like, shape)


@killed_by("tail-is-that-of-its-density")
class LighterByOne(StudentT):
    """The index of the density for that of the tail."""

    @property
    def tail(self):
        return self.nu + 1


@killed_by("density-has-no-jumps")
class ShortOfATerm(WrightFisher):
    """A term of the density is left out at short times: it is off by 2e-4 where another formula takes over, less than it changes nearby."""

    def log_prob(self, z, x0, t):
        tau = self._tau(t).to(z)
        return super().log_prob(z, x0, t) - torch.where(tau < EARLIEST, tau / 24, 0.0)
