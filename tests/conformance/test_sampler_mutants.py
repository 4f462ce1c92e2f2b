"""Every plausible mistake is found by the law that it breaks; the samplers that they are made of are right."""

import pytest

from sdezoo.conformance.law import LawError
from sdezoo.conformance.laws.sampler_laws import SAMPLER_LAWS
from tests.conformance.mutants.samplers import MUTANTS
from tests.conformance.right.samplers import RIGHT


@pytest.mark.parametrize(("mutant", "law"), [pytest.param(mutant, law, id=f"{name}-{law}") for name, mutant, law in MUTANTS])
def test_mutant_is_killed(mutant, law):
    (bound,) = [bound for bound in SAMPLER_LAWS.bind(mutant()) if bound.__name__ == law]
    with pytest.raises(LawError):
        bound()


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: right.__name__)
def test_what_the_mutants_are_made_of_is_right(right):
    assert {verdict.law: verdict.reason for verdict in SAMPLER_LAWS.verdicts(right()) if verdict.outcome == "broken"} == {}


def test_every_law_kills_a_mutant():
    assert {law for _, _, law in MUTANTS} == {law.name for law in SAMPLER_LAWS.laws}
