"""Rectified flow: a straight line from the data to noise, `X_t = (1 − t) X_0 + t ε`.

Liu, Gong & Liu, arXiv 2209.03003, eq. 1, with the data at `t = 0` (in the paper they are at 1): `α = 1 − t`, `m = 0`, `v = t²`. The
diffusion with these transitions is `dX = −X/(1 − t) dt + √(2t/(1 − t)) dW`. The paper learns the velocity
`E[ε − X_0 | X_t] = (X_t − D)/t`, with the denoiser `D`. Its flow `dX/dt` is the probability flow, and an Euler step along it is exactly
that of `ddim`. The stochastic sampler is `rectified-sde`.

The diffusion is singular at `t = 1`, and the score is undefined at 0: `t_span` leaves out `delta` at both ends. That is `δ` of the grids
of Roy, Rinaldo & Sarkar, arXiv 2601.15500, the first of which is `spacing=u-grid`.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from sdezoo.process.affine import AffineSDE, Coefficients


@dataclass(frozen=True)
class RectifiedFlow(AffineSDE):
    """Rectified flow: a straight line from data to noise, x_t = (1 − t)x_0 + tε; for data of about unit size."""

    papers: ClassVar[tuple[str, ...]] = ("liu2022flow", "roy2026low")

    delta: Annotated[float, Interval(gt=0, lt=0.5)] = 0.01
    """`δ`: the fraction of noise at the start of `t_span`, and of signal at its end."""

    @property
    def t_span(self) -> tuple[float, float]:
        return self.delta, 1 - self.delta

    def coefficients(self, t: Tensor) -> Coefficients:
        return Coefficients(1 - t, torch.zeros_like(t), t**2)

    def equation(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return -x / (1 - t), (2 * t / (1 - t)).sqrt()
