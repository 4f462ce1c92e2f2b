"""The published recipe for multiplicative sampling, shared by the paper's two samplers.

Shetty, Prasath & Seelamantula, arXiv 2510.02730. Each of `N` levels makes `L` updates of size `δ` with noise of size `a`. After every
level, `a` is multiplied by `factor`.

- `preset=consistent`: `δ` is the step of the time grid, `L = 1`, `a = 1`. This discretizes the reverse SDE.
- `preset=paper`: `δ`, `L` and `factor` of the authors' code, where `N L δ` is not 1. Meant for `gbm:sigma=0.8` and 1000 steps.

The last update, to `t = 0`, is noise-free in both.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import needs_multiplicative
from sdezoo.sampling.grid import Spacing
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class MultiplicativeRecipe(Sampler[AffineSDE, float]):
    """Base class of the paper's two samplers, with its presets. Abstract: `update`."""

    consistent_order: ClassVar[float]
    """Strong order of `preset=consistent`."""
    authors: ClassVar[dict[str, tuple[float, int, float]]]
    """`δ`, `L` and `factor` of the authors' code, by the name of their data set."""

    preset: Literal["consistent", "paper"] = "consistent"
    """`consistent` discretizes the reverse SDE; `paper` is the recipe of the authors' code."""
    recipe: Literal["mnist", "fashion", "kmnist", "cifar10"] = "mnist"
    """The authors' data set whose constants `preset=paper` uses."""
    spacing: Spacing = field(default="uniform", kw_only=True)

    @property
    def weak_order(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 1.0 if self.preset == "consistent" else None

    @property
    def strong_order(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.consistent_order if self.preset == "consistent" else None

    def evaluations(self, steps: int) -> int:
        return steps if self.preset == "consistent" else steps * self.authors[self.recipe][1]

    def refuses(self, sde: Process) -> str | None:
        return needs_multiplicative(sde) or super().refuses(sde)

    @abstractmethod
    def update(self, model: Model[Any], z: Tensor, t: Tensor, delta: Tensor, anneal: float, noise: Noise) -> Tensor:
        """One update.

        Args:
            model: the model in the view that the sampler works in.
            z: state, `(B, *event)`.
            t: time, float64 scalar.
            delta: step size `δ`, float64 scalar.
            anneal: noise size `a`; 0 means no noise is sampled.
            noise: source of the noise.

        Returns:
            The new state, `(B, *event)`.
        """

    def step(self, model: Model[Any], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: float | None) -> tuple[Tensor, float | None]:
        delta, inner, factor = self.authors[self.recipe] if self.preset == "paper" else (float(t - s), 1, 1.0)
        anneal = 1.0 if memory is None else memory
        for _ in range(inner):
            z = self.update(model, z, t, t.new_tensor(delta), anneal if s > 0 else 0.0, noise)
        return z, anneal * factor
