"""Every wrong process is found by the law that is named for it, and the right ones that they derive from are not."""

import pytest

from sdezoo.conformance.bank.loss_trials import Logistic
from sdezoo.conformance.law import BoundLaw, LawError
from sdezoo.conformance.laws.sde_laws import SDE_LAWS
from tests.conformance.mutant_sdes import MUTANTS, GBMInX, NormalInterpolant, ScoreAlone

LAWS = {law.name: law for law in SDE_LAWS.laws}


@pytest.mark.parametrize(("mutant", "law"), [(mutant, law) for _, mutant, law in MUTANTS], ids=[name for name, *_ in MUTANTS])
def test_the_mutant_is_killed(mutant, law):
    with pytest.raises(LawError):
        BoundLaw(LAWS[law], mutant)()


@pytest.mark.parametrize("law", SDE_LAWS.bind(GBMInX()))
def test_what_they_derive_from_is_right(law):
    law()


@pytest.mark.parametrize("law", SDE_LAWS.bind(ScoreAlone()))
def test_what_has_a_score_alone_is_right(law):
    law()


@pytest.mark.parametrize("law", [*SDE_LAWS.bind(Logistic()), *SDE_LAWS.bind(NormalInterpolant())])
def test_interpolants_are_right(law):
    law()
