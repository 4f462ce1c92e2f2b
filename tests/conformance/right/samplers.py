"""Right samplers that mistakes are made in, and how a mistake is entered in a list."""

from dataclasses import dataclass, field
from typing import ClassVar

from sdezoo import ForwardSDE, Sampler
from sdezoo.sampling.grid import Spacing


def mutants():
    """A list of mistakes, name, sampler, law, and the decorator that makes a plugin of a class and enters it."""
    entries: list[tuple[str, type[Sampler], str]] = []

    def killed_by(law):
        def enter(mutant):
            mutant = dataclass(frozen=True)(mutant)
            entries.append((mutant.__name__, mutant, law))
            return mutant

        return enter

    return entries, killed_by


@dataclass(frozen=True)
class Euler(Sampler[ForwardSDE]):
    """Euler–Maruyama on the reverse SDE, with every ingredient a method of its own."""

    strong_order: ClassVar[float | None] = 0.5

    def slope(self, model, z, t):
        return model.sde.reverse_drift(z, t, model.score(z, t))

    def kick(self, sde, z, t, dt, noise):
        return sde.diffuse(z, t, noise.normal(z, sde.noise_shape(z.shape))) * dt.sqrt()

    def step(self, model, z, t, s, noise, memory):
        mean = z - (t - s) * self.slope(model, z, t)
        return model.sde.project(mean + self.kick(model.sde, z, t, t - s, noise) if s > 0 else mean, z), None


@dataclass(frozen=True)
class Flow(Sampler[ForwardSDE]):
    """Heun's method on the probability flow, with every ingredient a method of its own."""

    weak_order: ClassVar[float | None] = 2.0
    spacing: Spacing = field(default="uniform", kw_only=True)

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1

    def slope(self, model, z, t):
        return model.sde.reverse_drift(z, t, model.score(z, t), half=0.5)

    def second(self, model, end, t, s):
        return self.slope(model, end, s)

    def mean(self, first, second):
        return (first + second) / 2

    def step(self, model, z, t, s, noise, memory):
        first = self.slope(model, z, t)
        end = model.sde.project(z - (t - s) * first, z)
        if s > 0:
            end = model.sde.project(z - (t - s) * self.mean(first, self.second(model, end, t, s)), z)
        return end, None


RIGHT = [Euler, Flow]
