"""The Dale–Langevin sampler, sign-preserving: `X ← X ∘ exp(δσ² X∘s − δ(μ − 3σ²/2) + a √δ σ Z)`.

Shetty, Prasath & Seelamantula, arXiv 2510.02730. With `h = X∘s = ∇_z log p − 1` it is Euler–Maruyama on the state `z = log X`, so
nothing can become negative. `σ = σ(t)` and `μ = μ(t)` are those of the process. If each column has its own spread, `X` stands for
`e^z`, a power of the column's values.

`preset` sets the step sizes; see `sdezoo_plugins.samplers.multiplicative.multiplicative_recipe`.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo_plugins.samplers.multiplicative.multiplicative_recipe import MultiplicativeRecipe


@dataclass(frozen=True)
class DaleLangevin(MultiplicativeRecipe):
    """The paper's sign-preserving multiplicative sampler: Euler–Maruyama in log coordinates."""

    papers: ClassVar[tuple[str, ...]] = ("shetty2025dale",)

    same_as: ClassVar[str | None] = "euler-maruyama:spacing=uniform on gbm"
    consistent_order: ClassVar[float] = 1.0
    authors: ClassVar = {
        "mnist": (6.165e-4, 1, 0.995),
        "fashion": (5.863e-4, 1, 0.995),
        "kmnist": (2.113e-4, 3, 0.995),
        "cifar10": (1.142e-4, 6, 0.9995),
    }

    def update(self, model: Model[AffineSDE], z: Tensor, t: Tensor, delta: Tensor, anneal: float, noise: Noise) -> Tensor:
        variance = model.sde.diffusion(z, t) ** 2
        mu = model.sde.drift(z, t) + variance / 2
        z = z + delta * variance * (model.score(z, t) - 1) - delta * (mu - 1.5 * variance)
        return z + anneal * (delta * variance).sqrt() * noise.normal(z) if anneal else z
