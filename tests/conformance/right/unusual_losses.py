"""Right losses with unusual but legal choices: odd weights, other random directions, several samples a row, control variates."""

from dataclasses import dataclass
from typing import Literal

import torch

from sdezoo.learning.loss import ScoreLoss, per_sample, score_along
from sdezoo.parameters import Count, Positive
from sdezoo.process.process import Conditional, Process
from tests.conformance.right.losses import Denoising, Sliced


@dataclass(frozen=True)
class Scaled(Denoising):
    """A weight of any size."""

    size: Positive = 1e6

    def weight(self, model, t, like):
        return self.size * super().weight(model, t, like)


@dataclass(frozen=True)
class Waving(Denoising):
    """A weight that goes up and down with time, 20 times."""

    def weight(self, model, t, like):
        return super().weight(model, t, like) * (1.1 + torch.sin(125 * t)).to(like)


@dataclass(frozen=True)
class Steep(Denoising):
    """A weight with a jump in the middle of time."""

    def weight(self, model, t, like):
        return super().weight(model, t, like) * torch.where(t < 0.5, 1e-3, 1.0).to(like)


@dataclass(frozen=True)
class Unclaimed(Denoising):
    """A loss that claims no weight."""

    def weight(self, model, t, like):
        return None

    def applied(self, model, t, z):
        return Denoising.weight(self, model, t, z)


@dataclass(frozen=True)
class Early(Denoising):
    """Trained on the first half of the times alone."""

    def t_span(self, sde):
        lo, hi = sde.t_span
        return lo, (lo + hi) / 2


@dataclass(frozen=True)
class Several(Denoising):
    """The mean over several noised states of every row."""

    count: Count = 2

    def __call__(self, model, batch, t, noise):
        return torch.stack([super(Several, self).__call__(model, batch, t, noise) for _ in range(self.count)]).mean(0)


@dataclass(frozen=True)
class Centred(Denoising):
    """Minus the square of the target, which does not depend on the network: often negative."""

    def __call__(self, model, batch, t, noise):
        z = self.noised(model.sde, batch.x0, t, noise)
        learned, target = self.learned(model, batch, z, t), self.target(model.sde, batch.x0, z, t, noise)
        return per_sample(self.weight(model, t, z) * learned * (learned - 2 * target))


@dataclass(frozen=True)
class Directions(Sliced):
    """Normal directions, or one entry at a time: the whole divergence."""

    kind: Literal["normal", "entries"] = "normal"

    def __call__(self, model, batch, t, noise):
        z = model.sde.perturb(batch.x0, t, noise)
        if self.kind == "normal":
            units = [noise.normal(z)]
        else:
            units = torch.eye(z[0].numel(), dtype=z.dtype).reshape(-1, 1, *z.shape[1:]).expand(-1, *z.shape)
        found = [score_along(model, batch, z, t, unit) for unit in units]
        trace = sum(unit * slope for unit, (_, slope) in zip(units, found, strict=True))
        return per_sample(2 * self.weight(model, t, z) * (trace + found[0][0] ** 2 / 2))


LOSSES: list[ScoreLoss[Conditional] | ScoreLoss[Process]] = [
    Scaled(),
    Scaled(size=1e-9),
    Waving(),
    Steep(),
    Unclaimed(),
    Early(),
    Several(),
    Centred(),
    Directions(),
    Directions(kind="entries"),
]
