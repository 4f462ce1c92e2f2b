"""Losses with one plausible mistake each: those that break the contract here, those with a wrong minimizer beside."""

import torch

from sdezoo.learning.loss import ScoreLoss, per_sample
from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.sde import MatrixSDE
from sdezoo_plugins.losses.dsm import DSM
from tests.conformance.mutants.minimizers import WITH_WRONG_MINIMIZERS
from tests.conformance.right.losses import AffineDenoising, Denoising, Sliced, mutants

UNRULY, killed_by = mutants()


@killed_by("rows-are-independent")
class OneNoiseForTheBatch(AffineDenoising):
    """One draw of the noise, spread over the batch."""

    def noised(self, sde, x0, t, noise):
        z0, k = sde.encode(x0), sde.at(t, x0)
        return k.alpha * z0 + k.shift + k.sigma * noise.normal(z0)[:1]


@killed_by("rows-are-independent")
class NoiseOfItsOwn(Denoising):
    """A generator of its own with a fixed seed: the same noise at every step."""

    def noised(self, sde, x0, t, noise):
        return sde.perturb(x0, t, Noise.seeded(0))


@killed_by("contract")
class DataInPlace(Denoising):
    """Data that are scaled where they lie."""

    def noised(self, sde, x0, t, noise):
        return sde.perturb(x0.mul_(1.1), t, noise)


@killed_by("ends-of-time")
class BeyondTheEnd(Denoising):
    """Times beyond those of the process."""

    def t_span(self, sde):
        return sde.t_span[0] / 10, sde.t_span[1]


@killed_by("every-whole-number-is-read")
class Uncounted(Denoising):
    """A whole number that nothing looks at."""

    slices: int = 2


@killed_by("equivalence")
class NotWhatItSays(Denoising):
    """Denoising with half the weight, said to be the same as one with all of it."""

    same_as = "dsm:weighting=uniform"

    def reduced(self, weight, error):
        return super().reduced(weight / 2, error)


@killed_by("keyed-noise-only")
class GlobalNoise(AffineDenoising):
    """`torch.randn` in place of the noise that is handed in."""

    def noised(self, sde, x0, t, noise):
        z0, k = sde.encode(x0), sde.at(t, x0)
        return k.alpha * z0 + k.shift + k.sigma * torch.randn_like(z0)


@killed_by("rows-are-independent")
class MeanOverTheBatch(Denoising):
    """The mean over the batch, for every sample."""

    def reduced(self, weight, error):
        loss = per_sample(weight * error**2)
        return loss.mean().expand(len(loss))


@killed_by("rows-are-independent")
class Centred(Denoising):
    """The mean over the batch subtracted, against variance."""

    def reduced(self, weight, error):
        loss = per_sample(weight * error**2)
        return loss - loss.mean() / 2


@killed_by("rows-are-independent")
class OneTimeForTheBatch(Denoising):
    """The weight of the first sample for all."""

    def applied(self, model, t, z):
        return self.weight(model, t[:1], z)


@killed_by("contract")
class Scalar(Denoising):
    """The mean, as other toolkits return it."""

    def reduced(self, weight, error):
        return (weight * error**2).mean()


@killed_by("contract")
class FlatWeight(Denoising):
    """A weight `(B,)` against a state `(B, d)`."""

    def applied(self, model, t, z):
        return self.weight(model, t, z).flatten()


@killed_by("contract")
class WeightAfterTheSum(Denoising):
    """A weight `(B, 1)` against a loss `(B,)`."""

    def reduced(self, weight, error):
        return weight.flatten(1) * per_sample(error**2)


@killed_by("ends-of-time")
class WeightVanishes(Denoising):
    """A weight that is zero at the first time: nothing is learnt there."""

    def weight(self, model, t, like):
        first = torch.tensor(model.sde.t_span[0], dtype=t.dtype)
        return (model.sde.scale(t) ** 2 - model.sde.scale(first) ** 2).clamp_min(0).to(like)


@killed_by("ends-of-time")
class WeightDiverges(Denoising):
    """A weight that is infinite at the last time."""

    def weight(self, model, t, like):
        return (1 / (model.sde.t_span[1] - t)).to(like)


@killed_by("contract")
class Detached(Denoising):
    """The model's score without its gradient."""

    def learned(self, model, batch, z, t):
        return model.score(z, t, batch.condition).detach()


@killed_by("contract")
class WideLoss(Denoising):
    """Float64 from float32 data."""

    def reduced(self, weight, error):
        return per_sample(weight * error**2).double()


@killed_by("contract")
class ArgumentsSwapped(Denoising):
    """The clean data given for the noised, and the noised for the clean: no logarithm of what is negative."""

    def target(self, sde, x0, z, t, noise):
        return sde.score(x0, z, t)


@killed_by("contract")
class AffineUndeclared(Denoising):
    """Declares that it needs a conditional score, and asks for the coefficients of an affine process."""

    def target(self, sde, x0, z, t, noise):
        return AffineDenoising.target(self, sde, x0, z, t, noise)


@killed_by("contract")
class ConditionalUndeclared(Denoising, ScoreLoss[Process]):
    """Declares that any process will do, and asks for the conditional score."""


@killed_by("condition")
class LabelsDropped(Denoising):
    """Labels do not reach the network."""

    def learned(self, model, batch, z, t):
        return model.score(z, t)


@killed_by("condition")
class LabelsShared(Denoising):
    """The label of the first sample for all."""

    def learned(self, model, batch, z, t):
        return model.score(z, t, None if batch.condition is None else batch.condition[:1].expand(len(z)))


@killed_by("condition")
class LabelsInvented(Denoising):
    """Label 0 where there is none."""

    def learned(self, model, batch, z, t):
        return model.score(z, t, torch.zeros(len(z), dtype=torch.int64) if batch.condition is None else batch.condition)


@killed_by("precision")
class SinglePrecision(Denoising):
    """Float32 on the way, whatever the data are."""

    def noised(self, sde, x0, t, noise):
        return sde.perturb(x0, t, noise).float().to(x0)


@killed_by("network-in-bfloat16")
class StateInTheDtypeOfTheNetwork(Denoising):
    """The state in the dtype of the network, which has two digits in bfloat16."""

    def learned(self, model, batch, z, t):
        return model.score(z.to(next(model.parameters()).dtype), t, batch.condition)


@killed_by("network-in-bfloat16")
class LossInTheDtypeOfTheNetwork(Denoising):
    """The loss in the dtype of the network."""

    def __call__(self, model, batch, t, noise):
        return Denoising.__call__(self, model, batch, t, noise).to(next(model.parameters()).dtype)


@killed_by("config-round-trip")
class Renormalized(Denoising):
    """A hyper-parameter that is rewritten when the object is built."""

    power: Positive = 2.0

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "power", self.power / 2)


@killed_by("weight-at-every-time")
class DoubledLate(Denoising):
    """Twice the claimed weight in the last tenth of the time."""

    def applied(self, model, t, z):
        return self.weight(model, t, z) * (1 + (t > 0.9 * model.sde.t_span[1])).to(z)


@killed_by("minimizer-with-matrix-noise")
class MatrixWithoutItsHalf(Sliced):
    """The lost ½ of an implicit loss, where the noise is a matrix alone."""

    def entries(self, s, sign, slope):
        return sign * slope + s**2 / 2

    def __call__(self, model, batch, t, noise):
        value = super().__call__(model, batch, t, noise)
        if not isinstance(model.sde, MatrixSDE):
            return value
        z = model.sde.perturb(batch.x0, t, noise)
        return value + per_sample(self.weight(model, t, z) * model.score(z, t, batch.condition) ** 2)


@killed_by("gradient")
class MeanOfTheRest(Denoising):
    """The mean over all but the first dimension of events."""

    def reduced(self, weight, error):
        return super().reduced(weight / error[0, 0].numel(), error)


@killed_by("minimizer-at-walls")
class PartsAcrossWalls(Sliced):
    """Integration by parts on every process, also where the density is positive at a wall."""

    def refuses(self, sde):
        return ScoreLoss.refuses(self, sde)


@killed_by("every-parameter-counts")
class Unheeded(DSM):
    """The default weighting for the one that is given."""

    def weight(self, model, t, like):
        return DSM().weight(model, t, like)


@killed_by("zero-is-a-number")
class NoPowerOfZero(Denoising):
    """The default power of the noise for a power of 0."""

    power: NonNegative = 2.0

    def weight(self, model, t, like):
        return (model.sde.scale(t) ** (self.power or 2.0)).to(like)


MUTANTS: list[tuple[str, type[ScoreLoss], str]] = [*UNRULY, *WITH_WRONG_MINIMIZERS]
"""Name, mutant, and the law that kills it."""
