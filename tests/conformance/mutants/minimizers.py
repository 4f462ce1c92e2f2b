"""Losses that are well behaved, and learn something else than the score, or with another weight than they claim."""

import torch

from sdezoo.learning.loss import per_sample
from sdezoo.process.requirement import needs_multiplicative
from tests.conformance.right.losses import AffineDenoising, Denoising, Nonnegative, Sliced, mutants

WITH_WRONG_MINIMIZERS, killed_by = mutants()


@killed_by("minimizer")
class SignOfTarget(Denoising):
    """The noise itself as target, where its negative is the score."""

    def target(self, sde, x0, z, t, noise):
        return -sde.score(z, x0, t)


@killed_by("minimizer")
class HyvarinenTarget(Denoising):
    """Regresses the Hyvärinen score `s − 1` on the score of `log x`."""

    def refuses(self, sde):
        return needs_multiplicative(sde)

    def learned(self, model, batch, z, t):
        return model.score(z, t, batch.condition) - 1


@killed_by("minimizer-at-the-first-time")
class TargetOneStepLater(Denoising):
    """Off by one: the noise of step `n` of 1000, the target of step `n + 1`."""

    def target(self, sde, x0, z, t, noise):
        return sde.score(z, x0, (t + 1e-3).clamp(max=1))


@killed_by("minimizer-at-the-first-time")
class NoiseOneStepLater(Denoising):
    """Off by one: the noise of step `n + 1` of 1000, the target and the network of step `n`."""

    def noised(self, sde, x0, t, noise):
        return sde.perturb(x0, (t + 1e-3).clamp(max=1), noise)


@killed_by("minimizer-at-the-first-time")
class RoundedTime(Denoising):
    """The network is told the time that is given, the process the nearest of 1000 steps."""

    def noised(self, sde, x0, t, noise):
        return sde.perturb(x0, self._step(t), noise)

    def target(self, sde, x0, z, t, noise):
        return sde.score(z, x0, self._step(t))

    def _step(self, t):
        return (1000 * t).ceil() / 1000


@killed_by("minimizer-at-the-last-time")
class LastTimesCutOff(Denoising):
    """Noise is drawn up to `t = 0.9` only, to be on the safe side."""

    def noised(self, sde, x0, t, noise):
        return sde.perturb(x0, t.clamp(max=0.9), noise)


@killed_by("minimizer")
class RootOfTime(Denoising):
    """`√t` for `t` in the target."""

    def target(self, sde, x0, z, t, noise):
        return sde.score(z, x0, t.sqrt())


@killed_by("minimizer")
class DeviationForVariance(AffineDenoising):
    """`σ` for `σ²` under the target."""

    def target(self, sde, x0, z, t, noise):
        return AffineDenoising.target(self, sde, x0, z, t, noise) * sde.at(t, z).sigma


@killed_by("minimizer")
class VarianceForgotten(AffineDenoising):
    """The displacement as target, not divided by the variance."""

    def target(self, sde, x0, z, t, noise):
        return AffineDenoising.target(self, sde, x0, z, t, noise) * sde.at(t, z).variance


@killed_by("minimizer")
class SignalForgotten(AffineDenoising):
    """`z_0` for `α z_0` in the target: right for variance-exploding processes."""

    def target(self, sde, x0, z, t, noise):
        k = sde.at(t, z)
        return (sde.encode(x0) + k.shift - z) / k.variance


@killed_by("minimizer")
class DriftForgotten(AffineDenoising):
    """The drift `m` left out of the target: right where `μ = σ²/2`."""

    def target(self, sde, x0, z, t, noise):
        k = sde.at(t, z)
        return (k.alpha * sde.encode(x0) - z) / k.variance


@killed_by("minimizer")
class DataForCoordinates(AffineDenoising):
    """`x_0` for `log x_0` in the target: right on the real line."""

    def refuses(self, sde):
        return needs_multiplicative(sde)

    def target(self, sde, x0, z, t, noise):
        k = sde.at(t, z)
        return (k.alpha * x0 + k.shift - z) / k.variance


@killed_by("minimizer")
class SecondDraw(AffineDenoising):
    """`z` from one draw of the noise, the target `−ε/σ` from another."""

    def target(self, sde, x0, z, t, noise):
        return -noise.normal(z) / sde.at(t, z).sigma


@killed_by("minimizer")
class AbsoluteError(Denoising):
    """L1 for L2: it learns a median where the score is a mean."""

    def weight(self, model, t, like):
        return None

    def applied(self, model, t, z):
        return model.sde.scale(t).to(z)

    def reduced(self, weight, error):
        return per_sample(weight * error.abs())


@killed_by("minimizer")
class Cauchy(Denoising):
    """A robust loss, `log(1 + e²)`, against large targets."""

    def weight(self, model, t, like):
        return None

    def applied(self, model, t, z):
        return model.sde.scale(t).to(z)

    def reduced(self, weight, error):
        return per_sample(torch.log1p((weight * error) ** 2))


@killed_by("minimizer-at-the-first-time")
class ClampedTarget(Denoising):
    """The target clamped to ±10, against large losses."""

    def target(self, sde, x0, z, t, noise):
        return sde.score(z, x0, t).clamp(-10, 10)


@killed_by("minimizer")
class CleanForNoised(Denoising):
    """The network sees the clean data, the target the noised."""

    def __call__(self, model, batch, t, noise):
        z = self.noised(model.sde, batch.x0, t, noise)
        error = model.score(model.sde.encode(batch.x0, noise), t, batch.condition) - model.sde.score(z, batch.x0, t)
        return per_sample(self.weight(model, t, z) * error**2)


@killed_by("minimizer")
class OneNoiseForAllEntries(AffineDenoising):
    """One normal number a sample, spread over its entries."""

    def noised(self, sde, x0, t, noise):
        z0, k = sde.encode(x0), sde.at(t, x0)
        return k.alpha * z0 + k.shift + k.sigma * noise.normal(z0.flatten(1)[:, :1]).reshape(-1, *(1,) * (z0.ndim - 1))


@killed_by("gradient")
class WeightForgotten(Denoising):
    """It claims a weight that it does not apply."""

    def applied(self, model, t, z):
        return torch.ones_like(z)


@killed_by("gradient")
class WeightSquared(Denoising):
    """Applies the weight before and after the square."""

    def applied(self, model, t, z):
        return self.weight(model, t, z) ** 2


@killed_by("gradient")
class MeanOverEntries(Denoising):
    """The mean over the entries in place of their sum."""

    def reduced(self, weight, error):
        return (weight * error**2).flatten(1).mean(1)


@killed_by("gradient")
class HalfUnclaimed(Sliced):
    """Claims the weight of denoising score matching, of which `½ ‖s‖²` is half."""

    def entries(self, s, sign, slope):
        return (sign * slope + s**2 / 2) / 2


@killed_by("minimum")
class Negative(Denoising):
    """What is to be maximized."""

    def reduced(self, weight, error):
        return -per_sample(weight * error**2)


@killed_by("minimizer")
class SlicedWithoutHalf(Sliced):
    """`‖s‖²` for `½ ‖s‖²`."""

    def entries(self, s, sign, slope):
        return sign * slope + s**2


@killed_by("minimizer")
class SlicedOnce(Sliced):
    """`∂(uᵀ s)` without the second `uᵀ`: its mean is zero."""

    def entries(self, s, sign, slope):
        return slope + s**2 / 2


@killed_by("minimizer")
class DivergenceForgotten(Sliced):
    """`½ ‖s‖²` alone."""

    def entries(self, s, sign, slope):
        return s**2 / 2


@killed_by("minimizer")
class DivergenceDetached(Sliced):
    """The divergence counts, but has no gradient."""

    def entries(self, s, sign, slope):
        return sign * slope.detach() + s**2 / 2


@killed_by("recovers-a-normal-law")
class NonnegativeWithoutHalf(Nonnegative):
    """`h²` for `½ h²`."""

    def entries(self, s, sign, slope):
        h = s - 1
        return h + sign * slope + h**2


@killed_by("minimizer")
class NonnegativeLatent(Nonnegative):
    """The score of `log x` for the Hyvärinen score."""

    def entries(self, s, sign, slope):
        return s + sign * slope + s**2 / 2


@killed_by("recovers-a-normal-law")
class NonnegativeTwice(Nonnegative):
    """`2h` for `h`: `x² ∂s` taken for `∂h/∂z`, of which it is `h` short."""

    def entries(self, s, sign, slope):
        h = s - 1
        return 2 * h + sign * slope + h**2 / 2
