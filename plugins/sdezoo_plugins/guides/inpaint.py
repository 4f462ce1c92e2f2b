"""Inpainting: samples given some of their entries, by the posterior score of `sdezoo.sampling.guidance.Inpainting`::

    s = s(z) + ∇_z log p(y | z_t),      y = the known entries of z_0 + σ_y ε

with the distribution of `z_0` given `z_t` taken as normal. Its covariance is that of ΠGDM (Song et al., ICLR 2023), with the spread of the
training rows, or Tweedie's (Boys et al., arXiv 2310.06721), which multiplies by the network's Jacobian.
"""

from dataclasses import dataclass
from typing import ClassVar

from sdezoo.errors import DataError
from sdezoo.learning.model import Model
from sdezoo.parameters import NonNegative
from sdezoo.process.affine import AffineSDE
from sdezoo.sampling.guidance import Inpainting
from sdezoo.sampling.guide import Reference
from sdezoo_plugins.guides.observing import Observing


@dataclass(frozen=True)
class Inpaint(Observing):
    """Inpainting: keeps the known entries of x in --observed, and draws those that are NaN."""

    observes: ClassVar[tuple[str, ...]] = ("x",)

    noise: NonNegative = 0.0
    """Standard deviation `σ_y` of the known entries, in coordinates: relative to the value for processes of positive data."""

    def around(self, model: Model[AffineSDE], reference: Reference) -> Model[AffineSDE]:
        """As for `Guide.around`.

        Raises:
            CompositionError: if the encoding of the data has columns of its own, or the coordinates of the process mix entries.
            DataError: if `x` has another shape than the data, or a known value is infinite, or outside the support.
        """
        covariance, known = self.uncertainty(reference), reference.observed("x")
        if tuple(known.shape[1:]) != reference.event:
            raise DataError(
                f"The observed x has the shape {tuple(known.shape[1:])} a row, and a sample {reference.event}.",
                "Give rows as sdezoo sample writes them to .npz.",
            )
        if known.isinf().any():
            raise DataError("The observed x has infinite values.", "Give finite ones; NaN stands for an unknown one.")
        encoded = reference.encoded(known)
        return Inpainting(model, encoded, ~encoded.isnan(), self.noise, covariance)
