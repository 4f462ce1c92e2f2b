"""Score losses: what training minimizes.

A loss maps a model, a batch, times `(B, 1, …, 1)` and noise to one number a sample, `(B,)`, summed over the state's
entries: nothing in it may depend on the rest of the batch. What it needs of the process it declares by its base,
`ScoreLoss[Conditional]`. One that regresses on what the process says asks for `Supervised`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sdezoo.learning.model import ScoreModel
from sdezoo.parameters import Plugin
from sdezoo.process.noise import Noise
from sdezoo.process.process import Denoised, Process, Supervised
from sdezoo.process.requirement import P, Requirement


@dataclass(frozen=True)
class Batch:
    """What a loss sees of the data: clean `x0` `(B, *event)`, the other end `x1` for bridges, labels `condition` `(B,)`."""

    x0: Tensor
    x1: Tensor | None = None
    condition: Tensor | None = None


class ScoreLoss(Plugin, Requirement[P], ABC):
    """A loss whose minimizer is the score, or what else the process says that a network learns. Abstract: `__call__`.

    A process that learns a denoiser is taken by losses that ask for a `Supervised` one, and regress `model.predict` on its `target`.
    """

    def refuses(self, sde: Process) -> str | None:
        if isinstance(sde, Denoised) and not issubclass(self.requires, Supervised):
            return "needs a process that has a score"
        return super().refuses(sde)

    def t_span(self, sde: Process) -> tuple[float, float]:
        """The times at which it learns; default: all of the process's."""
        return sde.t_span

    @abstractmethod
    def __call__(self, model: ScoreModel[P], batch: Batch, t: Tensor, noise: Noise) -> Tensor:
        """The loss of each sample, `(B,)`."""

    def weight(self, model: ScoreModel[P], t: Tensor, like: Tensor) -> Tensor | None:
        """`λ` where the expected loss is `E Σ λ (s_θ − s)²` up to a constant; broadcasts against `like`, the state. None: not claimed.

        `s` is the score, or what else the process says that a network learns.

        A function of `t`, and where the process has a `score_error_weighting` of the state too.
        """
        return None


def per_sample(entries: Tensor) -> Tensor:
    """Sum over everything but the batch."""
    return entries.flatten(1).sum(1)


def score_along(model: ScoreModel, batch: Batch, z: Tensor, t: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """The model's score `s` at `z` and `∇_z (vᵀ s)` for `v = direction`; both can be differentiated once more.

    `E vᵀ ∇_z (vᵀ s)` over random signs `v` is the divergence of the score (Hutchinson).
    """
    # Backward twice: forward mode fails on channels-last group norms, and fused attention has no second derivative.
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        z = z.detach().requires_grad_()
        s = model.score(z, t, batch.condition)
        (slope,) = torch.autograd.grad((s * direction).sum(), z, create_graph=True)
    return s, slope
