"""Score losses: the objectives of training.

A loss maps a model, a batch, times `(B, 1, …, 1)` and noise to one value per sample, `(B,)`, summed over the entries of
the state. The loss of a sample must not depend on the rest of the batch. A loss declares what it needs of the process by
its base class, `ScoreLoss[Conditional]`. A loss that regresses on the `target` of the process requires `Supervised`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sdezoo.learning.model import ScoreModel
from sdezoo.parameters import Plugin
from sdezoo.process.bridge import Bridge
from sdezoo.process.noise import Noise
from sdezoo.process.process import Denoised, Process, Supervised
from sdezoo.process.requirement import P, Requirement


@dataclass(frozen=True)
class Batch:
    """A batch of training data, in the domain of the process."""

    x0: Tensor
    """Clean data, `(B, *event)`."""
    x1: Tensor | None = None
    """The other endpoint, for bridges, `(B, *event)`."""
    condition: Tensor | None = None
    """Class indices, integers `(B,)`, or what is given of series, see `sdezoo.learning.forecast`; None: unconditional."""


class ScoreLoss(Plugin, Requirement[P], ABC):
    """A loss minimized by the score, or by the denoiser of a `Denoised` process. Abstract: `__call__`.

    Only losses that require `Supervised` accept a `Denoised` process. They regress `model.predict` on its `target`.
    """

    def refuses(self, sde: Process) -> str | None:
        if isinstance(sde, Denoised | Bridge) and not issubclass(self.requires, Supervised):
            return "needs a process that has a score"
        return super().refuses(sde)

    def t_span(self, sde: Process) -> tuple[float, float]:
        """`(lo, hi)`: the times used in training. Default: `t_span` of the process."""
        return sde.t_span

    @abstractmethod
    def __call__(self, model: ScoreModel[P], batch: Batch, t: Tensor, noise: Noise) -> Tensor:
        """The loss of each sample, `(B,)`.

        Args:
            model: the model to train.
            batch: the training data.
            t: times, `(B, 1, …, 1)`.
            noise: random numbers.
        """

    def weight(self, model: ScoreModel[P], t: Tensor, like: Tensor) -> Tensor | None:
        """The weight `λ` of an expected loss `E Σ λ (s_θ − s)²` up to a constant. Default: None, the loss claims no such form.

        Here `s` is the score, or the denoiser of a `Denoised` process. `λ` depends on `t`, and also on the state if the process
        has a `score_error_weighting`.

        Args:
            model: the model to train.
            t: times, `(B, 1, …, 1)`.
            like: the state, `(B, *state)`; the result broadcasts against it.
        """
        return None


def per_sample(entries: Tensor) -> Tensor:
    """Sum over all dimensions except the batch.

    Args:
        entries: values, `(B, …)`.

    Returns:
        Sums, `(B,)`.
    """
    return entries.flatten(1).sum(1)


def score_along(
    model: ScoreModel, batch: Batch, z: Tensor, t: Tensor, direction: Tensor, field: Callable[[Tensor, Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """The model's score `s` at `z` and `∇_z (vᵀ s)` for `v = direction`; both are differentiable.

    `E vᵀ ∇_z (vᵀ s)` over random signs `v` is the divergence of the score (Hutchinson).

    Args:
        model: the model.
        batch: the training data; only its `condition` is used.
        z: state, `(B, *state)`.
        t: times, `(B, 1, …, 1)`.
        direction: `v`, shaped like `z`.
        field: maps `z` and `s` to what is differentiated in place of `s`, such as `g gᵀ s`.

    Returns:
        `s` and `∇_z (vᵀ s)`, both shaped like `z`.
    """
    # Double backward: forward mode fails on channels-last group norms, and fused attention has no second derivative.
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        z = z.detach().requires_grad_()
        s = model.score(z, t, batch.condition)
        (slope,) = torch.autograd.grad(((s if field is None else field(z, s)) * direction).sum(), z, create_graph=True)
    return s, slope
