"""Guides with one plausible mistake each are found by the law that they break; the right ones obey all."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from sdezoo import GUIDES, AffineSDE, Guide, Model, Reference
from sdezoo.conformance.law import LawError
from sdezoo.conformance.steering.guide_laws import GUIDE_LAWS
from sdezoo.data.encoding import Encoding
from sdezoo.parameters import NonNegative
from sdezoo_plugins.guides.inpaint import Inpaint
from sdezoo_plugins.guides.inverse import Inverse
from tests.conformance.trying import try_law


class Steered(Model[AffineSDE]):
    """A model whose score is pulled to 0, with the mistake that it is given."""

    def __init__(self, model: Model[AffineSDE], weight: float, mistake: str) -> None:
        self.model, self.weight, self.sde, self.mistake = model, weight, model.sde, mistake

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        at = z - z.mean(0) if self.mistake == "batch" else z + 5 if self.mistake == "away" else z
        found = self.model.score(z, t) - self.weight * at
        if self.mistake == "narrow":
            return found.float()
        return found + 1e-12 if self.mistake == "offset" else found

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = self.sde.denoised(z, t, self.score(z, t))
        if self.mistake == "denoiser":
            return self.model.denoise(z, t)
        return found / torch.zeros_like(found) if self.mistake == "infinite" and 0.1 < float(t) < 0.9 and len(z) > 5 else found

    def prior_log_prob(self, z: Tensor) -> Tensor:
        return (self.sde if self.mistake == "density" else self.model).prior_log_prob(z)

    def prior(self, shape: Any, noise: Any, like: Tensor) -> Tensor:
        return (self.sde if self.mistake == "start" and self.weight else self.model).prior(shape, noise, like)


def mutant(law: str, mistake: str) -> Any:
    @dataclass(frozen=True)
    class Mutant(Guide[AffineSDE]):
        needs_rows, observes = mistake == "away", ("x",) if mistake == "deaf" else ()
        weight: float = 0.1

        def around(self, model: Model[AffineSDE], reference: Reference) -> Model[AffineSDE]:
            if not self.weight and mistake not in ("offset", "beyond", "wraps"):
                return model
            return Steered(model, 1 + self.weight if mistake == "beyond" and self.weight else self.weight, mistake)

    return pytest.param(Mutant, law, id=f"{law}-{mistake}")


@dataclass(frozen=True)
class Inconstant(Guide[AffineSDE]):
    """Its spec string builds another object."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", self.weight + 1)

    def around(self, model: Model[AffineSDE], reference: Reference) -> Model[AffineSDE]:
        return model


@dataclass(frozen=True)
class Certain(Inpaint):
    """Known entries without noise, whatever is given."""

    def around(self, model: Model[AffineSDE], reference: Reference) -> Model[AffineSDE]:
        return Inpaint(covariance=self.covariance).around(model, reference)


@dataclass(frozen=True)
class NeverCertain(Inpaint):
    """The default noise for noise of 0."""

    noise: NonNegative = 0.5

    def around(self, model: Model[AffineSDE], reference: Reference) -> Model[AffineSDE]:
        return Inpaint(self.covariance, self.iterations, noise=self.noise or 0.5).around(model, reference)


@dataclass(frozen=True)
class Uncounted(Inpaint):
    """A whole number that nothing looks at."""

    count: int = 3


@dataclass(frozen=True)
class InItsOwnUnits(Inverse):
    """A linear map of encoded data for one of data."""

    def around(self, model: Model[AffineSDE], reference: Reference) -> Model[AffineSDE]:
        reference.encoding = Encoding(())
        return super().around(model, reference)


MUTANTS = [
    pytest.param(Inconstant, "config-round-trip", id="config-round-trip"),
    pytest.param(Certain, "every-parameter-counts", id="every-parameter-counts"),
    pytest.param(Uncounted, "every-whole-number-is-read", id="every-whole-number-is-read"),
    pytest.param(InItsOwnUnits, "leads-where-it-steers", id="leads-where-it-steers-units"),
    pytest.param(NeverCertain, "zero-is-a-number", id="zero-is-a-number"),
    mutant("contract", "narrow"),
    mutant("start-has-its-density", "density"),
    mutant("denoiser-is-that-of-the-score", "denoiser"),
    mutant("weight-zero-is-the-identity", "offset"),
    mutant("weight-zero-is-the-identity", "beyond"),
    mutant("weight-zero-is-the-identity", "start"),
    mutant("weight-zero-is-the-identity", "wraps"),
    mutant("rows-are-independent", "batch"),
    mutant("support-is-kept", "infinite"),
    mutant("leads-where-it-steers", "away"),
    mutant("leads-where-it-steers", "deaf"),
]


@pytest.mark.parametrize(("kind", "law"), MUTANTS)
def test_mutant_is_killed(kind: Any, law: str) -> None:
    (bound,) = [bound for bound in GUIDE_LAWS.bind(kind()) if bound.__name__ == law]
    with pytest.raises(LawError):
        bound()


def test_every_law_kills_a_mutant() -> None:
    assert {param.values[1] for param in MUTANTS} == set(GUIDE_LAWS.names)


@pytest.mark.parametrize("law", GUIDE_LAWS.names)
@pytest.mark.parametrize("spec", [name for name in GUIDES.names() if name != "ipm"] + ["ipm:count=20", "ipm:count=20,features=network"])
def test_law(spec: str, law: str) -> None:
    try_law(GUIDE_LAWS, law, GUIDES.build(spec))
