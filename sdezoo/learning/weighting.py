"""Loss weightings: the weight of each noise level in a loss.

A denoising loss is `E_t λ(t) ‖s_θ − s‖²`. With `v = scale²` the variance of the noise, `σ̂ = σ/α` the noise level, `s` the standard
deviation of the clean coordinates, and `‖D − z_0‖² = (v/α)² ‖s_θ − s‖²` for the denoiser `D`, the weightings `λ` are:

- `paper`: `v²`, mean squared error of the denoiser if `α = 1` (Shetty et al., arXiv 2510.02730: `(σ² t)²`);
- `uniform`: `v`, mean squared error of the predicted noise (Song et al., arXiv 2011.13456);
- `edm`: `v²/α² · (σ̂² + s²)/(σ̂ s)²`, mean squared error of a network of unit variance (Karras et al., arXiv
  2206.00364); affine processes only;
- `min-snr`: `(v/α)² min(SNR, 5)/s²`, `SNR = (s/σ̂)²` (Hang et al., arXiv 2303.09556, section 3.4); affine processes only;
- `likelihood`: `g²`; with uniform times, the loss then bounds the likelihood (Song et al., arXiv 2101.09258, theorem 1); affine
  processes only.

If the network learns a denoiser (`sdezoo.process.process.Denoised`), the loss is `E_t λ(t) ‖D_θ − z_0‖²`. Then `paper` is 1, and
`uniform` is `1/error_scale²`, the mean squared error of the network's output.

The distribution of noise levels in training is a separate choice, see `sdezoo.learning.noise_levels`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sdezoo.learning.model import ScoreModel
from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Denoised, Process

WeightingName = Literal["paper", "uniform", "edm", "min-snr", "likelihood"]

_LARGEST_SNR = 5.0


def _paper(model: ScoreModel, t: Tensor) -> Tensor:
    if isinstance(model.sde, Denoised):
        return torch.ones_like(t, dtype=torch.float64)
    return model.sde.scale(t) ** 4


def _uniform(model: ScoreModel, t: Tensor) -> Tensor:
    if isinstance(model.sde, Denoised):
        return model.sde.error_scale(t) ** -2
    return model.sde.scale(t) ** 2


def _edm(model: ScoreModel, t: Tensor) -> Tensor:
    k = model.sde.exact(t)
    noise, data = k.ratio**2, model.sigma_data.double() ** 2
    return (k.variance / k.alpha) ** 2 * (noise + data) / (noise * data)


def _min_snr(model: ScoreModel, t: Tensor) -> Tensor:
    k = model.sde.exact(t)
    data = model.sigma_data.double() ** 2
    return (k.variance / k.alpha) ** 2 * (data / k.ratio**2).clamp(max=_LARGEST_SNR) / data


def _likelihood(model: ScoreModel, t: Tensor) -> Tensor:
    return model.sde.rates(t)[2]


WEIGHTINGS: dict[str, Callable[[ScoreModel, Tensor], Tensor]] = {
    "paper": _paper,
    "uniform": _uniform,
    "edm": _edm,
    "min-snr": _min_snr,
    "likelihood": _likelihood,
}
"""`λ(t)` by name, from a model and times."""


def weight(name: str, model: ScoreModel, t: Tensor, like: Tensor) -> Tensor:
    """`λ(t)` of a weighting.

    Args:
        name: a key of `WEIGHTINGS`.
        model: the model to train.
        t: times, `(B, 1, …, 1)`.
        like: the state, `(B, *state)`; the result broadcasts against it and has its dtype.
    """
    return WEIGHTINGS[name](model, t).to(like)


def weighting_refuses(name: str | None, sde: Process) -> str | None:
    """Why a weighting does not fit a process, as a phrase; None if it fits.

    Args:
        name: a key of `WEIGHTINGS`; None always fits.
        sde: the noise process.
    """
    if name in ("edm", "min-snr", "likelihood") and not isinstance(sde, AffineSDE):
        return f"with weighting={name} needs an affine SDE (Gaussian in its coordinates)"
    return None


def default_weighting(sde: Process) -> str:
    """The default weighting of a process: `edm` if it is affine, otherwise `uniform`."""
    return "uniform" if weighting_refuses("edm", sde) else "edm"
