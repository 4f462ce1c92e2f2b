"""Samplers with one plausible mistake each, and the law that has to find it: those made of `Euler` here, the others beside."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from sdezoo.process.affine import AffineSDE
from sdezoo.process.differentiation import along
from sdezoo.process.sde import MatrixSDE
from sdezoo_plugins.samplers.affine.ddim import DDIM
from sdezoo_plugins.samplers.affine.unipc import UniPC
from sdezoo_plugins.samplers.general.heun import Heun
from sdezoo_plugins.samplers.tailored.bridge import BridgeSampler
from sdezoo_plugins.samplers.tailored.dlpm import DLPM
from sdezoo_plugins.samplers.tailored.levy_sde import LevySDE
from tests.conformance.mutants.integrators import OF_OTHER_KINDS
from tests.conformance.mutants.orders import OF_ORDERS
from tests.conformance.right.samplers import Euler, mutants

OF_EULER, killed_by = mutants()


@killed_by("law-recovered")
class WithoutDivergence(Euler):
    """`f − g gᵀ s`: the reversal for additive noise."""

    def slope(self, model, z, t):
        return model.sde.drift(z, t) - model.sde.ggt(z, t, model.score(z, t))


@killed_by("law-recovered")
class HalfTheDivergence(Euler):
    """The divergence of the flow in the drift of the SDE."""

    def slope(self, model, z, t):
        return super().slope(model, z, t) + model.sde.divergence(z, t) / 2


@killed_by("matrix-noise-recovered")
class DiagonalOfTheNoise(Euler):
    """Each entry gets its own increment alone, as if the noise were a number for each entry."""

    def kick(self, sde, z, t, dt, noise):
        if not isinstance(sde, MatrixSDE):
            return super().kick(sde, z, t, dt, noise)
        return torch.einsum("ibi->bi", sde.columns(z, t)) * noise.normal(z) * dt.sqrt()


@killed_by("weak-order")
class DriftLost(Euler):
    """The score term alone: right where a process has no drift."""

    def slope(self, model, z, t):
        return super().slope(model, z, t) - model.sde.drift(z, t)


@killed_by("weak-order")
class WrongSign(Euler):
    """The score pushes away from the data."""

    def slope(self, model, z, t):
        return model.sde.reverse_drift(z, t, -model.score(z, t))


@killed_by("weak-order")
class FlowWithNoise(Euler):
    """Half the score, as in the flow, and the noise of the SDE."""

    def slope(self, model, z, t):
        return model.sde.reverse_drift(z, t, model.score(z, t), half=0.5)


@killed_by("weak-order")
class RootLost(Euler):
    """Noise in proportion to `dt`."""

    def kick(self, sde, z, t, dt, noise):
        return super().kick(sde, z, t, dt**2, noise)


@killed_by("weak-order")
class SharedNoise(Euler):
    """One normal number for all entries of a sample."""

    def kick(self, sde, z, t, dt, noise):
        fresh = noise.normal(z, (len(z), *(1,) * (z.ndim - 1)))
        return sde.diffusion(z, t) * fresh * dt.sqrt()


@killed_by("weak-order")
class NoiseReused(Euler):
    """The noise of the first step serves for all."""

    def step(self, model, z, t, s, noise, memory):
        memory = noise.normal(z) if memory is None and s > 0 else memory
        moved = z - (t - s) * self.slope(model, z, t)
        return moved + model.sde.diffusion(z, t) * memory * (t - s).sqrt() if s > 0 else moved, memory


@killed_by("noise-free-end")
class NoiseAtTheEnd(Euler):
    """Noise in the last step too."""

    def step(self, model, z, t, s, noise, memory):
        return z - (t - s) * self.slope(model, z, t) + self.kick(model.sde, z, t, t - s, noise), None


@killed_by("seeded")
class GlobalNoise(Euler):
    """`torch.randn` in place of the noise that is handed in."""

    def kick(self, sde, z, t, dt, noise):
        return sde.diffusion(z, t) * torch.randn_like(z) * dt.sqrt()


@killed_by("evaluations")
class FirstStepSkipped(Euler):
    """The first step returns what it was given."""

    def step(self, model, z, t, s, noise, memory):
        return (z, 1) if memory is None and s > 0 else (super().step(model, z, t, s, noise, memory)[0], 1)


@killed_by("rows-are-independent")
class Standardized(Euler):
    """Samples of a batch share their mean and spread at every step."""

    def step(self, model, z, t, s, noise, memory):
        z = super().step(model, z, t, s, noise, memory)[0]
        return z - 0.01 * z.mean(0), None


@killed_by("rows-are-independent")
class OneStreamForTheBatch(Euler):
    """All rows get the noise of the first."""

    def kick(self, sde, z, t, dt, noise):
        return super().kick(sde, z, t, dt, noise)[:1].expand_as(z)


@killed_by("far-out")
class Clamped(Euler):
    """States are kept within 3, as suits pixels."""

    def step(self, model, z, t, s, noise, memory):
        return super().step(model, z, t, s, noise, memory)[0].clamp(-3, 3), None


@killed_by("precision")
class ThroughFloat32(Euler):
    """The state goes through float32."""

    def slope(self, model, z, t):
        return super().slope(model, z.float().to(z), t)


@killed_by("precision")
class TimeThroughFloat32(Euler):
    """The step goes through float32."""

    def step(self, model, z, t, s, noise, memory):
        return super().step(model, z, t.float().double(), s.float().double(), noise, memory)


@killed_by("contract")
class Always32(Euler):
    """States are float32 whatever was asked for."""

    def step(self, model, z, t, s, noise, memory):
        return super().step(model, z, t, s, noise, memory)[0].float(), None


@killed_by("contract")
class FlatEventsAlone(Euler):
    """Broadcasts something `(B, d)`, which images are not."""

    def slope(self, model, z, t):
        return super().slope(model, z, t) + z.new_zeros(len(z), z[0].numel())


@killed_by("contract")
class DtypeOfTimes(Euler):
    """A column of times, float64, promotes the state."""

    def step(self, model, z, t, s, noise, memory):
        column = (t - s).expand(len(z)).reshape(-1, *(1,) * (z.ndim - 1))
        end = z - column * self.slope(model, z, t)
        return end + self.kick(model.sde, z, t, t - s, noise) if s > 0 else end, None


@killed_by("weak-order")
class WeakOrderOverclaimed(Euler):
    """Euler's method that calls itself one of second order."""

    weak_order: ClassVar[float | None] = 2.0


@killed_by("strong-order")
class StrongOrderOverclaimed(Euler):
    """Euler's method that calls itself Milstein's."""

    strong_order: ClassVar[float | None] = 1.0


@killed_by("strong-order")
class MilsteinWithTheWrongSign(Euler):
    """`−½ g g' (ΔW² − dt)` where Milstein's scheme adds it."""

    strong_order: ClassVar[float | None] = 1.0

    def kick(self, sde, z, t, dt, noise):
        g, slope = along(lambda u: sde.diffusion(u, t).expand_as(u), z)
        dw = noise.normal(z) * dt.sqrt()
        return g * dw - g * slope * (dw**2 - dt) / 2


@killed_by("weak-order")
class StratonovichForgotten(Euler):
    """Heun's stochastic method, which needs the drift of Stratonovich's form, with Itô's."""

    strong_order: ClassVar[float | None] = None

    def step(self, model, z, t, s, noise, memory):
        drift, dt, sde = self.slope(model, z, t), t - s, model.sde
        if s == 0:
            return z - dt * drift, None
        dw = noise.normal(z) * dt.sqrt()
        ahead = z + sde.diffusion(z, t) * dw
        return z - dt * drift + (sde.diffusion(z, t) + sde.diffusion(ahead, s)) / 2 * dw, None


@killed_by("times")
class OneStepTooFew(Euler):
    """Its grid counts times where it should count steps."""

    def grid(self, model, steps):
        return super().grid(model, max(steps - 1, 1))


@killed_by("times")
class BelowLo(Euler):
    """Its last steps are below `lo`, where no score may be asked for."""

    def grid(self, model, steps):
        return torch.linspace(model.sde.t_span[1], 0, steps + 1, dtype=torch.float64) ** 3


@killed_by("refinement")
class EndsEarly(Euler):
    """Its grid jumps to the data from a third of the way."""

    def grid(self, model, steps):
        times = torch.linspace(model.sde.t_span[1], max(model.sde.t_span[0], 0.3), steps, dtype=torch.float64)
        return torch.cat([times, times.new_zeros(1)]) if steps > 1 else torch.tensor([model.sde.t_span[1], 0.0], dtype=torch.float64)


@killed_by("start-and-callback")
class StartIgnored(Euler):
    """Data to start from are not used."""

    def sample(self, *arguments: Any, start: Tensor | None = None, **options: Any) -> Tensor:
        return super().sample(*arguments, **options)


@killed_by("start-and-callback")
class CallbackForgotten(Euler):
    """The callback is called at the end alone."""

    def sample(self, model, shape, steps, seed=0, *, callback=None, **options):
        def last(k, z, t):
            if callback and k == steps:
                callback(k, z, t)

        return super().sample(model, shape, steps, seed, callback=last, **options)


@killed_by("last-step-denoises")
class HalfOfTheNoiseLeft(DDIM):
    """The last step leaves as much noise as one of the probability flow, where all others are exact on data at one point."""

    def step(self, model, z, t, s, noise, memory):
        end, memory = super().step(model, z, t, s, noise, memory)
        k = model.sde.at(t, z)
        return (end if s > 0 else end + 0.5 * (z - k.alpha * end - k.shift)), memory


@killed_by("marginals-are-kept")
class NoiseOfTheWholeStep(BridgeSampler):
    """The noise of the whole step, where the bridge leaves less of it near its end."""

    def step(self, model, z, t, s, noise, memory):
        expected, q = model.denoise(z, t), s / t
        if q <= 0:
            return expected, None
        return q * z + (1 - q) * expected + model.sde.rate * (t - s).sqrt() * 2 * noise.normal(z), None

    def evaluations(self, steps):
        return steps


@killed_by("marginals-are-kept")
class VariancesForgotten(DLPM):
    """The variance of the first step for all steps."""

    def step(self, model, z, t, s, noise, memory):
        z, kept = super().step(model, z, t, s, noise, memory)
        return z, kept if memory is None else memory


@killed_by("walls-hold")
class StageOutside(Heun):
    """A first stage without the boundary rule."""

    def step(self, model, z, t, s, noise, memory):
        if isinstance(model.sde, AffineSDE):
            return super().step(model, z, t, s, noise, memory)
        slope, dt = model.sde.reverse_drift(z, t, model.score(z, t), half=0.5), t - s
        end = z - dt * slope
        if s > 0:
            slope = (slope + model.sde.reverse_drift(end, s, model.score(end, s), half=0.5)) / 2
        return model.sde.project(z - dt * slope, z), None


@killed_by("marginals-are-kept")
class IncrementOfTheLaterLevel(LevySDE):
    """The increment of the noise at the later level, not scaled to the earlier one. It declares a weak order, which no other law tries."""

    def step(self, model, z, t, s, noise, memory):
        denoised, p = model.denoise(z, t), model.sde.at(t, z)
        if s == 0:
            return denoised, None
        q = model.sde.at(s, z)
        kept = (q.sigma / p.sigma) ** 2 * p.alpha / q.alpha
        return q.alpha * denoised + kept * (z - p.alpha * denoised) + model.sde.increment(z, t, s, noise), None


@killed_by("marginals-are-kept")
class NoiseOfTheStep(BridgeSampler):
    """A bridge with the noise of a Brownian motion that is not pinned; in steps that are short it does not show."""

    def step(self, model, z, t, s, noise, memory):
        a, _ = model.sde.span(t)
        q = (s - a) / (t - a)
        if q <= 0:
            return model.denoise(z, t), None
        return q * z + (1 - q) * model.denoise(z, t) + model.sde.rate * (t - s).sqrt() * noise.normal(z), None


@killed_by("weak-order")
class OrderOfAnother(UniPC):
    """An order that is too high by one: the error is tiny, and falls too slowly."""

    weak_order: ClassVar[float | None] = 4.0


@killed_by("start-and-callback")
class StateInPlace(Heun):
    """A step that leaves its result in the state that it is given."""

    def step(self, model, z, t, s, noise, memory):
        end, memory = super().step(model, z, t, s, noise, memory)
        return z.copy_(end), memory


@killed_by("every-whole-number-is-read")
class Uncounted(Heun):
    """A whole number that nothing looks at."""

    inner: int = 2


MUTANTS = [*OF_EULER, *OF_OTHER_KINDS, *OF_ORDERS]
