"""The clocks of processes with noise `√x` at a boundary: their ends and speed, the growth and the network input that are set from data."""

import math

import pytest
import torch
from scipy import stats

from sdezoo import SDES, Noise
from sdezoo.errors import ParameterError
from sdezoo_plugins.sdes.boundary.cir import CIR
from sdezoo_plugins.sdes.boundary.jacobi import Jacobi
from sdezoo_plugins.sdes.boundary.wright_fisher import WrightFisher
from sdezoo_plugins.sdes.shared.square_root import GROWTH, SHARE, clock, clock_speed, growth_for

LO = torch.tensor(1e-3, dtype=torch.float64)
NAMES = ["cir", "jacobi", "wright-fisher"]
CLOCKS = [(50.0, None), (1.001, None), (1e5, None), (50.0, 0.05), (50.0, 1.0)]
MEANS = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)

each_name = pytest.mark.parametrize("name", NAMES)


def rows(width, count=400, dtype=torch.float64):
    """Shares of three parts, with standard deviations of about `width` around their means."""
    noise = torch.randn((count, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (MEANS + width * (noise - noise.mean(-1, keepdim=True))).clamp_min(0)
    return (x / x.sum(-1, keepdim=True)).to(dtype)


@pytest.mark.parametrize(("growth", "start"), CLOCKS)
def test_a_clock_runs_from_0_to_1_at_its_speed(growth, start):
    t = torch.tensor([0.0, 1e-5, 1e-3, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    beta, speed = clock(t, growth, start), clock_speed(t, growth, start)
    slope = torch.func.vmap(torch.func.grad(lambda u: clock(u, growth, start)))(t)
    assert beta[[0, -1]].tolist() == pytest.approx([0, 1], abs=1e-15)
    assert torch.allclose(slope, speed, rtol=1e-12, atol=0)
    assert (speed > 0).all()
    if start is None:
        assert math.sqrt(float(speed[-1] / speed[0])) == pytest.approx(growth)


@pytest.mark.parametrize("share", [1e-4, 1e-7, 1e-12, 0.5])
def test_the_growth_is_that_at_which_the_clock_begins_where_it_should(share):
    growth = growth_for(share, 1e-3)
    first = float(clock(LO, growth, None))
    assert growth == GROWTH if first < share else first == pytest.approx(share, rel=1e-9)


@each_name
@pytest.mark.parametrize("width", [0.003, 0.1])
def test_noise_begins_at_three_percent_of_the_narrowest_column(name, width):
    """By the spread of draws in the coordinates in which it is the same everywhere, from the means of the data."""
    x = rows(width)
    sde = SDES.build(name).adapted(x)
    center = x.mean(0, keepdim=True).expand(20_000, 3)
    y = sde.even(sde.perturb(center, LO, Noise.seeded(0)))
    found = y.std(0) / (1 if name != "wright-fisher" else (1 - MEANS).sqrt())  # on the sphere, no noise along the radius
    expected = SHARE * min(sde.spread)
    wide = sde.growth == GROWTH
    assert wide == (width > 0.01)
    assert (found < 1.03 * expected if wide else (found / expected - 1).abs() < 0.03).all()


@each_name
def test_the_network_input_is_standardized_at_all_times(name):
    x = rows(0.003, 4000)
    sde = SDES.build(name).adapted(x)
    for t in (1e-3, 0.2, 0.4):
        time = torch.tensor(t, dtype=torch.float64)
        found = sde.network_input(sde.perturb(x, time, Noise.seeded(0)), time)
        assert ((found**2).mean(0).sqrt() < 1.3).all()
        assert ((found**2).mean(0).sqrt() > 0.5).all()
    found = sde.network_input(sde.prior((4000, 3), Noise.seeded(1), x), torch.ones((), dtype=torch.float64))
    assert ((found**2).mean(0).sqrt() < 4).all()


@each_name
def test_what_is_set_from_data_is_recorded_and_stays(name):
    for x in (rows(0.003), rows(0.003, dtype=torch.float32), rows(0.03)[:, None, None, :]):
        sde = SDES.build(name).adapted(x)
        assert SDES.build(sde.full_spec) == sde == sde.adapted(rows(0.1)[: len(x)].reshape(x.shape))
        assert len(sde.center) == len(sde.spread) == (3 if x.ndim == 2 else 1)
    given = SDES.build(f"{name}:growth=70,center=(0.1),spread=(2)").adapted(rows(0.003))
    assert (given.growth, given.center, given.spread) == (70, (0.1,), (2,))


@each_name
def test_a_given_start_is_the_process_with_the_quadratic_clock_and_the_input_as_it_stands(name):
    sde = SDES.build(f"{name}:start=0.05").adapted(rows(0.003))
    assert (sde.growth, sde.center, sde.spread) == (None, None, None)
    assert sde.own_sampler() is None
    assert SDES.build(name).own_sampler() == "heun"
    z = sde.encode(rows(0.003))
    assert torch.equal(sde.network_input(z, LO), sde.even(z))
    assert float(sde.clock(torch.tensor(0.3, dtype=torch.float64))) == 0.3 * (0.05 + 0.95 * 0.3)
    with pytest.raises(ParameterError, match=r"growth=60 and start=0.05 are of two different clocks.*geometric clock, or start"):
        SDES.build(f"{name}:start=0.05,growth=60")


@each_name
def test_constant_columns_set_no_growth(name):
    x = MEANS.expand(20, 3)
    sde = SDES.build(name).adapted(x)
    assert sde.growth == GROWTH
    z = sde.perturb(x, LO, Noise.seeded(0))
    assert torch.isfinite(sde.network_input(z, LO)).all()


@pytest.mark.parametrize(
    ("name", "ends"),
    [("cir", [[0.0, 1e3, 2.0], [0.0, 1e-4, 2.0]]), ("jacobi", [[0.0, 1.0, 0.5]]), ("wright-fisher", [[1.0, 0, 0], [0.4, 0.6, 0]])],
)
def test_noise_does_not_begin_below_what_single_precision_resolves(name, ends):
    """Near 1, floats are 6e-8 apart. A draw that is rounded by more than the noise has a score far too large."""
    x = torch.cat([rows(1e-6, dtype=torch.float32), torch.tensor(ends).repeat(100, 1)])
    x[:, 2] = x[:, 2] if name == "wright-fisher" else 0.7 + 1e-7 * torch.arange(len(x))
    sde = SDES.build(name).adapted(x)
    assert float(sde.clock(LO)) > 0.99 * sde.resolved(sde.encode(x.double()))
    z = sde.perturb(x, LO, Noise.seeded(0))
    exact = sde.perturb(x.double(), LO, Noise.seeded(0))
    unit = sde.scale(LO) * sde.score_error_weighting(exact, LO).sqrt()
    found, expected = unit * sde.score(z, x, LO), unit * sde.score(exact, x.double(), LO)
    assert (found - expected).square().mean(0).sqrt().max() < 0.2


@pytest.mark.parametrize("growth", [300.0, 1e4, 1e6])
def test_the_score_of_noise_that_small_is_that_of_brownian_motion_on_the_sphere(growth):
    """`a = b = 3/2`, in units of the noise: `cot y − (y − y_0)/τ`; the next image counts less than `e^{−1000}`."""
    sde = Jacobi(a=1.5, b=1.5, growth=growth)
    tau = float(sde._tau(LO))
    x0 = torch.tensor([0.02, 0.3, 0.7, 0.98], dtype=torch.float64).repeat_interleave(50)
    x = sde.perturb(x0, LO, Noise.seeded(0))
    y, y0 = (2 * torch.atan2(u.sqrt(), (1 - u).sqrt()) for u in (x, x0))
    unit = (x * (1 - x)).sqrt()
    expected = 1 / y.tan() - (y - y0) / tau - (1 - 2 * x) / (2 * unit)
    assert ((sde.score(x, x0, LO) * unit - expected) * math.sqrt(tau)).abs().max() < 1e-6


@pytest.mark.parametrize("growth", [300.0, 1e4, 1e6])
def test_draws_with_noise_that_small_are_normal_and_the_score_is_theirs(growth):
    """In the coordinates with even noise, and from inside: the standardized score is minus the standardized noise."""
    alone = torch.tensor([0.3], dtype=torch.float64).expand(20_000, 1)
    for sde, x0 in [(CIR(growth=growth), alone), (Jacobi(growth=growth), alone), (WrightFisher(growth=growth), MEANS.expand(20_000, 3))]:
        z = sde.perturb(x0, LO, Noise.seeded(3))
        unit = sde.scale(LO) * sde.score_error_weighting(z, LO).sqrt()
        for column in (unit * sde.score(z, x0, LO)).T:
            assert stats.kstest(column.numpy(), "norm").pvalue > 0.01 / 4
