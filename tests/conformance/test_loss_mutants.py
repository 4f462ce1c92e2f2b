"""Every plausible mistake is found by the law that it breaks; the losses that they are made of are right."""

import pytest

from sdezoo.conformance.law import LawError
from sdezoo.conformance.laws.loss_laws import LOSS_LAWS
from tests.conformance.mutants.losses import MUTANTS
from tests.conformance.right.losses import RIGHT


@pytest.mark.parametrize(("mutant", "law"), [pytest.param(mutant, law, id=f"{name}-{law}") for name, mutant, law in MUTANTS])
def test_mutant_is_killed(mutant, law):
    (bound,) = [bound for bound in LOSS_LAWS.bind(mutant()) if bound.__name__ == law]
    with pytest.raises(LawError):
        bound()


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: right.__name__)
def test_what_the_mutants_are_made_of_is_right(right):
    assert {verdict.law: verdict.reason for verdict in LOSS_LAWS.verdicts(right()) if verdict.outcome == "broken"} == {}


def test_every_law_kills_a_mutant():
    assert {law for _, _, law in MUTANTS} == {law.name for law in LOSS_LAWS.laws}
