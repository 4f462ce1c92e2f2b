"""Every registered sampler obeys its laws, and so do samplers at the edges of the contract."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
from scipy import stats

from sdezoo import Sampler
from sdezoo.conformance.laws.recovery_laws import law_recovered
from sdezoo.conformance.laws.sampler_laws import SAMPLER_LAWS
from sdezoo.zoo.registry import SAMPLERS, SDES
from tests.conformance.right.samplers import Euler
from tests.conformance.trying import try_law
from tests.process.edges import BetweenWalls, Kinetic, Stable, StableFlow

SPECS = [
    *SAMPLERS.names(),
    "ancestral:spacing=uniform",
    "bridge:order=1",
    "ddim:eta=1",
    "dale-langevin:preset=paper",
    "dpmpp-2m:spacing=uniform",
    "torchsde:method=milstein",
]


@dataclass(frozen=True)
class UniformNoise(Euler):
    """Noise of the right variance that is not normal: as good for expectations."""

    strong_order: ClassVar[float | None] = None

    def kick(self, sde, z, t, dt, noise):
        return sde.diffusion(z, t) * 12**0.5 * (noise.uniform(z, sde.noise_shape(z.shape)) - 0.5) * dt.sqrt()


@dataclass(frozen=True)
class EulerWithWalls(Sampler[BetweenWalls]):
    """Euler–Maruyama for one process alone, which is not affine."""

    def step(self, model, z, t, s, noise, memory):
        sde, dt = model.sde, t - s
        proposal = z - sde.reverse_drift(z, t, model.score(z, t)) * dt
        return sde.project(proposal + sde.diffusion(z, t) * noise.normal(z) * dt.sqrt() if s > 0 else proposal, z), None


@dataclass(frozen=True)
class EulerWithVelocity(Sampler[Kinetic]):
    """Euler–Maruyama for one process alone, whose state is larger than the data."""

    def step(self, model, z, t, s, noise, memory):
        sde, dt = model.sde, t - s
        end = z - sde.reverse_drift(z, t, model.score(z, t)) * dt
        return end + sde.diffusion(z, t) * noise.normal(z, sde.noise_shape(z.shape)) * dt.sqrt() if s > 0 else end, None


@pytest.fixture
def installed():
    """Processes that are not affine, as plugins of other distributions would bring them."""
    names = [SDES.add(sde, "a test") for sde in (BetweenWalls, Kinetic, Stable)]
    yield
    for name in names:
        SDES.remove(name)


@pytest.mark.parametrize("law", SAMPLER_LAWS.names)
@pytest.mark.parametrize("spec", SPECS)
def test_the_law_holds(spec, law):
    try_law(SAMPLER_LAWS, law, SAMPLERS.build(spec))


def verdicts(sampler):
    return {verdict.law: verdict for verdict in SAMPLER_LAWS.verdicts(sampler)}


@pytest.mark.parametrize("sampler", [UniformNoise, EulerWithWalls, EulerWithVelocity, StableFlow])
def test_what_is_right_at_the_edges_breaks_no_law(sampler, installed):
    found = verdicts(sampler())
    assert {law: verdict.reason for law, verdict in found.items() if verdict.outcome not in ("holds", "excused")} == {}
    assert found["law-recovered"].outcome == "holds"


def test_a_sampler_that_fits_nothing_is_excused_with_a_reason():
    found = verdicts(StableFlow())
    assert {law for law, verdict in found.items() if verdict.outcome == "holds"} == {"config-round-trip"}
    assert all(verdict.reason.startswith("It ") for verdict in found.values() if verdict.outcome == "excused")


@pytest.mark.slow
@pytest.mark.parametrize("spec", [name for name in SAMPLERS.names() if name != "torchsde"])
def test_p_values_are_uniform(spec):
    """Over 300 seeds; one in ten thousand runs of this test fails for a right sampler."""
    p_values = [law_recovered.p_value(SAMPLERS.build(spec), seed) for seed in range(300)]
    assert stats.kstest(p_values, "uniform").pvalue > 1e-4
