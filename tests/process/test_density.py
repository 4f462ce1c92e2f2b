"""Whether a process knows its transition density is one question, and the answer is true."""

import pytest
import torch

from sdezoo.conformance.bank.cases import smallest_event, typical
from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.process.process import Conditional
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SDES
from tests.analytic import at
from tests.process.edges import BetweenWalls, Kinetic, Stable


def test_a_density_that_is_not_written_is_not_known():
    assert BetweenWalls().knows_density
    assert Kinetic().knows_density
    assert not Stable().knows_density


def test_log_prob_answers_exactly_where_the_density_is_known():
    for name, sde in [*defaults(SDES), ("stable", Stable())]:
        if not isinstance(sde, Conditional):
            continue
        x0 = typical(sde, torch.full((2, *smallest_event(sde)), 0.3, dtype=torch.float64))
        z, t = sde.perturb(x0, at(sde.t_span[1]), keyed(2)), at(sde.t_span[1])
        if sde.knows_density:
            assert torch.isfinite(sde.log_prob(z, x0, t)).all(), name
        else:
            with pytest.raises(NotImplementedError, match="offers no transition density"):
                sde.log_prob(z, x0, t)
