"""The geometric bridge between two distributions of positive data: a Brownian bridge of `log x`.

`x = exp(c + s z)` with the mean `c` and the standard deviation `s` of `log x` in each column, and `z` the bridge of
`sdezoo.process.bridge` (Shi et al., arXiv 2303.16852). Pinned at `x_0` and `x_1`, its median is `x_0^{1−u} x_1^u`. Every state decodes to
positive data, so that no step can leave the positive numbers.
"""

from dataclasses import dataclass
from typing import ClassVar

from sdezoo_plugins.sdes.shared.logarithms import InLogarithms
from sdezoo_plugins.sdes.shared.pinned import Pinned


@dataclass(frozen=True)
class GeometricBridge(InLogarithms, Pinned):
    """Geometric bridge: a Brownian bridge of log x, for positive data; every step is positive."""

    papers: ClassVar[tuple[str, ...]] = ("shi2023dsbm",)
