"""Linear inverse problems: samples given `y = A x + σ_y ε`, by the posterior score of `sdezoo.sampling.guidance.LinearInverse`::

    s = s(z) + ∇_z log p(y | z_t)

with the distribution of `z_0` given `z_t` taken as normal. Its covariance is that of ΠGDM (Song et al., ICLR 2023), with the spread of the
training rows, or Tweedie's (Boys et al., arXiv 2310.06721), which multiplies by the network's Jacobian. `A x` is in the user's units:
averages of pixels, projections of a tomogram, blurred spectra.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from sdezoo.errors import DataError
from sdezoo.learning.model import Model
from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE
from sdezoo.sampling.guidance import LinearInverse
from sdezoo.sampling.guide import Reference
from sdezoo_plugins.guides.observing import Observing


@dataclass(frozen=True)
class Inverse(Observing):
    """Linear inverse problem: samples whose A x is y, with y (N, m) and A (m, d) in --observed."""

    observes: ClassVar[tuple[str, ...]] = ("y", "A")

    noise: Positive = 0.05
    """Standard deviation `σ_y` of the measurement noise, in the units of `y`."""

    def around(self, model: Model[AffineSDE], reference: Reference) -> Model[AffineSDE]:
        """As for `Guide.around`.

        Raises:
            CompositionError: if the encoding of the data is not linear.
            DataError: if `y` or `A` has a wrong shape, or values that are not finite.
        """
        covariance = self.uncertainty(reference)
        y, matrix = reference.observed("y").double(), reference.observation("A").double()
        size = torch.Size(reference.event).numel()
        if matrix.ndim != 2 or matrix.shape[1] != size or y.shape[1:] != matrix.shape[:1]:
            raise DataError(
                f"A has the shape {tuple(matrix.shape)} and y {tuple(y.shape[1:])} a row; a sample has {size} values.",
                f"Give A as (m, {size}), and y as (N, m).",
            )
        if not (y.isfinite().all() and matrix.isfinite().all()):
            raise DataError("The observed y or A has values that are not finite.", "Give finite ones.")
        base, slope = reference.units()
        measured, operator = y - matrix @ base.flatten(), matrix * slope.flatten()
        return LinearInverse(model, measured.to(reference.like), operator.to(reference.like), self.noise, covariance)
