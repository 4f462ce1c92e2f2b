"""The geometric bridge between two distributions of positive data: a Brownian bridge of `log x`.

`x = exp(c + s z)` with the mean `c` and the standard deviation `s` of `log x` in each column, and `z` the bridge of
`sdezoo.process.bridge` (Shi et al., arXiv 2303.16852). Pinned at `x_0` and `x_1`, its median is `x_0^{1−u} x_1^u`. Every state decodes to
positive data, so that no step can leave the positive numbers.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor
from torch.distributions import ExpTransform, Transform, constraints
from torch.distributions.constraints import Constraint

from sdezoo.parameters import NonNegative
from sdezoo.process.noise import Noise
from sdezoo.process.standardized import by_column, column_moments, standardized, wide
from sdezoo_plugins.sdes.pinned import Pinned


@dataclass(frozen=True)
class GeometricBridge(Pinned):
    """Geometric bridge: a Brownian bridge of log x, for positive data; every step is positive."""

    papers: ClassVar[tuple[str, ...]] = ("shi2023dsbm",)

    center: tuple[float, ...] | None = None
    """Center `c` of `log x`, one number per column or one for all; None: its mean, set from the data."""
    spread: tuple[NonNegative, ...] | None = None
    """Scale `s` of `log x`, one number per column or one for all; None: its standard deviation, set from the data."""

    @property
    def support(self) -> Constraint:
        return constraints.positive

    @property
    def coordinates(self) -> Transform:
        """The map `z → exp(c + s z)`."""
        return standardized(ExpTransform(), self.center, self.spread)

    def adapted(self, x0: Tensor) -> Self:
        if self.center is not None and self.spread is not None:
            return super().adapted(x0)
        center, spread = column_moments(by_column(wide(x0).log()), self.center, self.spread)
        return super(GeometricBridge, replace(self, center=center, spread=spread)).adapted(x0)

    def encode(self, x: Tensor, noise: Noise) -> Tensor:
        z = self.coordinates.inv(x)
        assert z is not None
        return z

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(self.decode_unchecked(z))

    def decode_unchecked(self, z: Tensor) -> Tensor:
        x = self.coordinates(z)
        assert x is not None
        return x
