"""The parts of a verification: each is right where the answer is known, and off where a process is wrong."""

import math
from dataclasses import dataclass

import pytest
import torch

from sdezoo.conformance.bank.problems import Additive, Multiplicative
from sdezoo.conformance.bank.reference_laws import humps, points
from sdezoo.process.noise import Noise
from sdezoo.verification.convergence import linear_error, sampled_errors, weak
from sdezoo.verification.densities import LIKELIHOOD, PRIOR, likelihood, prior_gap, rising
from sdezoo.verification.efficiency import ERROR, distance, efficiency, quantiles, steps_for
from sdezoo.verification.findings import Curve, columns, order
from sdezoo.verification.paths import drawn, follow
from sdezoo.zoo.registry import SAMPLERS, SDES
from tests.process.edges import BetweenWalls, Kinetic, Stable


def quiet(_):
    pass


@dataclass(frozen=True)
class Slower(Additive):
    """States a drift that is not the one of its transition."""

    def reverse_drift(self, z, t, s, half=1.0):
        return super().reverse_drift(z, t, s, half) + 0.01 * z


@pytest.mark.parametrize("sde", [Additive(), BetweenWalls(), Kinetic()], ids=lambda sde: sde.title())
def test_the_likelihood_along_the_flow_is_the_closed_form(sde):
    found = likelihood(sde, 0, quiet, steps=192)
    assert [(f.part, f.outcome) for f in found.findings] == [(LIKELIHOOD, "ok")]


def test_the_likelihood_in_the_data_has_its_jacobian():
    state, data = likelihood(Multiplicative(), 0, quiet, steps=96).findings
    assert state.value < 1e-4
    assert data.what.endswith("in the data")
    assert data.value < 1e-4


def test_too_few_steps_of_the_flow_are_no_fault_of_the_process():
    (found,) = likelihood(Additive(), 0, quiet, steps=6).findings
    assert found.outcome == "ok"
    assert "24 steps" in found.note


def test_a_wrong_drift_shows_in_the_likelihood():
    (found,) = likelihood(Slower(), 0, quiet, steps=24).findings
    assert found.outcome == "off"
    assert found.value > 0.01


def test_no_likelihood_without_a_flow():
    (found,) = likelihood(Stable(), 0, quiet).findings
    assert found.note == "is no SDE"


@pytest.mark.parametrize("spec", ["vp", "gbm"])
def test_times_of_the_flow(spec):
    sde = SDES.build(spec)
    times = rising(sde, 50)
    assert (float(times[0]), float(times[-1])) == sde.t_span
    steps = sde.exact(times).ratio.log().diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-4, atol=0)


def test_the_prior_gap_is_that_of_normal_laws():
    (found,) = prior_gap(SDES.build("gbm:sigma=0.8"), 0).findings
    clean = humps(SDES.build("gbm:sigma=0.8")).clean(200_000)
    start = torch.distributions.Normal(clean.mean(), (clean.var() + 0.64).sqrt())
    expected = torch.distributions.kl_divergence(start, torch.distributions.Normal(0.0, 0.8))
    assert found.part == PRIOR
    assert found.value == pytest.approx(float(expected), rel=0.03)


def test_the_binned_gap_of_a_prior_that_is_right_is_nothing():
    (found,) = prior_gap(BetweenWalls(sigma=2.0), 0).findings
    assert abs(found.value) < 3e-4


def test_quantiles_are_those_of_the_data():
    model = humps(SDES.build("vp"))
    exact = quantiles(model, 999)
    assert float(exact[499]) == pytest.approx(float(model.clean(400_000).median()), abs=0.01)
    assert distance(exact.flip(0), exact) == 0
    assert distance(exact + 0.25, exact) == pytest.approx(0.25)
    two = points(BetweenWalls())
    torch.testing.assert_close(quantiles(two, 4), two.points[[0, 0, 1, 1]].double())


def test_states_that_are_one_datum_are_no_error():
    model = humps(SDES.build("walls"))
    x = model.sde.decode(model.clean(2000, 1))
    assert distance(model.sde.encode(x), quantiles(model, 2000)) < 0.06  # samples of the data: 0.03 ± 0.01
    z = model.prior((2000, 1), Noise.seeded(0), torch.empty((), dtype=torch.float64))  # more entries than the data have
    assert abs(float(torch.corrcoef(z.T)[0, 1])) < 0.15


def test_steps_for_a_number_of_evaluations():
    assert steps_for(SAMPLERS.build("dpmpp-2m"), 20) == 20
    assert steps_for(SAMPLERS.build("heun"), 20) == 10
    assert steps_for(SAMPLERS.build("pc:inner=2"), 1) == 1


def test_samples_of_few_steps_are_far_and_leaving_the_support_is_recorded():
    found = efficiency(Multiplicative(), 0, quiet, counts=(2, 40), rows=400)
    curves = {curve.name: curve for curve in found.curves}
    assert curves["multiplicative"].y[0] is None
    assert "left the support" in curves["multiplicative"].note
    few, many = curves["dpmpp-2m"].y
    assert few > 3 * many
    (floor,) = (f for f in found.findings if f.part == ERROR)
    assert many < floor.value + 4 * floor.error


def test_weak_errors_of_euler_are_exact():
    """`y ← (1 − δ g²/S) y + √δ g Z` for data of one normal law, `α = 1`."""
    sde = Multiplicative(sigma=1.0, mu=0.5)
    paths = follow(sde, drawn(1, 0), 1, 1, 0, 1.0)
    t = torch.tensor([paths.hi - k * paths.span / 16 for k in range(17)], dtype=torch.float64)
    law = paths.model.deviations[0, 0] ** 2 + t
    variance = law[0]
    for k in range(16):
        delta = t[k] - t[k + 1]
        variance = variance * (1 - delta / law[k]) ** 2 + delta
    expected = abs(float(variance.sqrt() - law[-1].sqrt())) / float(law[-1].sqrt())
    for name in ("euler-maruyama", "dale-langevin"):
        assert linear_error(SAMPLERS.build(name), paths, 16) == pytest.approx(expected, rel=1e-6)
    assert linear_error(SAMPLERS.build("multiplicative"), paths, 16) is None


@torch.no_grad()
def test_weak_errors_by_paths_agree_with_exact_ones():
    sde = Multiplicative()
    paths = follow(sde, drawn(64, 0), 4096, 64, 0, 1.0)
    sampler = SAMPLERS.build("euler-maruyama")
    errors, spread = sampled_errors(sampler, paths, (8, 16, 32, 64))
    exact = [linear_error(sampler, paths, n) for n in (8, 16, 32, 64)]
    assert order((8, 16, 32, 64), errors) == pytest.approx(order((8, 16, 32, 64), torch.tensor(exact)), abs=4 * spread)


def test_weak_orders_of_every_sampler():
    part = weak(Additive(), 0, quiet, steps=(16, 64), count=64)
    assert not [f for f in part.findings if f.outcome == "off"]
    names = {curve.name for curve in part.curves}
    assert {"euler-maruyama", "heun", "dpmpp-2m", "ancestral"} <= names


def test_columns_of_a_table_share_round_counts():
    curves = [Curve("p", "a", [5, 10], [1.0, 2.0]), Curve("p", "b", [5, 9], [3.0, None])]
    assert columns(curves) == ([5, 10], [{5: 1.0, 10: 2.0}, {5: 3.0, 10: None}])
    assert columns([]) == ([], [])


def test_order_is_a_slope():
    steps = (10, 20, 40)
    assert order(steps, torch.tensor([3 * n**-1.5 for n in steps])) == pytest.approx(1.5)
    assert math.isnan(order(steps, torch.tensor([1.0, math.nan, 1.0])))
