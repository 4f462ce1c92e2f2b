"""Samplers whose order is lower than they declare on some processes, or that take a number of 0 for none."""

from typing import ClassVar

from sdezoo.parameters import Fraction
from sdezoo.process.affine import AffineSDE
from sdezoo.sampling.sampler import Sampler
from sdezoo_plugins.samplers.affine.ddim import DDIM
from sdezoo_plugins.samplers.tailored.bridge import BridgeSampler
from tests.conformance.right.samplers import mutants

OF_ORDERS, killed_by = mutants()


@killed_by("weak-order")
class NoiseAtOneTime(Sampler[AffineSDE]):
    """Heun's method on the reverse SDE, with the noise that a step has at its start: of order 2 if the noise is constant."""

    weak_order: ClassVar[float | None] = 2.0

    def evaluations(self, steps):
        return 2 * steps - 1

    def step(self, model, z, t, s, noise, memory):
        sde, dt = model.sde, t - s
        slope = sde.reverse_drift(z, t, model.score(z, t))
        if s == 0:
            return z - slope * dt, None
        kick = sde.diffusion(z, t) * dt.sqrt() * noise.normal(z)
        end = z - slope * dt + kick
        return z - (slope + sde.reverse_drift(end, s, model.score(end, s))) / 2 * dt + kick, None


@killed_by("weak-order-between-data")
class OtherWeight(BridgeSampler):
    """A tenth too much of what the second evaluation adds."""

    def step(self, model, z, t, s, noise, memory):
        a, _ = model.sde.span(t)
        expected, q = model.denoise(z, t), (s - a) / (t - a)
        if q <= 0:
            return expected, None
        mean, kick = q * z + (1 - q) * expected, model.sde.rate * (q * (t - s)).sqrt() * noise.normal(z)
        w = 1 + q * q.log() / (1 - q)
        return mean + kick + 1.1 * w * (model.denoise(mean + (q**-0.5 - 1) / w * kick, s) - expected), None


@killed_by("zero-is-a-number")
class AllForNothing(DDIM):
    """The default for a share of 0."""

    eta: Fraction = 1.0

    def step(self, model, z, t, s, noise, memory):
        return DDIM(self.eta or 1.0).step(model, z, t, s, noise, memory)
