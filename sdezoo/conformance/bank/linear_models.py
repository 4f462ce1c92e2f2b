"""Models that are linear in their parameters, and data with a known score, on which losses are tried.

The model is::

    s_θ(z, t) = θ_0 s*(z, t) + Σ_{j ≥ 1} θ_j ψ_j(z)          s* the exact score, so that θ* = (1, 0, …, 0)

If the network of the process learns a denoiser, `s*` is the exact denoiser.

With `f = (s*, ψ_1, …)`, an expected loss `λ(t) E ‖s_θ − s*‖²` up to a constant has the gradient `2 λ(t) E (s_θ − s*) · f_j`.
Each row has its own parameters, so that one backward pass gives the gradient of each sample's loss.

The data are a skewed mixture, about as wide as the noise at the time considered. Given the noised data, the clean data are
then neither normal nor symmetric, and a mistake shows at the first noise level as well as at the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from sdezoo.conformance.bank.cases import smallest_event, typical
from sdezoo.conformance.bank.problems import Atoms, Mixture
from sdezoo.conformance.law import LawError
from sdezoo.learning.loss import Batch, ScoreLoss
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.prior import Moments
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise, mix
from sdezoo.process.process import Denoised

Span = tuple[float, float]
Features = Callable[[Tensor, Tensor], Tensor]
"""`f(z, t)`: states `(B, *state)` and times to features `(B, k, *state)`."""

WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MEANS = torch.tensor([[-1.5, 0.5, 0.3], [0.5, -1.0, 1.0], [1.6, 1.8, -0.8]], dtype=torch.float64)
DEVIATIONS = torch.tensor([[0.3, 0.6, 0.4], [0.5, 0.3, 0.6], [0.8, 0.4, 0.3]], dtype=torch.float64)
CENTRE, WIDEST = 0.2, 2.0
"""Centre of the data in coordinates, and the largest unit that scales the table above."""
_LEAST_BLUR = 0.02
SPREADS = (0.4, 0.9)
"""Standard deviations of the data that the models assume, from the first entry to the last; weightings may depend on them."""
BENDS = 3
"""Number of features besides the exact score."""


class LinearModel(ScoreModel[Any]):
    """`s_θ = Σ_j θ_j f_j(z, t)`, a score or a denoiser, depending on the process, with parameters for each row.

    Args:
        sde: The process.
        features: `f`.
        theta: `θ`, `(B, k)`, or one for each entry, `(B, k, *state)`.
        entries: Size of the last dimension of a state.
    """

    def __init__(self, sde: Any, features: Features, theta: Tensor, entries: int) -> None:
        moments = Moments(torch.full((entries,), CENTRE), torch.linspace(*SPREADS, entries))
        super().__init__(sde, nn.Identity(), "epsilon" if isinstance(sde, Denoised) else "score", moments=moments)
        self.features = features
        self.theta = nn.Parameter(theta)

    def predict(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        # A loss may look at several states of each sample at once, stacked along the batch.
        theta = self.theta.repeat(len(z) // len(self.theta), *(1,) * (self.theta.ndim - 1))
        theta = theta.reshape(*theta.shape, *(1,) * (1 + z.ndim - theta.ndim))
        return (theta * self.features(z, t)).sum(1)

    def score(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        learned = self.predict(z, t)
        return self.sde.score_from_denoiser(learned, z, t) if isinstance(self.sde, Denoised) else learned

    def denoise(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        learned = self.predict(z, t)
        return learned if isinstance(self.sde, Denoised) else self.sde.denoised(z, t, learned)


@dataclass(frozen=True)
class Lesson:
    """A process, a span of times, and data whose score is known at these times."""

    sde: Any
    """The process."""
    span: Span
    """First and last time; times are sampled uniformly in their logarithm."""
    unit: float | None = None
    """Unit of length of the data in coordinates; None: the noise level in the middle of the span."""
    deep: bool = False
    """Whether rows have two dimensions, `(1, 2)`, which is tried for affine processes alone."""

    def __str__(self) -> str:
        first, last = self.span
        return f"{self.sde.spec}, t = {first:.4g}" + (f" to {last:.4g}" if last > first else "")

    @property
    def middle(self) -> Tensor:
        """The middle of the span: its geometric mean, float64, 0-dim."""
        return torch.tensor(math.sqrt(self.span[0] * self.span[1]), dtype=torch.float64)

    @cached_property
    def teacher(self) -> Mixture | Atoms:
        """The exact score: for an affine process of a normal mixture in its coordinates, else of a few points."""
        if isinstance(self.sde, AffineSDE):
            unit = min(float(self.sde.coefficients(self.middle).ratio), WIDEST) if self.unit is None else self.unit
            size = math.prod(self.sde.state_shape((1, *self.event)))
            return Mixture(self.sde, CENTRE + unit * MEANS[:, :size], unit * DEVIATIONS[:, :size], WEIGHTS)
        units = float(self.sde.scale(self.middle)) * 2.0 ** torch.arange(2, -10, -1)
        return max((self._atoms(min(unit, WIDEST)) for unit in units.tolist()), key=self._blur)

    @cached_property
    def blurred(self) -> bool:
        """Whether the noise hides which point was noised for more than a few rows; always for an affine process."""
        return isinstance(self.teacher, Mixture) or self._blur(self.teacher) > _LEAST_BLUR

    def _atoms(self, unit: float) -> Atoms:
        points = CENTRE + unit * MEANS[:, : math.prod(self.event)]
        return Atoms(self.sde, typical(self.sde, points.reshape(-1, *self.event)), WEIGHTS)

    def _blur(self, atoms: Atoms) -> float:
        """How much the noise hides which point was noised. If it does not, the regression target of denoising is the score itself."""
        x0 = atoms.clean(512, Noise.seeded(0))
        z = self.sde.perturb(x0, self.middle, Noise.seeded(1))
        target = self.sde.target(z, x0, self.middle)
        return float((target - atoms.predict(z, self.middle)).norm() / target.norm())

    @property
    def event(self) -> tuple[int, ...]:
        """Event shape of the data: two entries, or the smallest event of a support on whole rows."""
        if self.sde.support.event_dim or self.sde.row_shape:
            return smallest_event(self.sde)
        return (1, 2) if self.deep and isinstance(self.sde, AffineSDE) else (2,)

    def data(self, count: int, *key: int) -> tuple[Tensor, Tensor]:
        """Sample clean data and times.

        Args:
            count: Number of rows.
            key: Seed; the sample depends on nothing else.

        Returns:
            Data `(count, *event)` and times `(count, 1, …, 1)`, float64.
        """
        noise = Noise.seeded(*key)
        exact = self.teacher
        x0 = self.sde.decode(exact.clean(count, mix(*key, 1))) if isinstance(exact, Mixture) else exact.clean(count, noise)
        x0 = x0.reshape(count, *self.event)
        lo, hi = self.span
        column = (count, *(1,) * (len(self.sde.state_shape(x0.shape)) - 1))
        t = lo * (hi / lo) ** noise.uniform(x0, column)
        return x0, t.clamp(lo, hi)

    def states(self, count: int, *key: int) -> tuple[Tensor, Tensor]:
        """Sample `z_t` `(count, *state)` and `t`; arguments as in `data`."""
        x0, t = self.data(count, *key)
        return self.sde.perturb(x0, t, Noise.seeded(*key, 2)), t

    @cached_property
    def features(self) -> Features:
        """`f = (s*, ψ_1, …)`, `ψ_j = tanh(A_j u + b_j)` in units of one over the width of `z_t`, `u` the standardized network input."""
        z, t = self.states(512, 0)
        seen = self.sde.network_input(z, t).flatten(1)
        centre, width = seen.mean(0), seen.std(0)
        width = torch.where(width > 0, width, 1.0)  # nothing may be left at the last time
        shape = self.sde.network_input_shape(self.event)
        size = math.prod(shape)
        generator = torch.Generator().manual_seed(0)
        matrices = torch.eye(size, len(width)).expand(BENDS, -1, -1) + 0.5 * torch.randn(BENDS, size, len(width), generator=generator)
        offsets = torch.randn(BENDS, size, generator=generator)

        def features(z: Tensor, t: Tensor) -> Tensor:
            u = (self.sde.network_input(z, t).flatten(1) - centre) / width
            bends = torch.tanh(torch.einsum("jop,bp->bjo", matrices.to(u), u) + offsets.to(u)) / width.mean()
            completed = [self._completed(bend.reshape(len(z), *shape), z, t) for bend in bends.unbind(1)]
            return torch.stack([self.exact(z, t), *completed], 1)

        return features

    def _completed(self, bend: Tensor, z: Tensor, t: Tensor) -> Tensor:
        if not isinstance(self.sde, Denoised):
            return self.sde.score_from_output(bend, z, t)
        return self.sde.denoiser_from_output(bend, z, t) - self.sde.denoiser_from_output(torch.zeros_like(bend), z, t)

    def exact(self, z: Tensor, t: Tensor) -> Tensor:
        """`s*(z, t)`, differentiable in `z` if `z` requires gradients.

        Args:
            z: States, float64 `(B, *state)`.
            t: Times, 0-dim or `(B, 1, …, 1)`.
        """
        if isinstance(self.sde, Denoised):
            return self.teacher.denoise(z, t)
        if isinstance(self.teacher, Mixture) and z.ndim > 2:
            return self.teacher.score(z.flatten(1), t.reshape(-1, 1) if t.ndim else t).reshape(z.shape)
        s = self.teacher.score(z, t)
        if isinstance(self.teacher, Mixture) or not z.requires_grad:
            return s
        # The default `Conditional.score` is a gradient without a graph. Entries that a process leaves out of its score are 0.
        (slope,) = torch.autograd.grad(self.teacher.log_density(z, t).sum(), z, create_graph=True)
        return torch.where(s == 0, s, slope)

    def model(self, theta: Tensor, count: int) -> LinearModel:
        """The linear model with the same parameters in each row.

        Args:
            theta: `θ`, `(k,)`.
            count: Number of rows.
        """
        entries = self.sde.state_shape((1, *self.event))[-1]
        return LinearModel(self.sde, self.features, theta.double().repeat(count, 1), entries)


EXACT = torch.tensor([1.0] + [0.0] * BENDS, dtype=torch.float64)
"""`θ*`."""


def values(loss: ScoreLoss, lesson: Lesson, theta: Tensor, count: int, *key: int) -> tuple[LinearModel, Tensor]:
    """Evaluate a loss on the linear model.

    Args:
        loss: The loss.
        lesson: Process, data and times.
        theta: Parameters, `(k,)`.
        count: Number of samples.
        key: Seed of data, times and noise.

    Returns:
        The model, and its loss on each sample, `(count,)`.

    Raises:
        LawError: The loss has another shape.
    """
    x0, t = lesson.data(count, *key)
    model = lesson.model(theta, count)
    value = loss(model, Batch(x0), t, Noise.seeded(*key, 2))
    if value.shape != (count,):
        raise LawError(f"The loss of {count} samples has shape {tuple(value.shape)}.")
    return model, value


def gradients(loss: ScoreLoss, lesson: Lesson, theta: Tensor, count: int, *key: int) -> Tensor:
    """The gradient in `θ` of each sample's loss, `(count, k)`; arguments as in `values`."""
    model, value = values(loss, lesson, theta, count, *key)
    return torch.autograd.grad(value.sum(), model.theta)[0]


def entry_gradients(loss: ScoreLoss, lesson: Lesson, theta: Tensor, count: int, *key: int) -> tuple[Tensor, Tensor]:
    """The mean gradient in one `θ` for each entry of the state, `(k, *state)`, and the one that the claimed weight `λ` implies.

    Arguments as in `values`.
    """
    x0, t = lesson.data(count, *key)
    z = lesson.sde.perturb(x0, t, Noise.seeded(*key, 2))
    model = lesson.model(theta, count)
    with torch.no_grad():
        weight, f = loss.weight(model, t, z), lesson.features(z, t)
        assert weight is not None, "the loss claims no weight"
        claimed = (2 * (weight * (model.predict(z, t) - f[:, 0]))[:, None] * f).mean(0)
    shape = (*model.theta.shape, *z.shape[1:])
    model.theta = nn.Parameter(model.theta.detach().reshape(*model.theta.shape, *(1,) * (z.ndim - 1)).expand(shape).contiguous())
    value = loss(model, Batch(x0), t, Noise.seeded(*key, 2))
    return torch.autograd.grad(value.sum(), model.theta)[0].mean(0), claimed


def expected(loss: ScoreLoss, lesson: Lesson, theta: Tensor, count: int, *key: int) -> Tensor:
    """Samples of `2 λ(t) (s_θ − s*) · f_j`, `(count, k)`, whose mean `gradients` must have; arguments as in `values`.

    The loss must claim its weight `λ`.
    """
    z, t = lesson.states(count, *key)
    model = lesson.model(theta, count)
    with torch.no_grad():
        weight = loss.weight(model, t, z)
        assert weight is not None, "the loss claims no weight"
        f = lesson.features(z, t)
        error = weight * (model.predict(z, t) - f[:, 0])
        return 2 * (error[:, None] * f).flatten(2).sum(2)
