"""Wrong processes: each makes one plausible mistake, and names the law that has to find it.

`GBMInX` is the right process that most of the mistakes beyond affine processes are made in: geometric Brownian motion
written on the data, where the noise depends on the state.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch.distributions import ExpTransform, constraints

from sdezoo import AffineSDE, Coefficients, Conditional, ForwardSDE
from sdezoo.conformance.bank.loss_trials import Logistic
from sdezoo.conformance.bank.sampler_problems import Sheared
from sdezoo.parameters import Positive
from sdezoo.process.affine import Ambient, slopes
from sdezoo.process.interpolant import Interpolant, Mix
from sdezoo_plugins.sdes.affine.gbm import GBM
from sdezoo_plugins.sdes.affine.subvp import SubVP
from sdezoo_plugins.sdes.affine.ve import VE
from sdezoo_plugins.sdes.affine.vp import VP
from sdezoo_plugins.sdes.boundary.cir import CIR
from sdezoo_plugins.sdes.joint.cld import CLD
from sdezoo_plugins.sdes.non_gaussian.beta import Beta
from sdezoo_plugins.sdes.non_gaussian.levy import Levy
from sdezoo_plugins.sdes.non_gaussian.student_t import StudentT
from sdezoo_plugins.sdes.non_gaussian.thinning import Thinning
from tests.process.edges import BetweenWalls, Kinetic


@dataclass(frozen=True)
class GBMInX(ForwardSDE, Conditional):
    """`dX = μX dt + σX dW` on the positive numbers, with its log-normal transition; the prior is that of data at 1."""

    sigma: Positive = 0.8
    mu: float = 0.3

    @property
    def support(self):
        return constraints.positive

    def drift(self, z, t):
        return self.mu * z

    def diffusion(self, z, t):
        return self.sigma * z

    def project(self, proposal, z):
        """Reflected at 0, which the exact process never reaches."""
        return proposal.abs() + torch.finfo(proposal.dtype).tiny

    def scale(self, t):
        return self.sigma * t.sqrt()

    def spread(self, t, like):
        return ((self.mu - self.sigma**2 / 2) * t).to(like), (self.sigma * t.sqrt()).to(like)

    def perturb(self, x0, t, noise):
        mean, deviation = self.spread(t, x0)
        return x0 * torch.exp(mean + deviation * noise.normal(x0))

    def log_prob(self, z, x0, t):
        mean, deviation = self.spread(t, z)
        away = ((z / x0).log() - mean) / deviation
        return -(away**2) / 2 - deviation.log() - z.log() - math.log(2 * math.pi) / 2

    def prior(self, shape, noise, like):
        return self.perturb(torch.ones(tuple(shape), dtype=like.dtype), torch.tensor(1.0, dtype=torch.float64), noise)


class _ScoreAlone(GBMInX):
    """The right score, and no density."""

    log_prob = Conditional.log_prob

    def score(self, z, x0, t):
        mean, deviation = self.spread(t, z)
        return -(1 + ((z / x0).log() - mean) / deviation**2) / z


@dataclass(frozen=True)
class ScoreAlone(_ScoreAlone):
    """As `GBMInX`, with a conditional score and without a density."""


MUTANTS = []


def mutant(law, *fields):
    """Register a mutant: a subclass that makes the mistake its docstring states."""

    def register(cls):
        kind = dataclass(frozen=True)(cls)
        MUTANTS.append((cls.__name__, kind(*fields), law))
        return kind

    return register


# Affine processes: their coefficients against the equation that they state.


@mutant("stated-equation")
class NoItoCorrection(GBM):
    """The drift of `log x` without `−σ²/2`."""

    def coefficients(self, t):
        k = super().coefficients(t)
        return k._replace(shift=(self.mu or 0.0) * t if self.mu is not None else k.variance / 2)


@mutant("stated-equation")
class ItoCorrectionWithTheWrongSign(GBM):
    """`+σ²/2` for `−σ²/2`."""

    def coefficients(self, t):
        k = super().coefficients(t)
        return k._replace(shift=k.shift + k.variance)


@mutant("stated-equation")
class ItoCorrectionWithoutItsHalf(GBM):
    """`−σ²` for `−σ²/2`."""

    def coefficients(self, t):
        k = super().coefficients(t)
        return k._replace(shift=k.shift - k.variance / 2)


@mutant("stated-equation", 0.8)
class SigmaForItsSquare(GBM):
    """`v = σ t`."""

    def coefficients(self, t):
        k = super().coefficients(t)
        return k._replace(variance=k.variance / self._volatilities[0])


@mutant("stated-equation", 0.8)
class RootOfTime(GBM):
    """`v = σ² √t`."""

    def coefficients(self, t):
        k = super().coefficients(t)
        return k._replace(variance=self._volatilities[0] ** 2 * t.sqrt())


@mutant("stated-equation")
class SignalWithoutItsHalf(VP):
    """`α = e^{−B}`."""

    def coefficients(self, t):
        k = super().coefficients(t)
        return k._replace(alpha=k.alpha**2)


@mutant("stated-equation")
class VarianceOfTheSignal(VP):
    """`v = 1 − α` for `1 − α²`."""

    def coefficients(self, t):
        k = super().coefficients(t)
        return k._replace(variance=1 - k.alpha)


@mutant("stated-equation")
class IntegralWithoutItsHalf(VP):
    """`∫β` without the ½ of `t²/2`."""

    def _integral(self, t):
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2


@mutant("stated-equation")
class VarianceNotSquared(SubVP):
    """That of `vp`."""

    def coefficients(self, t):
        k = super().coefficients(t)
        return k._replace(variance=k.variance.sqrt())


@mutant("coefficients-start-at-the-data")
class NoiseAtTimeZero(VE):
    """`v = σ_min² r^{2t}`, as printed, which is not 0 at `t = 0`."""

    def coefficients(self, t):
        k = super().coefficients(t)
        return k._replace(variance=k.variance + self._range[0] ** 2)


@mutant("coefficients-start-at-the-data")
class NoiseThatShrinks(VE):
    """`v` falls again after `t = 0.7`."""

    def coefficients(self, t):
        k = super().coefficients(t)
        return k._replace(variance=torch.sin(math.pi * t / 1.4) ** 2)


@mutant("coefficients-start-at-the-data")
class SignalLostAtTimeZero(VP):
    """`α(0) = 0.99`."""

    def coefficients(self, t):
        k = super().coefficients(t)
        return k._replace(alpha=0.99 * k.alpha)


# Affine processes: what they override against their coefficients.


@mutant("moments-solve-the-sde")
class DriftWithTheWrongSign(VP):
    """`+½ β x`."""

    def drift(self, z, t):
        return -super().drift(z, t)


@mutant("moments-solve-the-sde")
class DiffusionSquared(VP):
    """`g²` for `g`."""

    def diffusion(self, z, t):
        return super().diffusion(z, t) ** 2


@mutant("moments-solve-the-sde")
class DriftOffByOne(VP):
    """The drift of the next of 1000 times."""

    def drift(self, z, t):
        return super().drift(z, t + 1e-3)


@mutant("prior-gap")
class PriorWithVarianceForDeviation(VE):
    """`N(0, v²)`."""

    def prior(self, shape, noise, like):
        return self.exact(torch.tensor(1.0)).variance * noise.normal(like, shape)


@mutant("prior-gap")
class PriorWithoutTheShift(GBM):
    """`N(0, v)`, where `m(1)` is not 0."""

    def prior(self, shape, noise, like):
        return self.exact(torch.tensor(1.0)).sigma * noise.normal(like, shape)


@mutant("prior-gap", 0.8)
class PriorOfUnitVariance(GBM):
    """`N(0, 1)`, whatever `σ`."""

    def prior(self, shape, noise, like):
        return noise.normal(like, shape)


@mutant("score-is-gradient")
class ScoreOverDeviation(VP):
    """`(α z_0 − z)/σ` for `/σ²`."""

    def score(self, z, x0, t):
        return super().score(z, x0, t) * self.at(t, z).sigma


@mutant("score-is-gradient")
class ScoreOfTheWrongVariable(GBM):
    """The Hyvärinen score, which is 1 less than that of `log x`."""

    def score(self, z, x0, t):
        return super().score(z, x0, t) - 1


@mutant("score-is-gradient")
class ScoreWithTheWrongSign(VE):
    """Uphill for downhill."""

    def score(self, z, x0, t):
        return -super().score(z, x0, t)


@mutant("score-is-gradient")
class ScoreOfAnotherDensity(VE):
    """Computed together, the density has lost its factor."""

    def log_prob_and_score(self, z, x0, t):
        density, score = super().log_prob_and_score(z, x0, t)
        return density + 0.1, score


@mutant("score-is-gradient")
class ScoreOffByOne(VE):
    """Noise at `t`, target at the next of 1000 times, as in the authors' code."""

    def score(self, z, x0, t):
        return super().score(z, x0, t + 1e-3)


@mutant("draws-have-the-coefficients")
class NoiseOfVariance(VP):
    """`σ² ε` for `σ ε`."""

    def perturb(self, x0, t, noise):
        k = self.at(t, x0)
        return k.alpha * x0 + k.variance * noise.normal(x0)


@mutant("draws-have-the-coefficients")
class DrawOffByOne(VP):
    """A draw at the next of 1000 times."""

    def perturb(self, x0, t, noise):
        return super().perturb(x0, torch.where(t > 0, t + 1e-3, t), noise)


@mutant("time-zero-is-the-data")
class NeverClean(VP):
    """`t` kept above 1e-2."""

    def perturb(self, x0, t, noise):
        return super().perturb(x0, t.clamp_min(1e-2), noise)


@mutant("posterior-is-bayes")
class PosteriorWithForwardVariance(VP):
    """The variance of `z_t | z_s` for that of `z_s | z_t, z_0`."""

    def posterior(self, z, z0, t, s):
        p, q = self.at(t, z), self.at(s, z)
        return super().posterior(z, z0, t, s)[0], p.variance - (p.alpha / q.alpha) ** 2 * q.variance


@mutant("posterior-is-bayes")
class PosteriorWithoutShift(GBM):
    """The shift of the noised state forgotten."""

    def posterior(self, z, z0, t, s):
        return super().posterior(z + self.at(t, z).shift, z0, t, s)


@dataclass(frozen=True)
class _Stratonovich(Ambient):
    def drift(self, z, t):
        state = self.base.encode(z)
        return slopes(self.base.coordinates, state)[0] * self.base.drift(state, t)


@mutant("ambient-is-ito")
class AmbientWithoutSecondDerivative(GBM):
    """The chain rule of Stratonovich for that of Itô."""

    def ambient(self):
        return _Stratonovich(self)


@mutant("time-at-inverts-the-ratio")
class TimeOfTheDeviation(VP):
    """The time at which `σ`, not `σ/α`, has the value."""

    def time_at(self, ratio):
        return super().time_at(ratio / (1 + ratio**2).sqrt())


# Coordinates, precision, rows, noise.


@mutant("decode-inverts-encode")
class LogOfShifted(GBM):
    """`log(x + 1e-3)`."""

    def encode(self, x, noise=None):
        return super().encode(x + 1e-3, noise)


@mutant("decode-inverts-encode")
class ClampedSupport(GBM):
    """Data clamped to `[0.01, 50]`."""

    def decode(self, z):
        return super().decode(z).clamp(0.01, 50)


@mutant("precision")
class CoefficientsInFloat32(VP):
    """Times cast to float32."""

    def coefficients(self, t):
        return Coefficients(*(c.double() for c in super().coefficients(t.float())))


@mutant("precision")
class StatesInFloat32(GBM):
    """Data cast to float32 and back."""

    def encode(self, x, noise=None):
        return super().encode(x.float(), noise).to(x.dtype)


@mutant("precision")
class DrawsInFloat32(VP):
    """Draws cast to float32 and back."""

    def perturb(self, x0, t, noise):
        return super().perturb(x0, t, noise).float().to(x0.dtype)


@mutant("precision")
class DrawsAtTimesInFloat32(GBMInX):
    """Times cast to float32 where the noise is drawn."""

    def perturb(self, x0, t, noise):
        return super().perturb(x0, t.float().double(), noise)


@mutant("precision")
class DrawsFromDataInFloat32(CIR):
    """Data cast to float32 where a Gamma number with a Poisson number of terms is drawn."""

    def perturb(self, x0, t, noise):
        return super().perturb(x0.float().to(x0.dtype), t, noise)


@mutant("contract")
class PriorInFloat32(VP):
    """A prior that ignores the dtype that it is asked for."""

    def prior(self, shape, noise, like):
        return super().prior(shape, noise, like).float()


@mutant("rows-are-independent")
class CentredBatch(VP):
    """The mean of the batch subtracted from the data."""

    def encode(self, x, noise=None):
        return x - x.mean(0, keepdim=True)


@mutant("rows-are-independent")
class TimesAlongTheEvent(VP):
    """Times `(B,)` against states `(B, d)`: a mistake that shows only where `B = d`."""

    def drift(self, z, t):
        if t.ndim and z.ndim == 2 and len(z) == z.shape[1]:
            t = t.reshape(-1)
        return super().drift(z, t)


@mutant("rows-are-independent")
class LargestOfTheBatch(VE):
    """The drift scaled by the largest state of the batch."""

    def drift(self, z, t):
        return super().drift(z, t) - 0.1 * z / z.abs().amax().clamp_min(1)


@mutant("keyed-noise-only")
class GlobalNoise(VP):
    """`torch.randn_like`."""

    def perturb(self, x0, t, noise):
        k = self.at(t, x0)
        return k.alpha * x0 + k.sigma * torch.randn_like(x0)


@mutant("keyed-noise-only")
class FixedNoise(VE):
    """A generator of its own, always with the same seed."""

    def prior(self, shape, noise, like):
        return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(like)


@mutant("contract")
class OneNoiseForTheBatch(VP):
    """The same noise for all rows."""

    def perturb(self, x0, t, noise):
        k = self.at(t, x0)
        return k.alpha * x0 + k.sigma * noise.normal(x0, (1, *x0.shape[1:]))


@mutant("rows-are-independent")
class FirstNoiseForAll(VP):
    """The first row's noise for all rows."""

    def perturb(self, x0, t, noise):
        k = self.at(t, x0)
        return k.alpha * x0 + k.sigma * noise.normal(x0)[:1]


# Configuration and the contract.


@mutant("config-round-trip", 2.0)
class DoubledWhenBuilt(VE):
    """A field that is changed at construction, each time anew."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "sigma_max", 2 * self.sigma_max if self.sigma_max else None)


@mutant("config-round-trip")
class Thawed(VP):
    """Fields that can be assigned."""


Thawed.__setattr__ = object.__setattr__


@mutant("adapted-once")
class AdaptedAgainAndAgain(VE):
    """A parameter that grows with every look at the data."""

    def adapted(self, x0):
        return replace(self, sigma_max=2 * (self.sigma_max or 1.0))


@mutant("contract")
class NotANumber(VP):
    """`0/0` at the first time."""

    def drift(self, z, t):
        return super().drift(z, t) * (t - self.t_span[0]) / (t - self.t_span[0])


@mutant("contract")
class LostEntry(VP):
    """A drift of the wrong shape."""

    def drift(self, z, t):
        return super().drift(z, t).flatten(1).sum(1)


@mutant("contract")
class Raises(VP):
    """It fails beyond one row."""

    def diffusion(self, z, t):
        if len(z) > 1:
            raise ValueError("only one row")
        return super().diffusion(z, t)


@mutant("contract")
class FromTheVeryStart(VP):
    """Scores at `t = 0`."""

    @property
    def t_span(self):
        return 0.0, 1.0


@mutant("contract")
class ScaleOfNothing(VP):
    """A scale that vanishes."""

    def scale(self, t):
        return 0 * t


# State-dependent noise.


@mutant("divergence-is-that-of-ggt")
class DivergenceOfAdditiveNoise(GBMInX):
    """The divergence left out, as for additive noise."""

    def divergence(self, z, t):
        return torch.zeros_like(z)


@mutant("divergence-is-that-of-ggt")
class HalfTheDivergence(GBMInX):
    """`σ² x` for `2σ² x`."""

    def divergence(self, z, t):
        return self.sigma**2 * z


@mutant("reverse-drift-is-andersons")
class ReversalWithoutDivergence(GBMInX):
    """`f − g² s`."""

    def reverse_drift(self, z, t, s, half=1.0):
        return self.drift(z, t) - half * self.ggt(z, t, s)


@mutant("reverse-sde-has-the-marginals")
class ReversalWithoutDivergenceUnseen(GBMInX):
    """The same mistake, found by the draws alone."""

    reverse_drift = ReversalWithoutDivergence.reverse_drift


@mutant("reversal-recovers-the-law")
class ReversalWithoutDivergenceOnPaths(GBMInX):
    """The same mistake, found by running back."""

    reverse_drift = ReversalWithoutDivergence.reverse_drift


@mutant("probability-flow-has-the-marginals")
class FlowWithTheWholeScore(GBMInX):
    """`half` ignored."""

    def reverse_drift(self, z, t, s, half=1.0):
        return super().reverse_drift(z, t, s)


@mutant("ggt-is-the-product")
class DiffusionOnce(GBMInX):
    """`g s` for `g gᵀ s`."""

    def ggt(self, z, t, s):
        return self.diffusion(z, t) * s


@mutant("fokker-planck")
class StratonovichDrift(GBMInX):
    """`(μ − σ²/2) x` as Itô's drift."""

    def drift(self, z, t):
        return (self.mu - self.sigma**2 / 2) * z


@mutant("fokker-planck")
class AdditiveDiffusion(GBMInX):
    """`σ` for `σ x`."""

    def diffusion(self, z, t):
        return self.sigma * torch.ones_like(z)


@mutant("draws-follow-the-density")
class DensityWithoutJacobian(GBMInX):
    """The density of `log x` for that of `x`."""

    def log_prob(self, z, x0, t):
        return super().log_prob(z, x0, t) + z.log()


@mutant("draws-follow-the-density")
class DrawsWithoutItoCorrection(GBMInX):
    """`x_0 exp(μ t + σ √t ε)`."""

    def perturb(self, x0, t, noise):
        return x0 * torch.exp((self.mu * t).to(x0) + self.spread(t, x0)[1] * noise.normal(x0))


@mutant("draws-have-the-score")
class ScoreOfTheLogarithm(_ScoreAlone):
    """`∇ log p` in `log x` for that in `x`."""

    def score(self, z, x0, t):
        return super().score(z, x0, t) * z


@mutant("draws-have-the-score")
class ScoreWithoutJacobian(_ScoreAlone):
    """The `−1/x` forgotten."""

    def score(self, z, x0, t):
        return super().score(z, x0, t) + 1 / z


@mutant("draws-have-the-score")
class ScoreOffByOneOnDraws(_ScoreAlone):
    """Noise at `t`, score at the next of 1000 times, without a density to compare with."""

    def score(self, z, x0, t):
        return super().score(z, x0, t + 1e-3)


@mutant("draws-solve-the-sde")
class DrawsWithoutDensity(_ScoreAlone):
    """Draws without Itô's correction, and no density to compare with."""

    perturb = DrawsWithoutItoCorrection.perturb


@mutant("draws-agree-with-paths")
class ClampedPaths(GBMInX):
    """Paths clamped at 0.5."""

    def project(self, proposal, z):
        return proposal.clamp_min(0.5)


@mutant("chapman-kolmogorov")
class ForgottenLater(GBMInX):
    """A volatility that grows in the second half of time, which `perturb` does not know."""

    def diffusion(self, z, t):
        return self.sigma * z * torch.where(t > 0.5, 1.5, 1.0)


@mutant("support")
class StepsOutOfTheSupport(GBMInX):
    """Euler steps in `x` without a rule at the boundary."""

    def project(self, proposal, z):
        return proposal


# Boundaries and auxiliary states.


@mutant("draws-follow-the-density")
class DensityWithoutImages(BetweenWalls):
    """The normal density on the unit interval, as if there were no walls."""

    def log_prob(self, z, x0, t):
        scale = self.scale(t).to(z)
        return -0.5 * ((z - x0) / scale) ** 2 - (scale * math.sqrt(2 * math.pi)).log()


@mutant("steps-do-not-pile-up")
class ClampedAtTheWalls(BetweenWalls):
    """Clipping for reflection, in the paths."""

    def project(self, proposal, z):
        return proposal.clamp(0, 1)

    def perturb(self, x0, t, noise):
        return BetweenWalls.project(self, (x0 + self.scale(t) * noise.normal(x0)).to(x0), x0)


@mutant("draws-follow-the-density")
class ClampedDraws(BetweenWalls):
    """Clipping for reflection, in the draws."""

    def perturb(self, x0, t, noise):
        return (x0 + self.scale(t) * noise.normal(x0)).to(x0).clamp(0, 1)


@mutant("support")
class PriorOutsideTheWalls(BetweenWalls):
    """A normal prior on the unit interval."""

    def prior(self, shape, noise, like):
        return noise.normal(like, shape)


@mutant("prior-gap")
class PriorOfAnotherShape(BetweenWalls):
    """A triangular prior where the stationary law is uniform."""

    def prior(self, shape, noise, like):
        return (noise.uniform(like, shape) + noise.uniform(like, shape)) / 2


@mutant("fokker-planck")
class NoiseOnPositions(Kinetic):
    """Noise on the positions as well."""

    def diffusion(self, z, t):
        return math.sqrt(2 * self.beta) * torch.ones_like(z)


@mutant("fokker-planck")
class UndampedVelocity(Kinetic):
    """Half the damping."""

    def drift(self, z, t):
        x, v = z.unbind(1)
        return self.beta * torch.stack([4 * v, -x - 2 * v], 1)


@mutant("prior-gap")
class VelocityOfUnitVariance(Kinetic):
    """A velocity prior of variance 1 for 1/4."""

    def prior(self, shape, noise, like):
        return torch.stack([noise.normal(like, shape), noise.normal(like, shape)], 1)


@mutant("score-is-gradient")
class ScoreOfThePosition(Kinetic):
    """The score in the position where that in the velocity is asked for."""

    def score(self, z, x0, t):
        return self.score_from_output(Conditional.score(self, z, x0, t).flip(1).flatten(1, 2), z, t)


# Interpolants, which learn a denoiser.


@dataclass(frozen=True)
class NormalInterpolant(Interpolant, Conditional):
    """A right one, whose noise is normal: its score is known, and follows from the denoiser."""

    def mix(self, t):
        return Mix(1 - 0.9 * t.double(), t.double())

    def base(self, shape, noise, like):
        return noise.normal(like, shape)

    def log_prob(self, z, x0, t):
        k = self.at(t, z)
        return -0.5 * ((z - k.alpha * x0) / k.sigma) ** 2 - (k.sigma * math.sqrt(2 * math.pi)).log()

    def score(self, z, x0, t):
        return self.score_from_denoiser(x0, z, t)

    def score_from_denoiser(self, denoised, z, t):
        k = self.at(t, z)
        return (k.alpha * denoised - z) / k.sigma**2


@mutant("score-is-gradient")
class ScoreOfTheFlow(StudentT, Conditional):
    """What the flow would ask of normal noise, called the score of Student's."""

    def score(self, z, x0, t):
        k = self.at(t, z)
        return (k.alpha * x0 - z) / k.sigma**2


@mutant("draws-have-the-score")
class ScoreOfTheFlowAlone(Logistic, Conditional):
    """The same for logistic noise, and no density to compare with."""

    log_prob = Conditional.log_prob

    def score(self, z, x0, t):
        k = self.at(t, z)
        return (k.alpha * x0 - z) / k.sigma**2


@mutant("flow-has-the-marginals")
class SlowerFade(Logistic):
    """Draws in which the data fade more slowly than in the mixture."""

    def perturb(self, x0, t, noise):
        k = self.at(t, x0)
        return k.alpha.sqrt() * x0 + k.sigma * self.base(x0.shape, noise, x0)


@mutant("flow-has-the-marginals")
class TargetOfTheNoise(Logistic):
    """The noise for a target in the place of the clean state."""

    def target(self, z, x0, t):
        k = self.at(t, z)
        return (z - k.alpha * x0) / k.sigma


@mutant("flow-has-the-marginals")
class TargetShrunk(Logistic):
    """A target that is a tenth too small."""

    def target(self, z, x0, t):
        return 0.9 * x0


@mutant("flow-has-the-marginals")
class VelocityOfTheData(Logistic):
    """The noise left out of the velocity."""

    def velocity(self, z, t, denoised):
        return super().velocity(z * 0, t, denoised)


@mutant("target-has-its-mean")
class DensityOfNormalNoise(Logistic):
    """The density of normal noise of the same variance."""

    log_prob = NormalInterpolant.log_prob


@mutant("contract")
class NoErrorAtAll(Logistic):
    """Errors of size 0, by which a loss would divide."""

    def error_scale(self, t):
        return torch.zeros_like(t)


@mutant("increments-keep-the-noise")
class ScalesSubtracted(Levy):
    """The scale of an increment is a difference of scales."""

    def increment(self, z, t, s, noise):
        p, q = self.mix(t), self.mix(s)
        return (p.sigma - p.alpha / q.alpha * q.sigma) * self.base(z.shape, noise, z)


@mutant("increments-keep-the-noise", 1.2)
class SumsOfTruncatedNoise(Levy):
    """Truncated noise whose sums are said to be truncated alike."""

    clamp: Positive | None = 2.0

    @property
    def inexact_increments(self):
        return None


@mutant("variances-make-the-noise")
class VarianceOfAnyNoise(Levy):
    """A variance that has nothing to do with the noise at hand."""

    def variance_given(self, y, t, noise):
        return super().variance_given(self.mix(t).sigma * self.base(y.shape, noise, y), t, noise)


@mutant("variances-make-the-noise")
class ShrinkForgotten(Levy):
    """The variance of the earlier noise as it is seen at the later time."""

    def earlier_variance(self, variance, t, s, noise):
        return (self.mix(t).alpha / self.mix(s).alpha) ** 2 * super().earlier_variance(variance, t, s, noise)


# Other SDEs: drift and diffusion against the equation that they state.


@dataclass(frozen=True)
class MeanReverting(ForwardSDE):
    """`dX = κ (1 − X) dt + σ X dW` on the positive numbers, in `z = ln X`: not affine, and without a known transition."""

    kappa: Positive = 2.0
    sigma: Positive = 0.8

    @property
    def support(self):
        return constraints.positive

    def encode(self, x, noise=None):
        return x.log()

    def decode(self, z):
        return super().decode(z.exp())

    def drift(self, z, t):
        return self.kappa * (torch.exp(-z) - 1) - self.sigma**2 / 2

    def diffusion(self, z, t):
        return torch.full_like(z, self.sigma)

    def prior(self, shape, noise, like):
        ratio = 2 * self.kappa / self.sigma**2
        return (ratio / noise.gamma(like.new_full(tuple(shape), 1 + ratio))).log()

    def equation(self, x, t):
        return self.kappa * (1 - x), self.sigma * x


@mutant("stated-equation")
class LostItoTerm(MeanReverting):
    """The drift of the logarithm without `−σ²/2`."""

    def drift(self, z, t):
        return self.kappa * (torch.exp(-z) - 1)


@mutant("stated-equation")
class NoiseOfTheDataInTheLogarithm(MeanReverting):
    """`σ x` for `σ` in the logarithm."""

    def diffusion(self, z, t):
        return self.sigma * z.exp()


# What a network sees.


@mutant("noise-conditioning-tells-times-apart")
class TimesFolded(VP):
    """Early and late times look the same."""

    def noise_conditioning(self, t):
        return (t - 0.5).abs()


@mutant("scale-is-the-deviation")
class ScaleIsTheVariance(VP):
    """`σ²` for `σ`."""

    def scale(self, t):
        return super().scale(t) ** 2


@mutant("output-reaches-the-score")
class OutputInThePosition(Kinetic):
    """The output goes to the position, which noise does not drive."""

    def score_from_output(self, s, z, t):
        position, _ = s.chunk(2, 1)
        return torch.stack([position, torch.zeros_like(position)], 1)


@mutant("network-sees-enough")
class PositionHidden(Kinetic):
    """The network sees the velocity alone, and the score of a velocity depends on the position."""

    def network_input(self, z, t):
        return torch.cat([z[:, 1], z[:, 1]], 1)


# Ends and boundaries.


@mutant("draws-start-as-encoded")
class VelocityStartsAtRest(Kinetic):
    """Data are encoded with velocity 0, and noised as if it were random."""

    def encode(self, x, noise):
        return torch.stack([x, 0 * noise.normal(x)], 1)


@mutant("no-density-at-walls")
class WallsUnsaid(BetweenWalls):
    """Walls at which the density is positive, and which it does not mention."""

    reflecting_boundary = False


@mutant("prior-gap")
class OneNoiseForAllEntries(VP):
    """A prior whose margins are right, and whose entries are all the same."""

    def prior(self, shape, noise, like):
        return noise.normal(like, (shape[0], *(1,) * (len(shape) - 1))).expand(tuple(shape)).contiguous()


@mutant("stationary-score-is-that-of-the-prior")
class ScoreOfUnitMass(CLD):
    """The stationary score of a velocity of variance 1, whose variance is the mass."""

    def stationary_score(self, z, t):
        return self._driven(-z[:, 1])


@mutant("stationary-reversal-agrees-with-paths")
class ForwardForReverse(CLD):
    """The velocity is not reversed: the transition of the process itself."""

    def reverse_transition(self, z, t, s, noise):
        turned = torch.stack([z[:, 0], -z[:, 1]], 1)
        ended = super().reverse_transition(turned, t, s, noise)
        return torch.stack([ended[:, 0], -ended[:, 1]], 1)


@mutant("transitions-compose")
class NoiseOfTheDifference(VP):
    """The noise between two times has the difference of their variances: what was there has not shrunk."""

    def transition(self, z, s, t, noise):
        p, q = self.exact(s), self.exact(t)
        return q.alpha / p.alpha * z + (q.variance - p.variance).sqrt() * noise.normal(z)


@mutant("transitions-compose", 4.0, 1.0, 1.4, None, 1.0)
class TransitionFromTheStart(CIR):
    """The transition over the whole time, from wherever it begins."""

    def transition(self, z, s, t, noise):
        return super().transition(z, 0 * s, t, noise)


@mutant("homogeneous-in-time", 0.2, 0.9)
class GrowingAndConstant(GBM):
    """A volatility that grows, said to be constant."""

    homogeneous = True


# Noise that is a matrix.


@mutant("noise-is-linear")
class NoiseWithoutItsSign(GBMInX):
    """The increment's absolute value."""

    def diffuse(self, z, t, dw):
        return super().diffuse(z, t, dw.abs())


@mutant("ggt-is-the-product")
class DiagonalOfTheProduct(Sheared):
    """The diagonal of `G Gᵀ` alone."""

    def ggt(self, z, t, s):
        return (self.columns(z, t) ** 2).sum(0) * s


@mutant("ggt-is-the-product")
class ProductTurnedAround(Sheared):
    """`Gᵀ G s` for `G Gᵀ s`."""

    def ggt(self, z, t, s):
        columns = self.columns(z, t).flatten(2).movedim(0, -1)
        return (columns.mT @ columns @ s.flatten(1)[..., None])[..., 0].reshape(z.shape)


@mutant("divergence-is-that-of-ggt")
class DivergenceOfTheDiagonal(Sheared):
    """`∂_i D_ii`, as if the noise were a number for each entry."""

    def divergence(self, z, t):
        return torch.zeros_like(z)


@mutant("stratonovich-correction-turns-the-columns")
class CorrectionOfDiagonalNoise(Sheared):
    """`¼ ∇·D`, right for diagonal noise alone."""

    stratonovich_correction = ForwardSDE.stratonovich_correction


# Coordinates and adapting.


class _FlatFarOut(ExpTransform):
    """The exponential, and beyond 7 a wrong inverse."""

    def _inverse(self, y):
        z = y.log()
        return torch.where(z.abs() > 7, z + 0.01 * z.sign(), z)


@mutant("decode-inverts-encode")
class WrongFarOut(GBM):
    """Far out, where no data lie and the noise reaches, the inverse is another."""

    @property
    def coordinates(self):
        return _FlatFarOut()


@mutant("time-at-inverts-the-ratio")
class TimesBeyondTheEnds(VP):
    """Levels beyond the ends give times beyond the ends."""

    def time_at(self, level):
        ends = self.noise_level(torch.tensor(self.t_span, dtype=torch.float64))
        return torch.where(level > ends[1], super().time_at(level) + 0.1, super().time_at(level))


@mutant("adapted-once")
class AdaptedToTheFirstRow(VE):
    """The scale of the first row alone."""

    def adapted(self, x0):
        return self if self.sigma_max is not None else replace(self, sigma_max=1.0 + float(x0[0].abs().max()))


@mutant("adapted-once")
class GivenAndForgotten(VE):
    """What the user gave is replaced by what the data say."""

    def adapted(self, x0):
        return replace(self, sigma_max=super().adapted(x0).sigma_max if self.sigma_max is None else 4 * float(x0.std()))


# What a checkpoint does not record.


@mutant("restored")
class ScaledByTheLatestData(VE):
    """The spread of the data that the class was adapted to last, in an attribute of the class."""

    spread: ClassVar[float] = 1.0

    def adapted(self, x0):
        type(self).spread = float(x0.std())
        return super().adapted(x0)

    def score_from_output(self, s, z, t):
        return self.spread * s


@mutant("restored")
class ScaledByDataThatAreNoField(BetweenWalls):
    """The spread of the data in an attribute of the object that is no field."""

    spread: ClassVar[float] = 1.0

    def adapted(self, x0):
        adapted = replace(self)
        object.__setattr__(adapted, "spread", float(x0.std()))
        return adapted

    def network_input(self, z, t):
        return z / self.spread


@dataclass(frozen=True)
class Slow(AffineSDE):
    """It never answers."""

    def coefficients(self, t):
        while True:
            pass


# Processes that go back without a score.


@mutant("earlier-states-have-the-marginals")
class BirthsOfAllItems(Thinning):
    """The share of items born is `α_s − α_t`, not that over `1 − α_t`: as if none were left."""

    def earlier(self, z, denoised, t, s, noise):
        missing = (denoised - z).double().clamp_min(0)
        return z + noise.draw(torch.binomial, missing, (self.kept(s) - self.kept(t)).expand_as(missing)).to(z)


@mutant("steps-differ-least-at-the-mean")
class DivergenceInTheOtherOrder(Thinning):
    """The births by the denoiser come first: the minimizer is a geometric mean."""

    def step_divergence(self, z, denoised, x0, t, s):
        return super().step_divergence(z, x0, denoised, t, s)


@mutant("steps-differ-least-at-the-mean")
class BetaInTheOtherOrder(Beta):
    """The step by the clean state comes first."""

    def step_divergence(self, z, denoised, x0, t, s):
        return super().step_divergence(z, x0, denoised, t, s)


@mutant("long-steps-are-exact-where-it-says")
class PoissonNumbersOfBirths(Thinning):
    """The mean of the missing items for their number: a long step loses variance."""

    def earlier(self, z, denoised, t, s, noise):
        missing = noise.draw(torch.poisson, (denoised - z).clamp_min(0))
        return z + noise.draw(torch.binomial, missing, (1 - self.lost(s) / self.lost(t)).expand_as(missing))


@mutant("draws-follow-the-density")
class ThinnedTwice(Thinning):
    """Items are kept with probability `α²`."""

    def perturb(self, x0, t, noise):
        return super().perturb(super().perturb(x0, t, noise), t, noise)


@mutant("support")
class Rates(Thinning):
    """The mean of the thinned count in the place of the count."""

    def perturb(self, x0, t, noise):
        return self.kept(t).to(x0) * x0
