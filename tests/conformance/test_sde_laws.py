"""Every registered process obeys its laws, and so do the edges of the contract."""

import pytest

from sdezoo.conformance.laws.sde_laws import SDE_LAWS
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SDES
from tests.conformance.trying import try_law
from tests.process.edges import BetweenWalls, Kinetic, Stable


@pytest.mark.parametrize("law", SDE_LAWS.names)
@pytest.mark.parametrize("spec", [name for name, _ in defaults(SDES)])
def test_the_law_holds(spec, law):
    try_law(SDE_LAWS, law, SDES.build(spec))


@pytest.mark.parametrize("law", SDE_LAWS.names)
@pytest.mark.parametrize("sde", [BetweenWalls, Kinetic, Stable])
def test_the_law_holds_at_the_edges_of_the_contract(sde, law):
    try_law(SDE_LAWS, law, sde())


def test_what_does_not_apply_is_excused_with_a_reason():
    verdicts = {verdict.law: verdict for verdict in SDE_LAWS.verdicts(Stable())}
    assert verdicts["fokker-planck"].outcome == "excused"
    assert verdicts["fokker-planck"].reason == "It has no drift and diffusion."
    assert verdicts["contract"].outcome == "holds"
