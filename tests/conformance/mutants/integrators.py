"""Mistakes in the flow, in exponential integrators, in correctors, in the multiplicative samplers, and in splitting."""

from typing import Any, ClassVar

import torch

from sdezoo_plugins.samplers.affine.ancestral import Ancestral
from sdezoo_plugins.samplers.affine.ddim import DDIM
from sdezoo_plugins.samplers.affine.dpmpp_2m import DPMpp2M
from sdezoo_plugins.samplers.general.euler_maruyama import EulerMaruyama
from sdezoo_plugins.samplers.general.pc import PC
from sdezoo_plugins.samplers.general.pf_ode import PFODE
from sdezoo_plugins.samplers.general.torchsde import TorchSDE
from sdezoo_plugins.samplers.multiplicative.dale_langevin import DaleLangevin
from sdezoo_plugins.samplers.multiplicative.multiplicative import Multiplicative
from sdezoo_plugins.samplers.tailored.levy_sde import LevySDE
from sdezoo_plugins.samplers.tailored.posterior import Posterior
from sdezoo_plugins.samplers.tailored.sscs import SSCS
from tests.conformance.right.samplers import Flow, mutants

OF_OTHER_KINDS, killed_by = mutants()


@killed_by("weak-order")
class LostHalf(Flow):
    """The two slopes are added, not averaged."""

    def mean(self, first, second):
        return first + second


@killed_by("weak-order")
class ReverseDriftInAFlow(Flow):
    """The drift of the reverse SDE, without its noise."""

    def slope(self, model, z, t):
        return model.sde.reverse_drift(z, t, model.score(z, t))


@killed_by("weak-order")
class FlowWithoutDivergence(Flow):
    """The flow of toolkits for additive noise."""

    def slope(self, model, z, t):
        return model.sde.drift(z, t) - model.sde.ggt(z, t, model.score(z, t)) / 2


@killed_by("weak-order")
class SecondSlopeAtTheOldTime(Flow):
    """The second slope at the new state, but at the old time."""

    def second(self, model, end, t, s):
        return self.slope(model, end, t)


@killed_by("weak-order")
class FirstSlopeTwice(Flow):
    """The second slope is evaluated and not used."""

    def mean(self, first, second):
        return first


@killed_by("evaluations")
class UndeclaredEvaluations(Flow):
    """Two evaluations a step, and one declared."""

    def evaluations(self, steps: int) -> int:
        return steps


@killed_by("contract")
class ScoreAtZero(Flow):
    """The second slope in the last step too, at `t = 0`."""

    def step(self, model, z, t, s, noise, memory):
        first = self.slope(model, z, t)
        return z - (t - s) * self.mean(first, self.second(model, z - (t - s) * first, t, s)), None


@killed_by("weak-order")
class ExtrapolatedTwice(DPMpp2M):
    """`h/h₋` where the two-step formula has half of it."""

    def step(self, model, z, t, s, noise, memory):
        doubled = None if memory is None else (memory[0], memory[1] / 2)
        return super().step(model, z, t, s, noise, doubled)


@killed_by("weak-order")
class FirstOrderAlone(DPMpp2M):
    """It forgets its memory, and declares order 2."""

    def step(self, model, z, t, s, noise, memory):
        return super().step(model, z, t, s, noise, None)


@killed_by("weak-order")
class ShiftLost(DPMpp2M):
    """Right where `m = 0`."""

    def step(self, model, z, t, s, noise, memory):
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        end, memory = super().step(model, z, t, s, noise, memory)
        return end - q.shift + q.sigma / p.sigma * p.shift, memory


@killed_by("seeded")
class ClassMemory(DPMpp2M):
    """What it remembers is kept in the class, and outlives the run."""

    kept: ClassVar[dict[str, Any]] = {}

    def step(self, model, z, t, s, noise, memory):
        memory = self.kept.get("memory")
        usable = memory if memory is not None and memory[0].shape == z.shape else None
        end, self.kept["memory"] = super().step(model, z, t, s, noise, usable)
        return end, None


@killed_by("weak-order")
class CoefficientsSwapped(DDIM):
    """`α` and `σ` of the two times in each other's place."""

    def step(self, model, z, t, s, noise, memory):
        p, q = model.sde.at(s, z), model.sde.at(t, z)
        if s == 0:
            return model.denoise(z, t), None
        denoised = model.denoise(z, t)
        return q.alpha * denoised + q.shift + q.sigma * (z - p.alpha * denoised - p.shift) / p.sigma, None


@killed_by("weak-order")
class NoiseOnTop(DDIM):
    """Fresh noise is added, and no room made for it."""

    def step(self, model, z, t, s, noise, memory):
        end = super().step(model, z, t, s, noise, memory)[0]
        variance = model.sde.posterior(z, z, t, s)[1]
        return end + variance.sqrt() * noise.normal(z) if s > 0 else end, None


@killed_by("weak-order")
class VarianceForDeviation(Ancestral):
    """Noise times the variance of the posterior."""

    def step(self, model, z, t, s, noise, memory):
        mean, variance = model.sde.posterior(z, model.denoise(z, t), t, s)
        return (mean + variance * noise.normal(z) if s > 0 else mean), None


@killed_by("weak-order")
class CorrectorWithoutTwo(PC):
    """Langevin's noise is `√e ε` where its drift is `e s`."""

    def step(self, model, z, t, s, noise, memory):
        z = EulerMaruyama.step(self, model, z, t, s, noise, memory)[0]
        if s == 0:
            return z, None
        size = 2 * (self.snr * model.sde.scale(s)) ** 2
        return z + size * model.score(z, s) + size.sqrt() * noise.normal(z), None


@killed_by("weak-order")
class CorrectorOfFixedSize(PC):
    """The corrector's step does not shrink with the noise."""

    def step(self, model, z, t, s, noise, memory):
        z = EulerMaruyama.step(self, model, z, t, s, noise, memory)[0]
        return z + 0.05 * model.score(z, s) + 0.1**0.5 * noise.normal(z) if s > 0 else z, None


@killed_by("config-round-trip")
class DoubledAtConstruction(PC):
    """Its hyper-parameter is changed when it is built."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "snr", 2 * self.snr)


@killed_by("config-round-trip")
class NotFrozen(PC):
    """Its hyper-parameters can be assigned."""


NotFrozen.__setattr__ = object.__setattr__


@killed_by("weak-order")
class AnnealedTwice(DaleLangevin):
    """Noise is annealed in the consistent preset too."""

    def update(self, model, z, t, delta, anneal, noise):
        return super().update(model, z, t, delta, 0.97 * anneal, noise)


@killed_by("weak-order")
class HyvarinenForStein(DaleLangevin):
    """The Hyvärinen score where the latent one belongs: `1` is lost."""

    def update(self, model, z, t, delta, anneal, noise):
        return super().update(model, z, t, delta, anneal, noise) - delta * model.sde.diffusion(z, t) ** 2


@killed_by("support")
class LeavesInSilence(Multiplicative):
    """It may leave the positive numbers, and declares that it does not."""

    preserves_support: ClassVar[bool] = True


@killed_by("support")
class SaysThatItLeaves(Multiplicative):
    """It is reflected at 0, and still declares that it may leave the positive numbers."""

    def update(self, model, z, t, delta, anneal, noise):
        return super().update(model, z, t, delta, anneal, noise).abs()


@killed_by("support")
class InfiniteInOneStep(DDIM):
    """It divides by what is 0 in a step over all of time."""

    def step(self, model, z, t, s, noise, memory):
        end, memory = super().step(model, z, t, s, noise, memory)
        return end + 1e-3 / (1 - (t - s)) * (t - s) ** 20, memory


@killed_by("weak-order-on-uneven-steps")
class StepsTakenForEqual(DPMpp2M):
    """The two-step formula of equal steps."""

    def step(self, model, z, t, s, noise, memory):
        k, q = model.sde.at(t, z), model.sde.at(s, z)
        return super().step(model, z, t, s, noise, None if memory is None else (memory[0], (k.ratio / q.ratio).log()))


@killed_by("last-step-denoises")
class EndsNoisy(EulerMaruyama):
    """The last step is left out."""

    def step(self, model, z, t, s, noise, memory):
        return super().step(model, z, t, s, noise, memory) if s > 0 else (z + 0 * model.score(z, t), None)


@killed_by("walls-hold")
class ThroughTheWalls(EulerMaruyama):
    """No boundary rule."""

    def step(self, model, z, t, s, noise, memory):
        end = z - (t - s) * model.sde.reverse_drift(z, t, model.score(z, t))
        return (end + model.sde.diffusion(z, t) * noise.normal(z) * (t - s).sqrt() if s > 0 else end), None


@killed_by("shared-noise-is-shared")
class NoiseForEachEntry(EulerMaruyama):
    """Every entry gets noise of its own, also if they share it."""

    def step(self, model, z, t, s, noise, memory):
        end = super().step(model, z, t, t.new_zeros(()), noise, memory)[0] if s == 0 else None
        if end is not None:
            return end, None
        move = model.sde.diffusion(z, t) * noise.normal(z) * (t - s).sqrt()
        return model.sde.project(z - (t - s) * model.sde.reverse_drift(z, t, model.score(z, t)) + move, z), None


@killed_by("law-recovered")
class FactorOfTheIndex(LevySDE):
    """The index `κ` for the factor 2 of the score: right for normal noise alone."""

    def kept(self, sde, ratio):
        return ratio ** (sde.index - 1)


@killed_by("shared-noise-is-shared")
class LoudWhereShared(EulerMaruyama):
    """Twice the variance for the noise that entries share."""

    def step(self, model, z, t, s, noise, memory):
        shared = model.sde.noise_shape(z.shape) != z.shape
        flow = z - (t - s) * model.sde.reverse_drift(z, t, model.score(z, t))
        end = super().step(model, z, t, s, noise, memory)[0]
        return flow + (end - flow) * 2**0.5 if shared and s > 0 else end, None


@killed_by("weak-order")
class HalfOfAStep(SSCS):
    """The second stage without what its rate has changed since the first: order 1 for 2."""

    def step(self, model, z, t, s, noise, memory):
        if s == 0:
            return super().step(model, z, t, s, noise, memory)
        sde, middle = model.sde, (t + s) / 2
        z = sde.reverse_transition(z, t, middle, noise)
        z = sde.project(z + (t - s) * sde.ggt(z, middle, model.score(z, middle) - sde.stationary_score(z, middle)), z)
        model.score(z, middle)
        return sde.reverse_transition(z, middle, s, noise), None


@killed_by("equivalence")
class NotWhereItSays(DDIM):
    """Said to be the same on a process that it refuses."""

    same_as: ClassVar[str | None] = "ddim on cld"


@killed_by("equivalence")
class NotWhatItSays(DDIM):
    """The deterministic method, said to be the ancestral one."""

    same_as: ClassVar[str | None] = "ancestral"


@killed_by("entries-are-alike")
class FirstColumnAlone(DDIM):
    """A step that moves the first column alone by its noise."""

    eta: float = 1.0

    def step(self, model, z, t, s, noise, memory):
        end, memory = super().step(model, z, t, s, noise, memory)
        calm, _ = DDIM(eta=0.0).step(model, z, t, s, noise, None)
        return torch.cat([end[..., :1], calm[..., 1:]], -1), memory


@killed_by("likelihood-rises")
class AwayFromTheData(DaleLangevin):
    """The authors' recipe with the wrong sign of the score."""

    weak_order: ClassVar[float | None] = None
    strong_order: ClassVar[float | None] = None

    def update(self, model, z, t, delta, anneal, noise):
        ahead = super().update(model, z, t, delta, 0.0, noise)
        return 2 * z - ahead


@killed_by("weak-order")
class FirstHalfTwice(SSCS):
    """The first half of a step in the place of the second, which is as long, but not by every clock."""

    def step(self, model, z, t, s, noise, memory):
        sde, middle = model.sde, (t + s) / 2
        if s == 0:
            return super().step(model, z, t, s, noise, memory)

        def push(u):
            return sde.ggt(u, middle, model.score(u, middle) - sde.stationary_score(u, middle))

        z = sde.reverse_transition(z, t, middle, noise)
        z = z + (t - s) * push(z + (t - s) / 2 * push(z))
        return sde.reverse_transition(z, t, middle, noise), None


@killed_by("long-steps-back-are-exact")
class AsksTooEarly(Posterior):
    """The denoiser at the time where the step ends."""

    def step(self, model, z, t, s, noise, memory):
        return model.sde.earlier(z, model.denoise(z, s if s > 0 else t), t, s, noise), None


@killed_by("evaluations")
class OneForTwo(TorchSDE):
    """Evaluations of one method for those of another."""

    def evaluations(self, steps):
        return steps if self.method == "midpoint" else super().evaluations(steps)


@killed_by("every-parameter-counts")
class NoTolerance(PFODE):
    """Every step is accepted."""

    def _integrate(self, *arguments):
        return PFODE(rtol=1e9, atol=1e9)._integrate(*arguments)


@killed_by("entries-without-noise-have-no-score")
class StillScored(PC):
    """The corrector moves all entries by what the model says of their score."""

    def step(self, model, z, t, s, noise, memory):
        z, _ = EulerMaruyama().step(model, z, t, s, noise, None)
        if s == 0:
            return z, None
        size = 2 * (self.snr * model.sde.scale(s)) ** 2
        return model.sde.project(z + size * model.score(z, s) + (2 * size).sqrt() * noise.normal(z), z), None
