"""No plugin: what `geometric-bridge` and `log-laplace` share, positive data in standardized logarithms `z = (ln x − c)/s`."""

from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor
from torch.distributions import ExpTransform, Transform
from torch.distributions.constraints import Constraint, positive

from sdezoo.parameters import NonNegative
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.standardized import by_column, column_moments, standardized, wide


@dataclass(frozen=True)
class InLogarithms(Process):
    """A process of positive data whose state is `z = (ln x − c)/s`."""

    center: tuple[float, ...] | None = None
    """`c`, one number for each column or one for all; None: the mean of `ln x`, set from the data."""
    spread: tuple[NonNegative, ...] | None = None
    """`s`, one number for each column or one for all; None: the standard deviation of `ln x`, set from the data."""

    @property
    def support(self) -> Constraint:
        return positive

    @property
    def coordinates(self) -> Transform:
        """The map `z → exp(c + s z)`."""
        return standardized(ExpTransform(), self.center, self.spread)

    def adapted(self, x0: Tensor) -> Self:
        center, spread = column_moments(by_column(wide(x0).log()), self.center, self.spread)
        return super(InLogarithms, replace(self, center=center, spread=spread)).adapted(x0)

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        z = self.coordinates.inv(x)
        assert z is not None
        return z

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(self.decode_unchecked(z))

    def decode_unchecked(self, z: Tensor) -> Tensor:
        x = self.coordinates(z)
        assert x is not None
        return x
