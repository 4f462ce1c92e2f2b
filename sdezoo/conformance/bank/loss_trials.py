"""Trials of losses: a loss, a process that it accepts, a few samples and a small network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor, nn
from torch.nn.functional import softplus

from sdezoo.conformance.bank.cases import Case, process_cases, smallest_event, typical, variants
from sdezoo.conformance.bank.problems import Additive, Hastening, Multiplicative
from sdezoo.conformance.bank.sampler_problems import Sheared, sheared
from sdezoo.conformance.law import LawError
from sdezoo.learning.loss import Batch, ScoreLoss
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.output import OUTPUTS
from sdezoo.learning.prior import Moments
from sdezoo.process.affine import AffineSDE
from sdezoo.process.interpolant import Interpolant, Mix
from sdezoo.process.noise import KeyedNoise, Noise
from sdezoo.process.process import Conditional, Process, Shape, Supervised
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SDES

SHAPES: Sequence[Shape] = ((1,), (2,), (2, 3, 3))
_REGISTERED = 2
_HIDDEN = 8
_LOGISTIC = math.pi / math.sqrt(3)


@dataclass(frozen=True)
class Opaque(Process):
    """`Additive` as a bare `Process`, without the interfaces that it implements: a loss that needs more must declare it."""

    @property
    def t_span(self) -> tuple[float, float]:
        return Additive().t_span

    def scale(self, t: Tensor) -> Tensor:
        return Additive().scale(t)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return Additive().perturb(x0, t, noise)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return Additive().prior(shape, noise, like)


@dataclass(frozen=True)
class OpaqueConditional(Opaque, Conditional):
    """`Additive` as a bare `Conditional` process."""

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        return Additive().log_prob(z, x0, t)

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        return Additive().score(z, x0, t)


@dataclass(frozen=True)
class Logistic(Interpolant):
    """`z_t = e^{−t} z_0 + σ(t) e`, `σ² = 2 (1 − e^{−2t})`, with logistic noise of variance 1: its network learns a denoiser."""

    @property
    def t_span(self) -> tuple[float, float]:
        return Additive().t_span

    def mix(self, t: Tensor) -> Mix:
        t = t.double()
        return Mix(torch.exp(-t), (-2 * torch.expm1(-2 * t)).sqrt())

    def base(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        tiny = torch.finfo(like.dtype).eps
        return torch.logit(noise.uniform(like, shape).clamp(tiny, 1 - tiny)) / _LOGISTIC

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        k = self.at(t, z)
        away = _LOGISTIC * (z - k.alpha * x0) / k.sigma
        return math.log(_LOGISTIC) - k.sigma.log() - away - 2 * softplus(-away)


@dataclass(frozen=True)
class DenseSheared(Sheared, Conditional):
    """`Sheared` on rows of two entries, with its transition density: normal in the flat coordinates, which have the same volume."""

    @property
    def row_shape(self) -> Shape:
        return (2,)

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        scale = self.scale(t).to(z)
        away = (sheared(z, -1) - sheared(x0, -1)) / scale
        return -(away**2) / 2 - scale.log() - math.log(2 * math.pi) / 2


def accepted(loss: Any, dense: bool = False) -> list[Any]:
    """The reference processes that a loss accepts; if it accepts none, the first registered processes that it accepts.

    Args:
        loss: The loss.
        dense: If True, only those whose transition density is known, which the exact score needs.
    """
    references = [Hastening(), Multiplicative(), OpaqueConditional(), Opaque(), Logistic()]
    found = [sde for sde in references if loss.refuses(sde) is None] or [
        _adapted(sde) for _, sde in defaults(SDES) if loss.refuses(sde) is None
    ][:_REGISTERED]
    return [sde for sde in found if not dense or (isinstance(sde, Supervised) and sde.knows_density)]


def _adapted(sde: Process) -> Process:
    event = smallest_event(sde)
    size = math.prod(event)
    return sde.adapted(typical(sde, torch.linspace(-1, 1.3, 12 * size, dtype=torch.float64).reshape(12, *event)))


class SmallNetwork(nn.Module):
    """`tanh(x W + level a + label b) U`: a network that depends on every input, with fixed weights.

    Args:
        inputs: Number of entries of `x`.
        event: Shape of the output, without the batch.
        labels: `(B,)`; if given, the network uses these labels, and rejects a `condition`.
    """

    def __init__(self, inputs: int, event: Shape, labels: Tensor | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def weights(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.5 * torch.randn(shape, generator=generator, dtype=torch.float64))

        self.event, self.labels = event, labels
        self.enter, self.level, self.label = weights(inputs, _HIDDEN), weights(_HIDDEN), weights(_HIDDEN)
        self.leave = weights(_HIDDEN, math.prod(event))

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        dtype = self.enter.dtype
        hidden = x.flatten(1).to(dtype) @ self.enter + level.to(dtype)[:, None] * self.level
        if self.labels is not None:
            assert condition is None, "the network got labels, and the batch has none"
            condition = self.labels.repeat(len(x) // len(self.labels))
        if condition is not None:
            hidden = hidden + condition.to(dtype)[:, None] * self.label
        return (torch.tanh(hidden) @ self.leave).reshape(len(x), *self.event)


@dataclass(frozen=True)
class Trial:
    """A loss, a process with data, and an output parameterization: the case of most laws of losses."""

    loss: Any
    """The loss."""
    case: Case
    """The process, data and times."""
    output: str
    """Output parameterization of the model."""

    def __str__(self) -> str:
        times = [round(u, 6) for u in self.t.flatten().tolist()]
        return f"{self.case}, output {self.output}, times of the loss {times}"

    def __len__(self) -> int:
        return len(self.case.normals)

    @property
    def t(self) -> Tensor:
        """The times of the case, mapped to the `t_span` of the loss: a column `(B, 1, …, 1)` in the dtype of the data."""
        (lo, hi), (first, last) = self.case.sde.t_span, self.loss.t_span(self.case.sde)
        share = (self.case.column - lo) / (hi - lo)
        return (first + (last - first) * share).clamp(first, last).to(self.case.normals.dtype)

    def outputs(self) -> list[Trial]:
        """The same trial with every output parameterization that fits the process."""
        return [replace(self, output=name) for name in outputs(self.case.sde)]

    def model(self, labels: Tensor | None = None) -> ScoreModel[Any]:
        """A model with a small network, in the dtype of the data.

        Args:
            labels: `(B,)`; labels that the network itself uses.
        """
        sde, x0 = self.case.sde, self.case.x0
        state = tuple(sde.state_shape(x0.shape))[1:]
        seen = sde.network_input_shape(x0.shape[1:])
        net = SmallNetwork(math.prod(seen), seen, labels).to(x0.dtype)
        entries = (state[0], *(1,) * (len(state) - 1))
        moments = Moments(torch.zeros(entries), torch.linspace(0.5, 1.1, state[0]).reshape(entries))
        return ScoreModel(sde, net, self.output, moments=moments if isinstance(sde, AffineSDE) else None)

    def value(self, model: ScoreModel[Any], rows: Sequence[int] | None = None, **moved: Tensor) -> Tensor:
        """Evaluate the loss.

        Args:
            model: The model.
            rows: Indices of the rows of the batch; None: all.
            moved: Replacements for `x0` or `t`, or a `condition`.

        Returns:
            `(len(rows),)`.
        """
        rows = range(len(self)) if rows is None else rows
        x0, t = moved.get("x0", self.case.x0), moved.get("t", self.t)
        batch, times = Batch(x0[list(rows)], condition=moved.get("condition")), t[list(rows)]
        found = self.loss(model, batch, times, KeyedNoise(self.case.seed, rows))
        if not (torch.equal(batch.x0, x0[list(rows)]) and torch.equal(times, t[list(rows)])):
            raise LawError("It changes the data or the times that it is given.")
        return found


def computed(loss: Any) -> dict[Any, list[Any]]:
    """The times of a loss, and its values and weights for two rows at three times, by the process, of those that it accepts.

    Args:
        loss: The loss.
    """
    found: dict[Any, list[Any]] = {}
    for sde in accepted(loss):
        event, (lo, hi) = smallest_event(sde), loss.t_span(sde)
        normals = torch.linspace(-0.7, 0.9, 2 * math.prod(event), dtype=torch.float64).reshape(2, *event)
        for share in (0.0, 0.5, 0.9):
            first, last = sde.t_span
            trial = Trial(loss, Case(sde, normals, torch.tensor(first + share * (last - first), dtype=torch.float64)), outputs(sde)[0])
            found.setdefault(sde, []).extend(
                [lo, hi, trial.value(trial.model()).detach(), loss.weight(trial.model(), trial.t, trial.case.draw())]
            )
    return found


def outputs(sde: Process) -> list[str]:
    """Names of the output parameterizations that fit a process."""
    return [name for name, output in OUTPUTS.items() if output.refuses(sde) is None]


def trials(loss: ScoreLoss, shapes: Sequence[Shape] = SHAPES, **limits: Any) -> list[SearchStrategy[Trial]]:
    """Hypothesis strategies for trials of a loss and its variants, one for each process: Hypothesis may hardly leave the first it draws.

    Args:
        loss: The loss.
        shapes: Event shapes of the data, unless the support is one on whole rows.
        limits: Passed to `process_cases`.
    """

    def on(variant: ScoreLoss, sde: Process) -> SearchStrategy[Trial]:
        cases = process_cases(sde, shapes=None if sde.support.event_dim else shapes, **limits)
        cases = cases.filter(lambda case: variant.refuses(case.sde) is None)
        return st.builds(Trial, st.just(variant), cases, st.sampled_from(outputs(sde)))

    kinds: dict[type[Process], list[tuple[Any, Process]]] = {}
    for variant in variants(loss):
        for sde in accepted(variant):
            kinds.setdefault(type(sde), []).append((variant, sde))
    return [st.sampled_from(alike).flatmap(lambda kind: on(*kind)) for alike in kinds.values()]
