"""Every registered process obeys its laws, and so do the edges of the contract."""

import pytest

from sdezoo.conformance.laws.sde_laws import SDE_LAWS
from sdezoo.zoo.registry import SDES
from tests.analytic import VARIANTS
from tests.process.edges import BetweenWalls, Kinetic, Stable

PROCESSES = [*(SDES.build(spec) for spec in [*SDES.names(), *VARIANTS]), BetweenWalls(), Kinetic(), Stable()]
TESTS = [law for sde in PROCESSES for law in SDE_LAWS.bind(sde)]


@pytest.mark.parametrize("law", TESTS, ids=[f"{law.plugin.spec}-{law.__name__}" for law in TESTS])
def test_the_law_holds(law):
    law()


def test_what_does_not_apply_is_excused_with_a_reason():
    verdicts = {verdict.law: verdict for verdict in SDE_LAWS.verdicts(Stable())}
    assert verdicts["fokker-planck"].outcome == "excused"
    assert verdicts["fokker-planck"].reason == "It has no drift and diffusion."
    assert verdicts["contract"].outcome == "holds"
