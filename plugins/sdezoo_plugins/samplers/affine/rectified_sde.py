"""Stochastic sampling of rectified flow, for every affine process.

Roy, Rinaldo & Sarkar, arXiv 2601.15500. With `S² = α² + v`, `R = α/S`, the score `s`, and primes at the end of a step::

    z' = m' + (R'S'/R) [(z − m)/S + η S s + √ψ ε],      η = 1 − R²/R'²,      ψ = η (R²/R'²)(1 − R'²)/(1 − R²)

On `rectified-flow`, `S² = (1 − t)² + t²`. In `(z − m)/S` this is DDPM's posterior with `ᾱ = R²` (Ho et al., arXiv 2006.11239, eq. 7
and 11): the step of `ancestral`, written in the score. The last step has no `ε` and ends in Tweedie's denoiser.

The paper's time grid is that of `constants=(2,5)`: `c_0` and `c_1` in `sdezoo.sampling.grid.stochastic`. It needs at least 13 steps.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.sampling.grid import stochastic
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class RectifiedSDE(Sampler[AffineSDE]):
    """Stochastic sampling of rectified flow, for every affine process: DDPM's posterior step, with the paper's time grid."""

    papers: ClassVar[tuple[str, ...]] = ("roy2026low", "ho2020denoising")

    same_as: ClassVar[str | None] = "ancestral"
    strong_order: ClassVar[float | None] = 1.0

    constants: tuple[Positive, Positive] | None = None
    """`(c_0, c_1)` of the paper's time grid, `(2,5)` in the paper; None: the grid of `spacing`."""

    def grid(self, model: Model[Any], steps: int) -> Tensor:
        return super().grid(model, steps) if self.constants is None else stochastic(model.sde, steps, *self.constants)

    def step(self, model: Model[AffineSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        size, end_size = (p.alpha**2 + p.variance).sqrt(), (q.alpha**2 + q.variance).sqrt()
        signal, end_signal = p.alpha / size, q.alpha / end_size
        kept = (signal / end_signal) ** 2
        inner = (z - p.shift) / size + (1 - kept) * size * model.score(z, t)
        if s > 0:
            fresh = (1 - kept) * kept * (q.sigma / end_size * size / p.sigma) ** 2
            inner = inner + fresh.sqrt() * noise.normal(z)
        return q.shift + end_signal * end_size / signal * inner, None
