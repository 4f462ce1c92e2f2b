"""Jacobi's diffusion: its density against independent closed forms, exact draws, data on the walls, and the walls themselves."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sdezoo import SAMPLERS, Noise
from sdezoo_plugins.sdes.boundary.jacobi import SERIES_FROM, Jacobi
from sdezoo_plugins.sdes.shared.coalescent import EARLIEST, integral, lines
from tests.diffusions import STATES, distance, outside, without_divergence

POINTS = [[0.03], [0.4]]
UNEVEN = Jacobi(a=1.3, b=3.0)


def at(sde, tau):
    """The time at which `τ` is reached, float64."""
    share = tau / float(sde._tau(torch.tensor(1.0, dtype=torch.float64)))
    return torch.tensor(math.log1p(2499 * share) / math.log(2500), dtype=torch.float64)


def around(x0, tau, reach=4.0):
    """`x` up to `reach` standard deviations from `x_0`, which it is evenly spread around in `y = 2 asin √x`, and inside."""
    y = 2 * math.asin(math.sqrt(x0)) + torch.linspace(-reach, reach, 17, dtype=torch.float64) * math.sqrt(tau)
    y = y[(y > 1e-3) & (y < math.pi - 1e-3)]
    return torch.sin(y / 2) ** 2, torch.full_like(y, x0)


@pytest.mark.parametrize("x0", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize("tau", [1e-5, 1e-3, 0.009, 0.011, 0.1, 0.5])
def test_with_three_halves_it_is_brownian_motion_on_the_sphere(x0, tau):
    """`a = b = 3/2`: in `y`, the distance from a pole of the sphere in four dimensions; killed at both walls, by images."""
    sde = Jacobi(a=1.5, b=1.5)
    x, start = around(max(x0, 1e-12), tau)
    y, y0 = 2 * torch.asin(x.sqrt()), 2 * torch.asin(start.sqrt())
    killed = -torch.expm1(-2 * y * y0 / tau)
    for turns in (-2, -1, 1, 2):
        for sign in (1, -1):
            killed = killed + sign * torch.exp(((y - y0) ** 2 - (y - sign * y0 + 2 * math.pi * turns) ** 2) / (2 * tau))
    log = killed.log() - (y - y0) ** 2 / (2 * tau) - math.log(2 * math.pi * tau) / 2
    expected = log + y.sin().log() - y0.sin().log() + tau / 2 - (y.sin() / 2).log()
    t = at(sde, tau)
    for found in (sde.log_prob(x, torch.full_like(x, x0), t), sde.log_prob(1 - x, torch.full_like(x, 1 - x0), t)):
        assert torch.allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("sde", [Jacobi(), Jacobi(a=1.0, b=1.0), UNEVEN], ids=lambda sde: sde.spec)
@pytest.mark.parametrize("x0", [0.0, 0.02, 0.5, 1.0])
def test_both_forms_of_the_density_agree_where_one_gives_way_to_the_other(sde, x0):
    x, start = around(x0, SERIES_FROM, 3.5)
    before, after = (sde.log_prob(x, start, at(sde, SERIES_FROM * factor)) for factor in (1 - 1e-7, 1 + 1e-7))
    assert (before - after).abs().max() < 1e-5


def cumulative(sde, x0, t):
    """The distribution function of the density, by quadrature."""
    u, w = np.polynomial.legendre.leggauss(1500)
    y = math.pi * (torch.from_numpy(u) + 1) / 2
    x = torch.sin(y / 2) ** 2
    mass = torch.from_numpy(w) * math.pi / 2 * y.sin() / 2 * sde.log_prob(x, torch.full_like(x, x0), t).exp()
    assert abs(float(mass.sum()) - 1) < 1e-5
    return lambda values: np.interp(values, x.numpy(), (mass.cumsum(0) - mass / 2).numpy())


@pytest.mark.parametrize("sde", [Jacobi(), UNEVEN], ids=lambda sde: sde.spec)
@pytest.mark.parametrize("tau", [0.002, 0.03, 0.099, 0.101, 1.0])
def test_draws_have_the_law_of_the_density(sde, tau):
    t = at(sde, tau)
    for k, x0 in enumerate((0.0, 0.3)):
        drawn = sde.perturb(torch.full((20_000,), x0, dtype=torch.float64), t, Noise.seeded(2, k))
        assert stats.kstest(drawn.numpy(), cumulative(sde, x0, t)).pvalue > 0.01


def test_the_prior_is_a_beta_law_and_stays_it():
    like = torch.empty(20_000, dtype=torch.float64)
    for sde in (Jacobi(), UNEVEN):
        prior = sde.prior(like.shape, Noise.seeded(0), like)
        later = sde.reverse_transition(
            prior, torch.tensor(0.5, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64), Noise.seeded(1)
        )
        for rows in (prior, later):
            assert stats.kstest(rows.numpy(), stats.beta(sde.a, sde.b).cdf).pvalue > 0.01


def exact_lines(tau, theta, m):
    """`q_m(τ)` by its alternating sum, with as many digits as that takes."""
    mp = pytest.importorskip("mpmath").mp
    with mp.workdps(250):
        tau, theta = mp.mpf(tau), mp.mpf(theta)
        total, k = mp.mpf(0), m
        while True:
            log = mp.loggamma(theta + m + k - 1) - mp.loggamma(theta + m) - mp.loggamma(m + 1) - mp.loggamma(k - m + 1)
            term = (theta + 2 * k - 1) * mp.exp(log - k * (k + theta - 1) * tau / 2)
            total += (-1) ** (k - m) * term
            if k > m + 10 and term < mp.mpf(10) ** -40:
                return float(total)
            k += 1


@pytest.mark.parametrize("theta", [2.0, 6.5, 26.0])
def test_lines_of_descent_are_those_of_the_alternating_sum(theta):
    for tau in (0.03, 0.099, 0.1, 0.4, 2.0):
        centre = max(2 / tau - theta / 2, 0)
        found = lines(torch.tensor([tau], dtype=torch.float64), theta, int(centre) + 40)[0]
        for m in {0, int(centre / 2), int(centre), int(centre) + 4}:
            assert float(found[m]) == pytest.approx(exact_lines(tau, theta, m), abs=1e-8)


def test_lines_of_descent_are_all_there_from_the_earliest_time_on():
    tau = torch.tensor([EARLIEST, 0.006173, 0.0212], dtype=torch.float64)
    found = lines(tau, 4.0, 560)
    assert (found.sum(-1) - 1).abs().max() < 1e-8
    m = torch.tensor([[90.0]], dtype=torch.float64)
    assert float(found[2, 90]) == pytest.approx(float(integral(tau[2:, None], 4.0, m)), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_data_on_the_walls_have_finite_scores_and_leave_them(dtype):
    sde, x0 = Jacobi(), torch.tensor([0.0, 1.0, 0.5], dtype=dtype).repeat(4000, 1)
    for t in (*sde.t_span, 0.03, 0.3):
        time = torch.tensor(t, dtype=torch.float64)
        z = sde.perturb(x0, time, Noise.seeded(1))
        score = sde.score(z, x0, time)
        rest = sde.score_from_output(torch.zeros_like(z), z, time)
        answer = sde.scale(time) * (score - rest) / (sde.score_from_output(torch.ones_like(z), z, time) - rest)
        assert score.dtype == z.dtype == dtype
        assert ((z > 0) & (z < 1)).all()
        assert torch.isfinite(score).all()
        assert (answer**2).mean(0).sqrt().max() < 2.2
    assert torch.equal(sde.perturb(x0, torch.zeros((), dtype=torch.float64), Noise.seeded(1)), x0)


def test_what_overshoots_is_folded_and_nothing_ends_on_a_wall():
    proposal, z = torch.tensor([0.5, -0.25, 1.25, 2.5, 0.0, 1.0, -2.0]), torch.tensor([0.1] * 7)
    assert torch.allclose(Jacobi().project(proposal, z), torch.tensor([0.5, 0.25, 0.75, 0.5, 0.1, 0.1, 0.1]))


@pytest.mark.parametrize("steps", STATES)
def test_no_state_of_a_million_is_outside(steps):
    assert outside(SAMPLERS.build("euler-maruyama"), Jacobi(), 100, steps) == 0


def test_two_points_are_found_again_but_not_without_the_divergence():
    sampler = SAMPLERS.build("euler-maruyama")
    assert distance(sampler, Jacobi(), POINTS, 60, 2000) < 0.02
    assert distance(sampler, without_divergence(Jacobi)(), POINTS, 60, 2000) > 0.035
