"""The unconstrained multiplicative sampler: `X ← X ∘ (1 + 2δσ² − δμ + δσ² X∘s + a √δ σ Z)`.

Shetty, Prasath & Seelamantula, arXiv 2510.02730: Euler–Maruyama on the ambient reverse SDE `dX = μX dt + σX dW`, with the divergence
`∇·(g gᵀ) = 2σ²X`. The factor can be negative: large steps leave the positive numbers, and sampling then stops with an error.

`preset` sets the step sizes; see `sdezoo_plugins.samplers.multiplicative.multiplicative_recipe`.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.sde import ForwardSDE
from sdezoo_plugins.samplers.multiplicative.multiplicative_recipe import MultiplicativeRecipe


@dataclass(frozen=True)
class Multiplicative(MultiplicativeRecipe):
    """The paper's unconstrained multiplicative sampler: Euler–Maruyama in x itself, which may leave the positive numbers."""

    papers: ClassVar[tuple[str, ...]] = ("shetty2025dale",)

    preserves_support: ClassVar[bool] = False
    consistent_order: ClassVar[float] = 0.5
    authors: ClassVar = {
        "mnist": (1.438e-4, 4, 0.995),
        "fashion": (1.468e-3, 3, 0.9995),
        "kmnist": (2.113e-4, 3, 1.0),
        "cifar10": (1.438e-4, 5, 0.9995),
    }

    def view(self, model: Model[AffineSDE]) -> Model[ForwardSDE]:
        return model.ambient()

    def update(self, model: Model[ForwardSDE], z: Tensor, t: Tensor, delta: Tensor, anneal: float, noise: Noise) -> Tensor:
        mu, sigma = model.sde.drift(z, t) / z, model.sde.diffusion(z, t) / z
        factor = 1 + 2 * delta * sigma**2 - delta * mu + delta * sigma**2 * (z * model.score(z, t))
        return z * (factor + anneal * delta.sqrt() * sigma * noise.normal(z) if anneal else factor)
