"""Three losses that are right, cut into parts: a mutant replaces one of them."""

from dataclasses import dataclass

from sdezoo.learning.loss import ScoreLoss, per_sample, score_along
from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Conditional, Process
from sdezoo.process.requirement import needs_multiplicative


@dataclass(frozen=True)
class Denoising(ScoreLoss[Conditional]):
    """`E v ‖s_θ(z_t, t) − ∇ log p(z_t | x_0)‖²`."""

    def weight(self, model, t, like):
        return (model.sde.scale(t) ** 2).to(like)

    def applied(self, model, t, z):
        return self.weight(model, t, z)

    def noised(self, sde, x0, t, noise):
        return sde.perturb(x0, t, noise)

    def learned(self, model, batch, z, t):
        return model.score(z, t, batch.condition)

    def target(self, sde, x0, z, t, noise):
        return sde.score(z, x0, t)

    def reduced(self, weight, error):
        return per_sample(weight * error**2)

    def __call__(self, model, batch, t, noise):
        z = self.noised(model.sde, batch.x0, t, noise)
        error = self.learned(model, batch, z, t) - self.target(model.sde, batch.x0, z, t, noise)
        return self.reduced(self.applied(model, t, z), error)


@dataclass(frozen=True)
class AffineDenoising(Denoising, ScoreLoss[AffineSDE]):
    """The same with `∇ log p(z_t | x_0) = (α z_0 + m − z)/v` written out."""

    def target(self, sde, x0, z, t, noise):
        k = sde.at(t, z)
        return (k.alpha * sde.encode(x0) + k.shift - z) / k.variance


@dataclass(frozen=True)
class Sliced(ScoreLoss[Process]):
    """`E v [uᵀ (∂s_θ) u + ½ ‖s_θ‖²]` over random signs `u`; not at walls."""

    def refuses(self, sde):
        return super().refuses(sde) or ("needs a density that vanishes at walls" if sde.reflecting_boundary else None)

    def weight(self, model, t, like):
        return (model.sde.scale(t) ** 2).to(like) / 2

    def entries(self, s, sign, slope):
        return sign * slope + s**2 / 2

    def __call__(self, model, batch, t, noise):
        z = model.sde.perturb(batch.x0, t, noise)
        sign = noise.normal(z).sign()
        s, slope = score_along(model, batch, z, t, sign)
        return per_sample(2 * self.weight(model, t, z) * self.entries(s, sign, slope))


@dataclass(frozen=True)
class Nonnegative(ScoreLoss[AffineSDE]):
    """`E Σ_i [h_i + ∂h_i/∂z_i + ½ h_i²]`, `h = s_θ − 1`, on the data as they are."""

    def refuses(self, sde):
        return needs_multiplicative(sde)

    def t_span(self, sde):
        return sde.t_span[0], sde.t_span[0]

    def entries(self, s, sign, slope):
        h = s - 1
        return h + sign * slope + h**2 / 2

    def __call__(self, model, batch, t, noise):
        z = model.sde.encode(batch.x0)
        sign = noise.normal(z).sign()
        s, slope = score_along(model, batch, z, t, sign)
        return per_sample(self.entries(s, sign, slope))


RIGHT = [Denoising, AffineDenoising, Sliced, Nonnegative]


def mutants():
    """A list of `(name, mutant, law that kills it)`, and the decorator that fills it."""
    found = []

    def killed_by(law):
        def register(cls):
            cls = dataclass(frozen=True)(cls)
            found.append((cls.__name__, cls, law))
            return cls

        return register

    return found, killed_by
