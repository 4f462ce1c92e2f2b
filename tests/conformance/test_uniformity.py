"""The p-values of every Monte-Carlo law are uniform on plugins that are right: its level is what it says."""

import sys

import pytest
from scipy import stats

from sdezoo.conformance.laws.loss_laws import LOSS_LAWS
from sdezoo.conformance.laws.sampler_laws import SAMPLER_LAWS
from sdezoo.conformance.laws.sde_laws import SDE_LAWS
from sdezoo.zoo.registry import LOSSES, SAMPLERS, SDES
from tests.process.edges import BetweenWalls, Kinetic

SEEDS = 300
RIGHT = [
    *(
        (SDE_LAWS, sde)
        for sde in (
            *(SDES.build(spec) for spec in ("gbm:sigma=0.8", "vp", "student-t", "cld", "reflected", "beta", "thinning", "heston")),
            BetweenWalls(),
            Kinetic(),
        )
    ),
    *((LOSS_LAWS, LOSSES.build(spec)) for spec in ("dsm", "mult-dsm", "nonneg-sm")),
    *((SAMPLER_LAWS, SAMPLERS.build(spec)) for spec in ("dpmpp-2m", "euler-maruyama")),
]
TESTS = [(law, plugin) for suite, plugin in RIGHT for law in suite.laws if law.p_value]
ALPHA = 1e-4
"""Of each test below; there are about fifty."""


@pytest.mark.slow
@pytest.mark.parametrize(("law", "plugin"), TESTS, ids=[f"{plugin.spec}-{law.name}" for law, plugin in TESTS])
def test_p_values_are_uniform(law, plugin):
    if reason := law.excuse(plugin):
        pytest.skip(reason)
    p = [law.p_value(plugin, seed) for seed in range(1, SEEDS + 1)]
    if min(p) == 1:
        pytest.skip("The two sides agree sample by sample.")
    agreement = stats.kstest(p, "uniform").pvalue
    sys.stdout.write(f"{plugin.spec} {law.name}: Kolmogorov–Smirnov p = {agreement:.3f}, smallest of {SEEDS}: {min(p):.2g}\n")
    assert agreement > ALPHA
    assert min(p) > ALPHA / SEEDS
