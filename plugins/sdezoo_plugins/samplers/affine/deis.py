"""DEIS: Adams–Bashforth on the probability flow of every affine process, in the predicted noise `ε`.

Zhang & Chen, arXiv 2204.13902. With `y = (z − m)/α` and `ρ = σ/α` the flow is `dy = ε dρ`, `ε = (y − D)/ρ`. This removes the linear
part of the equation, as the paper's exponential integrator does. `ε` is replaced by the polynomial through its last `order` values::

    y_s = y_t + Σ_k C_k ε_k,      C_k = ∫_t^s ℓ_k(τ) ρ'(τ) dτ   (tAB),      C_k = ∫_{ρ_t}^{ρ_s} ℓ_k(ρ) dρ   (ρAB)

The paper's order `r` is `order − 1` here. `polynomial=t` integrates by parts, which needs `ρ` and not its derivative:
`∫_t^s (τ−t)^j ρ' dτ = (s−t)^j ρ_s − j ∫_t^s (τ−t)^{j−1} ρ dτ` for `j > 0`, by Gauss–Legendre quadrature.

One network evaluation per step. The first step has a single value, and its error is of order 2. That error remains unless the prior
keeps little of the data. The last step, to `s = 0`, returns the denoised state `D = y − ρ ε`.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler
from sdezoo_plugins.samplers.affine.exponential_adams import interpolatory

_NODES, _WEIGHTS = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(32))

Known = list[tuple[Tensor, Tensor]]
"""Times, or noise levels, and the predicted noise `ε` there, newest first."""


@dataclass(frozen=True)
class DEIS(Sampler[AffineSDE, Known]):
    """DEIS (tAB, ρAB) for every affine process: deterministic Adams–Bashforth in the noise, one evaluation per step."""

    papers: ClassVar[tuple[str, ...]] = ("zhang2022fast", "lu2022dpm")

    weak_order: ClassVar[float | None] = 2.0

    order: Annotated[int, Interval(ge=2, le=4)] = 3
    """Number of noise values that a step interpolates."""
    polynomial: Literal["t", "rho"] = "t"
    """Variable of the interpolating polynomial: time `t`, or the noise level `rho`."""

    def step(
        self, model: Model[AffineSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: Known | None
    ) -> tuple[Tensor, Known | None]:
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        denoised = model.denoise(z, t)
        if s == 0:
            return q.shift + q.alpha * denoised, None
        y = (z - p.shift) / p.alpha
        clock = t if self.polynomial == "t" else p.ratio
        known = [(clock, (y - denoised) / p.ratio), *(memory or [])][: self.order]
        span = q.ratio - p.ratio
        if self.polynomial == "t":
            moments = [span, *(_moment(model.sde, t, s, j) for j in range(1, len(known)))]
        else:
            moments = [span ** (j + 1) / (j + 1) for j in range(len(known))]
        for c, (_, eps) in zip(interpolatory([at - clock for at, _ in known], moments), known, strict=True):
            y = y + c * eps
        return q.shift + q.alpha * y, known


def _moment(sde: AffineSDE, t: Tensor, s: Tensor, j: int) -> Tensor:
    """`∫_t^s (τ − t)^j ρ'(τ) dτ`."""
    u = (s - t) * (1 + _NODES) / 2
    inner = (s - t) / 2 * (_WEIGHTS * u ** (j - 1) * sde.noise_level(t + u)).sum()
    return (s - t) ** j * sde.noise_level(s) - j * inner
