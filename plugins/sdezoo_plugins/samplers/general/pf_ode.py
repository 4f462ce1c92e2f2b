"""Adaptive probability flow: Dormand and Prince's method, order 5 with an error estimate of order 4, to a tolerance.

Song et al., arXiv 2011.13456, eq. 13, solved as in their appendix D.4. For an affine process the flow is `dy/dρ = (y − D)/ρ` in
`y = (z − m)/α` against the noise level `ρ = σ/α` (Karras et al., arXiv 2206.00364, eq. 4). A step of size `h` is accepted if the root
mean square of `error / (atol + rtol |y|)` over the entries of a sample is at most 1. The next step is `0.9 error^{−1/5}` times as large
(Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, section II.4 and table II.5.2).

Every sample has its own step sizes, so it does not depend on its batch. A batch costs as many evaluations as its hardest sample.

Each step of the time grid is integrated separately. If the grid alone meets the tolerance, this is a method of order 5 with six
evaluations per step. The last slope of a step is the first slope of the next. At the end it gives the denoised state
`D = y − ρ dy/dρ`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sdezoo.errors import SdezooError
from sdezoo.learning.model import Model
from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler

_TABLEAU = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
_MOST_TRIES = 10_000

Last = tuple[Tensor, Tensor]
"""The slope `dy/dρ` at the end of the previous step, and the sizes of the next steps."""


@dataclass(frozen=True)
class PFODE(Sampler[AffineSDE, Last]):
    """Adaptive probability flow (Dormand–Prince) for every affine process: deterministic, as many evaluations as the tolerance needs."""

    papers: ClassVar[tuple[str, ...]] = ("song2020score", "karras2022elucidating")

    weak_order: ClassVar[float | None] = 5.0
    adaptive: ClassVar[bool] = True

    rtol: Positive = 1e-5
    """Error per step, relative to the state."""
    atol: Positive = 1e-5
    """Error per step, absolute."""

    def evaluations(self, steps: int) -> int:
        return 6 * steps - 5

    def step(
        self, model: Model[AffineSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: Last | None
    ) -> tuple[Tensor, Last | None]:
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        y = (z - p.shift) / p.alpha
        slope, size = memory or ((y - model.denoise(z, t)) / p.ratio, None)
        if s == 0:
            return q.shift + q.alpha * (y - p.ratio * slope), None
        y, slope, size = self._integrate(model, y, slope, size, p.ratio, q.ratio)
        return q.shift + q.alpha * y, (slope, size)

    def _integrate(
        self, model: Model[AffineSDE], y: Tensor, slope: Tensor, size: Tensor | None, start: Tensor, end: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`y` and its slope at the noise level `end`, and the sizes of the next steps. `size`: sizes of the first steps."""
        at = start.to(y.device).expand(len(y), *(1,) * (y.ndim - 1)).clone()
        size = at.new_full(at.shape, torch.inf) if size is None else size
        for _ in range(_MOST_TRIES):
            left = at - end
            if not left.any():
                return y, slope, size
            last = size >= left
            h = torch.where(last, left, size)
            slopes = [slope]
            there = y
            for row in _TABLEAU:
                there = y - h.to(y) * _combine(row, slopes)
                slopes.append(_flow(model, there, at - sum(row) * h))
            error = h.to(y) * _combine(_ERROR, slopes) / (self.atol + self.rtol * torch.maximum(y.abs(), there.abs()))
            error = error.double().flatten(1).square().mean(1).sqrt().reshape(at.shape)
            moves = (error <= 1) & (left > 0)
            y, slope = torch.where(moves, there, y), torch.where(moves, slopes[-1], slope)
            at = torch.where(moves, torch.where(last, end, at - h), at)
            size = torch.where(left > 0, h * (0.9 * error**-0.2).nan_to_num(0.2).clamp(0.2, 10), size)
        raise SdezooError(f"{self.title()}: rtol={self.rtol:g}, atol={self.atol:g} are not met in {_MOST_TRIES} steps.", "Raise them.")


def _flow(model: Model[AffineSDE], y: Tensor, ratio: Tensor) -> Tensor:
    t = model.sde.time_at(ratio)
    k = model.sde.at(t, y)
    return (y - model.denoise(k.shift + k.alpha * y, t)) / k.ratio


def _combine(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    return sum((w * k for w, k in zip(weights, slopes, strict=True) if w), torch.zeros_like(slopes[0]))
