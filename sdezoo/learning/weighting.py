"""Which noise levels count, and how often they are drawn.

A denoising loss is `E_t λ(t) ‖s_θ − s‖²`. Weightings name `λ`, with `v = scale²` the variance of the noise,
`σ̂ = σ/α`, `s` the standard deviation of the data in coordinates:

- `authors`: `v²`, mean squared error of the denoiser where `α = 1` (Shetty et al., arXiv 2510.02730: `(σ² t)²`);
- `uniform`: `v`, mean squared error of the predicted noise (Song et al., arXiv 2011.13456);
- `edm`: `v²/α² · (σ̂² + s²)/(σ̂ s)²`, mean squared error of a network of unit variance (Karras et al., arXiv
  2206.00364); affine processes.

Times are drawn `uniform` on `[lo, hi]`, or `log-normal`: `ln(σ̂/s) ~ N(0, 1.2²)` truncated to the process's levels,
where most is to be learnt; `s` here is the root mean square over channels or columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sdezoo.learning.model import ScoreModel
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process

WeightingName = Literal["authors", "uniform", "edm"]
TimesName = Literal["log-normal", "uniform"]

_SPREAD = 1.2


def _authors(model: ScoreModel, t: Tensor) -> Tensor:
    return model.sde.scale(t) ** 4


def _uniform(model: ScoreModel, t: Tensor) -> Tensor:
    return model.sde.scale(t) ** 2


def _edm(model: ScoreModel, t: Tensor) -> Tensor:
    k = model.sde.exact(t)
    noise, data = k.ratio**2, model.std.double() ** 2
    return (k.variance / k.alpha) ** 2 * (noise + data) / (noise * data)


WEIGHTINGS: dict[str, Callable[[ScoreModel, Tensor], Tensor]] = {"authors": _authors, "uniform": _uniform, "edm": _edm}


def weight(name: str, model: ScoreModel, t: Tensor, like: Tensor) -> Tensor:
    """`λ(t)` of the weighting `name`; broadcasts against, and has the dtype of, `like`."""
    return WEIGHTINGS[name](model, t).to(like)


def weighting_refuses(name: str | None, sde: Process) -> str | None:
    """Why the weighting `name` does not work with `sde`; None where it does."""
    if name == "edm" and not isinstance(sde, AffineSDE):
        return "with weighting=edm needs an affine SDE (Gaussian in its coordinates)"
    return None


def default_weighting(sde: Process) -> str:
    """`edm` for affine processes, `uniform` for the others."""
    return "uniform" if weighting_refuses("edm", sde) else "edm"


def draw_times(name: str, model: ScoreModel, span: tuple[float, float], shape: tuple[int, ...], noise: Noise, like: Tensor) -> Tensor:
    """Times in `span` of `shape` `(B, 1, …, 1)`, with dtype and device of `like`; uniform for processes that are not affine."""
    sde = model.sde
    lo, hi = span
    u = noise.uniform(torch.empty((), dtype=torch.float64), shape)
    if name == "uniform" or not isinstance(sde, AffineSDE):
        return (lo + (hi - lo) * u).to(like)
    centre = float(model.std.double().pow(2).mean().sqrt().log())
    ends = sde.coefficients(torch.tensor([lo, hi], dtype=torch.float64)).ratio.log()
    a, b = torch.special.ndtr((ends - centre) / _SPREAD).tolist()
    ratio = (centre + _SPREAD * torch.special.ndtri(a + (b - a) * u)).exp()
    return sde.time_at(ratio).to(like)
