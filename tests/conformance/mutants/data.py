"""Processes that lose data, or take wrong ones; densities and outputs that are wrong a little everywhere; and right ones of these kinds."""

import math
from dataclasses import dataclass, replace

import torch
from torch.distributions import constraints

from sdezoo import Conditional, ForwardSDE, MatrixSDE, Rewindable
from sdezoo.process.columns import ColumnFit
from sdezoo_plugins.sdes.affine.cosine import Cosine
from sdezoo_plugins.sdes.affine.gbm import GBM
from sdezoo_plugins.sdes.affine.ve import VE
from sdezoo_plugins.sdes.affine.vp import VP
from sdezoo_plugins.sdes.affine.zero_inflated import ZeroInflated
from sdezoo_plugins.sdes.boundary.cir import CIR
from sdezoo_plugins.sdes.boundary.log_barrier import LogBarrier
from sdezoo_plugins.sdes.joint.cld import CLD
from sdezoo_plugins.sdes.non_gaussian.student_t import StudentT
from sdezoo_plugins.sdes.non_gaussian.thinning import Thinning
from tests.conformance.right.losses import mutants

MUTANTS, killed_by = mutants()


@dataclass(frozen=True)
class Bits(Rewindable):
    """Bits that flip."""

    rate: float = 6.0

    @property
    def support(self):
        return constraints.boolean

    def kept(self, t):
        return torch.exp(-self.rate * t.double() ** 2)

    def perturb(self, x0, t, noise):
        return torch.where(noise.uniform(x0) < ((1 - self.kept(t)) / 2).to(x0), 1 - x0, x0)

    def scale(self, t):
        return (1 - self.kept(t) ** 2).sqrt() / 2

    def log_prob(self, z, x0, t):
        return torch.log(torch.where(z == x0, 1 + self.kept(t), 1 - self.kept(t)).to(z) / 2)

    def prior(self, shape, noise, like):
        return (noise.uniform(like, shape) < 0.5).to(like)

    def prior_log_prob(self, z):
        return torch.full((len(z),), -math.log(2) * z[0].numel(), dtype=torch.float64)

    def denoiser_from_output(self, out, z, t):
        return torch.sigmoid(out + torch.logit((1 + self.kept(t).to(z) * (2 * z - 1)) / 2, eps=1e-7))

    def mean(self, z, clean, t, s):
        """The chance of a 1 at `s`, linear in the chance that the clean bit is one."""
        before, step, sign = self.kept(s).to(z), (self.kept(t) / self.kept(s)).to(z), 2 * z - 1

        def one(bit):
            yes = (1 + before * bit) * (1 + step * sign)
            return yes / (yes + (1 - before * bit) * (1 - step * sign))

        return clean * one(1) + (1 - clean) * one(-1)

    def earlier(self, z, denoised, t, s, noise):
        return (noise.uniform(z) < self.mean(z, denoised, t, s)).to(z)

    def step_divergence(self, z, denoised, x0, t, s):
        p, q = self.mean(z, x0, t, s), self.mean(z, denoised, t, s)
        return torch.special.xlogy(p, p / q) + torch.special.xlogy(1 - p, (1 - p) / (1 - q))


@dataclass(frozen=True)
class Angles(ForwardSDE, Conditional):
    """Brownian motion on a circle, whose prior has the same density at both ends, and none beyond."""

    turns: int = 4

    @property
    def support(self):
        return constraints.interval(-math.pi, math.pi)

    @property
    def reflecting_boundary(self):
        return True

    def variance(self, t):
        return 0.04 * torch.expm1(6 * t.double())

    def scale(self, t):
        return self.variance(t).sqrt()

    def drift(self, z, t):
        return torch.zeros_like(z)

    def diffusion(self, z, t):
        return (0.24 * torch.exp(6 * t.double())).sqrt().to(z)

    def project(self, proposal, z):
        return torch.where(proposal.abs() <= math.pi, proposal, torch.remainder(proposal + math.pi, 2 * math.pi) - math.pi)

    def perturb(self, x0, t, noise):
        return self.project(x0 + self.scale(t).to(x0) * noise.normal(x0), x0)

    def log_prob(self, z, x0, t):
        away = (z - x0)[..., None] + 2 * math.pi * torch.arange(-self.turns, self.turns + 1.0).to(z)
        v = self.variance(t).to(z)
        return torch.logsumexp(-(away**2) / (2 * v[..., None]), -1) - (2 * math.pi * v).log() / 2

    def prior(self, shape, noise, like):
        return math.pi * (2 * noise.uniform(like, shape) - 1)

    def prior_log_prob(self, z):
        return torch.full((len(z),), -math.log(2 * math.pi) * z[0].numel(), dtype=torch.float64)


@dataclass(frozen=True)
class TwoSizes(MatrixSDE, Conditional):
    """Independent Brownian motions of data and of a hidden entry that is noised half as much."""

    def state_shape(self, shape):
        return (shape[0], 2, *shape[1:])

    def noise_shape(self, shape):
        return tuple(shape)

    def encode(self, x, noise):
        return torch.stack([x, torch.zeros_like(x)], 1)

    def decode(self, z):
        return z[:, 0]

    def network_input(self, z, t):
        return z.flatten(1, 2)

    def score_from_output(self, s, z, t):
        return s.reshape(z.shape)

    def drift(self, z, t):
        return torch.zeros_like(z)

    def sizes(self, z):
        return z.new_tensor([1.0, 0.5]).reshape(1, 2, *(1,) * (z.ndim - 2))

    def diffuse(self, z, t, dw):
        return self.sizes(z) * dw

    def perturb(self, x0, t, noise):
        z = self.encode(x0, noise)
        return z + (t.sqrt() * self.sizes(z)).to(z) * noise.normal(z)

    def score(self, z, x0, t):
        return (self.encode(x0, None) - z) / (t * self.sizes(z) ** 2).to(z)

    def prior(self, shape, noise, like):
        z = self.encode(like.new_zeros(tuple(shape)), noise)
        return self.sizes(z) * noise.normal(z)


@dataclass(frozen=True)
class Shared(MatrixSDE, Conditional):
    """One Brownian motion for all entries of a row, of any shape, which starts at the data."""

    def noise_shape(self, shape):
        return (shape[0], 1)

    def drift(self, z, t):
        return torch.zeros_like(z)

    def diffuse(self, z, t, dw):
        return dw.reshape(-1, *(1,) * (z.ndim - 1)).expand_as(z)

    def ggt(self, z, t, s):
        return s.flatten(1).sum(1).reshape(-1, *(1,) * (s.ndim - 1)).expand_as(s)

    def perturb(self, x0, t, noise):
        return x0 + t.sqrt().to(x0) * noise.normal(x0, (len(x0), *(1,) * (x0.ndim - 1)))

    def score(self, z, x0, t):
        return (x0 - z) / (t.to(z) * z[0].numel())

    def prior(self, shape, noise, like):
        return noise.normal(like, (shape[0], *(1,) * (len(shape) - 1))).expand(tuple(shape)).contiguous()


RIGHT = [
    (Shared(), "ggt-is-the-product"),
    (Bits(), "target-has-its-mean"),
    (Bits(), "prior-density-is-that-of-the-prior"),
    (Bits(), "steps-differ-least-at-the-mean"),
    (Bits(), "last-steps-end-in-the-support"),
    (Angles(), "prior-density-is-that-of-the-prior"),
    (Angles(), "density-integrates-to-one"),
    (TwoSizes(), "scale-is-the-size-of-the-noise"),
]
"""Right processes, each with a law that could take it for wrong."""


@killed_by("prior-density-is-that-of-the-prior")
class UnfairBits(Bits):
    """More zeros than the density says."""

    def prior(self, shape, noise, like):
        return (noise.uniform(like, shape) < 0.45).to(like)


@killed_by("steps-differ-least-at-the-mean")
class DivergenceTurned(Bits):
    """The arguments of the divergence swapped."""

    def step_divergence(self, z, denoised, x0, t, s):
        return super().step_divergence(z, x0, denoised, t, s)


@killed_by("last-steps-end-in-the-support")
class NotRounded(Thinning):
    """Counts that end in the denoiser."""

    def earlier(self, z, denoised, t, s, noise):
        return denoised if s == 0 else super().earlier(z, denoised, t, s, noise)


@killed_by("density-integrates-to-one")
class FewTurns(Angles):
    """Mass that comes from more than one turn away is missing, a little and at late times only."""

    turns: int = 1


@killed_by("density-integrates-to-one")
class VarianceOfTheStart(Angles):
    """A density that is right up to a factor which is 1 for default parameters."""

    slow: float = 1.0

    def log_prob(self, z, x0, t):
        return super().log_prob(z, x0, t) + math.log(self.slow)


@killed_by("density-integrates-to-one")
class ConstantOncePerRow(StudentT):
    """The scale of one entry in the density of a row of several."""

    def log_prob(self, z, x0, t):
        return super().log_prob(z, x0, t) + (z[0].numel() - 1) * self.at(t, z).sigma.log()


@killed_by("contract")
class FlatScale(VP):
    """A scale that loses the shape of the times."""

    def scale(self, t):
        return super().scale(t).flatten()


@killed_by("draws-follow-the-density")
class LastDimensionShared(VP):
    """Noise that rows of two dimensions share along the last."""

    def perturb(self, x0, t, noise):
        k = self.at(t, x0)
        return k.alpha * x0 + k.sigma * noise.normal(x0, x0.shape if x0.ndim < 3 else (*x0.shape[:-1], 1))


@killed_by("draws-start-as-encoded")
class OneVelocity(CLD):
    """A velocity at the start that all entries share."""

    def encode(self, x, noise):
        z = super().encode(x, noise)
        return torch.stack([z[:, 0], z[:, 1, :1].expand_as(x)], 1)


@killed_by("steps-do-not-pile-up")
class WrapsOnce(Angles):
    """Steps beyond one turn that end at the ends."""

    def project(self, proposal, z):
        once = proposal - 2 * math.pi * proposal.sign()
        return torch.where(proposal.abs() <= math.pi, proposal, once.clamp(-math.pi, math.pi))


@killed_by("prior-fits-what-it-adapts-to")
class VarianceForSpread(VE):
    """Noise that grows as the variance of the data."""

    def adapted(self, x0):
        return replace(self, sigma_max=max(4 * float(x0.double().var()), 8 * float(x0.double().std())))


@killed_by("short-transitions-move-little")
class FromTheStart(VP):
    """Transitions over the time from the start."""

    def transition(self, z, s, t, noise):
        return super().transition(z, torch.zeros_like(s), t, noise)


@killed_by("ggt-is-the-product")
class SumOfTheLast(Shared):
    """`g gᵀ s` that sums over the last dimension, in place of all that share the noise."""

    def ggt(self, z, t, s):
        return s.sum(-1, keepdim=True).expand_as(s)


@killed_by("tail-is-that-of-the-prior")
class TailKeptQuiet(StudentT):
    """Power-law noise that is not said to be."""

    @property
    def tail(self):
        return math.inf


@killed_by("decode-inverts-encode")
class ClampsNearTheEnd(GBM):
    """Data near 0 are moved away from it, ten deviations of the noise out."""

    def encode(self, x, noise=None):
        return super().encode(x).clamp(-40.0, 1e9)


@killed_by("scale-is-the-size-of-the-noise")
class ScaleOfNeither(TwoSizes):
    """A scale that is larger than the noise of any entry."""

    def scale(self, t):
        return 2 * t.sqrt()


@killed_by("what-is-added-is-the-score-of-the-prior")
class AgainstThePrior(CIR):
    """The score of the stationary distribution subtracted from what the network returns."""

    def score_from_output(self, s, z, t):
        return super().score_from_output(s, z, t) - 2 * self.stationary_score(z, t)


@killed_by("coefficients-start-at-the-data")
class NeverStops(Cosine):
    """A schedule that runs to its end, where the rate is infinite."""

    @property
    def _speed(self):
        return math.pi / 2 / (1 + self.s)


@killed_by("columns-that-fit-are-taken")
class TakesZeros(GBM):
    """Offers itself for columns with zeros."""

    @classmethod
    def column_fit(cls, column):
        return ColumnFit(2, "positive", cls.title()) if column.min() >= 0 else None


@killed_by("far-states-keep-apart")
class UnderflowsToZero(ZeroInflated):
    """Small positive values that become exact zeros."""

    def decode(self, z):
        return self.coordinates(z)


@killed_by("far-states-keep-apart")
class Saturates(LogBarrier):
    """States beyond the range of float64 that decode to 1."""

    def decode(self, z):
        return torch.sigmoid(z)


@killed_by("columns-are-adapted-alike")
class FirstSpread(GBM):
    """The spread of the first column for all."""

    def adapted(self, x0):
        found = super().adapted(x0)
        return replace(found, spread=found.spread[:1] * len(found.spread)) if found.spread else found


@killed_by("constant-columns-are-taken")
class RefusesConstants(CIR):
    """A column of one value is divided by its spread, 0."""

    def adapted(self, x0):
        spread = x0.double().std(0, correction=0).mean() if x0.ndim != 2 else x0.double().std(0, correction=0)
        return replace(self, unit=tuple((1 / (1 / spread)).reshape(-1).tolist()))


@killed_by("adapted-once")
class FirstRows(GBM):
    """Measured from the first half of the rows."""

    def adapted(self, x0):
        return super().adapted(x0[: len(x0) // 2])
