"""Every wrong process is found by the law that is named for it, and the right ones that they derive from are not."""

import pytest

from sdezoo.conformance.bank.loss_trials import Logistic
from sdezoo.conformance.bank.sampler_problems import Sheared
from sdezoo.conformance.law import BoundLaw, LawError
from sdezoo.conformance.laws.sde_laws import SDE_LAWS
from tests.conformance.mutants.choices import MUTANTS as CHOICES
from tests.conformance.mutants.claims import MUTANTS as CLAIMS
from tests.conformance.mutants.data import MUTANTS as DATA
from tests.conformance.mutants.data import RIGHT as UNSUSPECTED
from tests.conformance.mutants.measures import MUTANTS as MEASURES
from tests.conformance.mutants.measures import RIGHT as EXONERATED
from tests.conformance.mutants.sdes import MUTANTS, GBMInX, MeanReverting, NormalInterpolant, ScoreAlone
from tests.conformance.trying import try_law


@pytest.mark.parametrize(("mutant", "law"), [(mutant, law) for _, mutant, law in MUTANTS], ids=[name for name, *_ in MUTANTS])
def test_the_mutant_is_killed(mutant, law):
    with pytest.raises(LawError):
        BoundLaw(SDE_LAWS[law], mutant)()


@pytest.mark.parametrize(
    ("mutant", "law"), [pytest.param(cls, law, id=f"{name}-{law}") for name, cls, law in [*CHOICES, *CLAIMS, *DATA, *MEASURES]]
)
def test_the_wrong_claim_is_found(mutant, law):
    assert SDE_LAWS[law].excuse(mutant()) is None
    with pytest.raises(LawError):
        BoundLaw(SDE_LAWS[law], mutant())()


@pytest.mark.parametrize(("right", "law"), [pytest.param(sde, law, id=f"{sde.spec}-{law}") for sde, law in [*UNSUSPECTED, *EXONERATED]])
def test_a_right_process_is_not_suspected(right, law):
    assert SDE_LAWS[law].excuse(right) is None
    BoundLaw(SDE_LAWS[law], right)()


RIGHT = [GBMInX, MeanReverting, ScoreAlone, Logistic, NormalInterpolant, Sheared]
NAMED = sorted({(RIGHT.index(right), law) for _, mutant, law in MUTANTS for right in RIGHT if isinstance(mutant, right)})


@pytest.mark.parametrize(("right", "law"), [pytest.param(RIGHT[k], law, id=f"{RIGHT[k].__name__}-{law}") for k, law in NAMED])
def test_what_they_derive_from_is_right(right, law):
    try_law(SDE_LAWS, law, right())
