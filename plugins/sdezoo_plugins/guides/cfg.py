"""Classifier-free guidance (Ho & Salimans, arXiv 2207.12598, eq. 6, with `w` their `1 + w`)::

    s = s(z) + w [s(z | c) − s(z)]

`s(z)` is the score of all classes and `s(z | c)` that of the class `c`; both are the same network, trained with labels some of which
were dropped.
"""

from dataclasses import dataclass
from typing import ClassVar

from sdezoo.errors import ParameterError
from sdezoo.learning.model import Model
from sdezoo.process.process import Process
from sdezoo.sampling.guidance import Guided
from sdezoo.sampling.guide import Guide, Reference


@dataclass(frozen=True)
class CFG(Guide[Process]):
    """Classifier-free guidance to the class of `--label`; needs a model that was trained with labels."""

    conditions: ClassVar[bool] = True

    weight: float = 2.0
    """Scale `w`: 0 is the model of all classes, 1 the model of the class, and beyond 1 the class is exaggerated."""

    def around(self, model: Model[Process], reference: Reference) -> Model[Process]:
        if not self.weight:
            return model
        if reference.labels is None:
            raise ParameterError(f"'{self.title()}' has no label to guide to.", "Give --label a class, or each.")
        return Guided(model, reference.labels, self.weight)
