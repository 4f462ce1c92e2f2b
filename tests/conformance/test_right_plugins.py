"""Right plugins with unusual but legal choices are not condemned."""

import pytest

from sdezoo.conformance.laws.loss_laws import LOSS_LAWS
from sdezoo.conformance.laws.sampler_laws import SAMPLER_LAWS
from sdezoo.conformance.laws.sde_laws import SDE_LAWS
from sdezoo.zoo.registry import SDES
from tests.conformance.right import unusual_losses, unusual_samplers, unusual_sdes
from tests.conformance.right.plugins import Churned, HalfLine
from tests.conformance.trying import try_law

QUICK = {"Coins", "Blur", "Straight", "Waving", "Wanders"}
UNUSUAL = [
    *((SDE_LAWS, sde) for sde in [*unusual_sdes.SDES, HalfLine(), *map(SDES.build, unusual_sdes.SPECS)]),
    *((SAMPLER_LAWS, sampler) for sampler in unusual_samplers.SAMPLERS),
    *((LOSS_LAWS, loss) for loss in unusual_losses.LOSSES),
]


@pytest.mark.parametrize(
    ("suite", "plugin"),
    [
        pytest.param(suite, plugin, id=plugin.spec, marks=[] if type(plugin).__name__ in QUICK else pytest.mark.slow)
        for suite, plugin in UNUSUAL
    ],
)
def test_every_law_holds(suite, plugin):
    assert [(one.law, one.reason, one.case) for one in suite.verdicts(plugin) if one.outcome not in ("holds", "excused")] == []


@pytest.mark.parametrize("law", ["contract", "fokker-planck", "score-is-gradient", "draws-have-the-score"])
def test_a_log_density_without_a_second_derivative(law):
    try_law(SDE_LAWS, law, HalfLine())


def test_the_density_needs_differences(monkeypatch):
    """Torch's own second derivative is NaN at some of the cases that the law tries."""
    import sdezoo.conformance.laws.calculus_laws as laws

    asked = []
    original = laws.difference
    monkeypatch.setattr(laws, "difference", lambda fn, y: (asked.append(y), original(fn, y))[1])
    try_law(SDE_LAWS, "fokker-planck", HalfLine())
    assert asked


@pytest.mark.parametrize("law", ["law-recovered", "weak-order", "far-out"])
def test_a_stiff_sampler(law):
    try_law(SAMPLER_LAWS, law, Churned())
