"""What guides to an observation share: images and points alone, and the covariance of the clean data given the noised ones."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from sdezoo.errors import CompositionError
from sdezoo.parameters import Count
from sdezoo.process.affine import AffineSDE
from sdezoo.sampling.guidance import Covariance
from sdezoo.sampling.guide import Guide, Reference


@dataclass(frozen=True)
class Observing(Guide[AffineSDE]):
    """Base class of guides to an observation; subclasses implement `around`."""

    needs_rows: ClassVar[bool] = True

    covariance: Literal["isotropic", "tweedie"] = "isotropic"
    """Covariance of the clean data given the noised ones: by ΠGDM, or by Tweedie's formula, which takes a well-trained network."""
    iterations: Count = 8
    """Conjugate gradient steps at each level; of tweedie each costs a backward pass of the network."""

    def uncertainty(self, reference: Reference) -> Covariance:
        """Return the covariance, with the spread of the training rows.

        Args:
            reference: what else is known.

        Raises:
            CompositionError: if the encoding of the data has columns of its own.
        """
        if any(codec.columns is not None or codec.starts_at_one for codec in reference.encoding.codecs):
            raise CompositionError(
                f"'{self.title()}' takes images and points; the columns of these data are encoded each in its own way.",
                "Use sdezoo impute or --given for tables, and --given-first for series.",
            )
        return Covariance(self.covariance, reference.spread(), self.iterations)
