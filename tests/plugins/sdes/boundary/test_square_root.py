"""Square-root diffusion: Bessel functions, the transition against scipy's, the limit t → 0, zeros in the data, and the boundary."""

import math
from types import SimpleNamespace

import pytest
import torch
from scipy import stats

from sdezoo import SAMPLERS, SDES, Noise
from sdezoo.errors import ParameterError
from sdezoo_plugins.losses.dsm import DSM
from sdezoo_plugins.sdes.boundary.cir import CIR
from sdezoo_plugins.sdes.boundary.jacobi import Jacobi
from sdezoo_plugins.sdes.boundary.wright_fisher import WrightFisher
from sdezoo_plugins.sdes.shared.bessel import bessel
from tests.diffusions import STATES, distance, outside, without_divergence

FELLER = CIR(kappa=1.0, theta=2.0, sigma=2.0, start=1.0)
PROCESSES = [CIR(), CIR(start=0.05), FELLER, CIR(kappa=5.0, sigma=0.5), CIR(kappa=1.5, theta=0.3, sigma=0.4, start=0.5)]
POINTS = [[0.5], [2.0]]

each_process = pytest.mark.parametrize("sde", PROCESSES, ids=lambda sde: sde.spec)
each_time = pytest.mark.parametrize("t", [1e-4, 4e-3, 0.05, 1.0])


def clock(sde, t):
    return math.expm1(t * math.log(2500)) / 2499 if sde.start is None else t * (sde.start + (1 - sde.start) * t)


def textbook(sde, x0, t):
    """scipy's law of `X_t` (Cox, Ingersoll & Ross 1985, eq. 18)."""
    left = math.exp(-sde.kappa * clock(sde, t))
    c = 2 * sde.kappa / (sde.sigma**2 * -math.expm1(-sde.kappa * clock(sde, t)))
    return stats.ncx2(4 * sde.kappa * sde.theta / sde.sigma**2, 2 * c * x0 * left, scale=1 / (2 * c))


def grid(sde, t):
    """`x` and `x_0` over four standard deviations around the mean."""
    x0 = torch.tensor([0.02, 0.3, 1.0, 4.0], dtype=torch.float64).repeat_interleave(7)
    law = textbook(sde, x0.numpy(), t)
    x = torch.from_numpy(law.mean()) + torch.linspace(-1.5, 2.5, 7, dtype=torch.float64).repeat(4) * torch.from_numpy(law.std())
    return x[x > 1e-6], x0[x > 1e-6]


@each_time
@each_process
def test_the_density_is_scipys(sde, t):
    x, x0 = grid(sde, t)
    expected = torch.from_numpy(textbook(sde, x0.numpy(), t).logpdf(x.numpy()))
    known = expected.isfinite()  # scipy's own overflows for small t
    found = sde.log_prob(x, x0, torch.tensor(t, dtype=torch.float64))
    assert known.sum() > 4
    assert torch.allclose(found[known], expected[known], rtol=1e-7, atol=1e-7)


@each_process
def test_draws_and_prior_have_scipys_laws(sde):
    x0 = torch.full((20_000,), 0.4, dtype=torch.float64)
    for k, t in enumerate((1e-3, 0.1, 0.4, 1.0)):
        drawn = sde.perturb(x0, torch.tensor(t, dtype=torch.float64), Noise.seeded(3, k))
        assert stats.kstest(drawn.numpy(), textbook(sde, 0.4, t).cdf).pvalue > 0.01
    rest = stats.gamma(2 * sde.kappa * sde.theta / sde.sigma**2, scale=sde.sigma**2 / (2 * sde.kappa))
    prior = sde.prior((20_000,), Noise.seeded(4), x0)
    assert stats.kstest(prior.numpy(), rest.cdf).pvalue > 0.01
    later = sde.reverse_transition(prior, torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64), Noise.seeded(5))
    assert stats.kstest(later.numpy(), rest.cdf).pvalue > 0.01


@pytest.mark.parametrize("q", [0.0, 0.37, 3.2, 19.9, 40.0])
def test_bessel_is_differentiable_from_zero_to_where_it_would_overflow(q):
    w = torch.tensor([0.0, 1e-8, 1e-3, 0.1, 1.0, 7.0, 30.0, 200.0, 1e4, 1e6], dtype=torch.float64, requires_grad=True)
    log, gap = bessel(q, w)
    (slope,) = torch.autograd.grad(log.sum(), w, create_graph=True)
    assert torch.isclose(log[0], torch.tensor(-q * math.log(2) - math.lgamma(q + 1), dtype=torch.float64), rtol=1e-12)
    assert torch.allclose(slope * w, -gap, rtol=1e-9, atol=1e-12)
    (bend,) = torch.autograd.grad(slope.sum(), w)
    ratio = 1 + slope  # I_{q+1}/I_q, for which Bessel's equation is r' = 1 − r² − (2q + 1) r/w
    assert torch.allclose((bend * w)[1:], (w - w * ratio**2 - (2 * q + 1) * ratio)[1:], atol=1e-8)


@each_time
@each_process
def test_the_density_solves_the_backward_equation(sde, t):
    x, x0 = grid(sde, t)
    leaves = [leaf.requires_grad_() for leaf in (x0, torch.full_like(x0, t))]
    of_start, of_t = torch.autograd.grad(sde.log_prob(x, *leaves).sum(), leaves, create_graph=True)
    (bend,) = torch.autograd.grad(of_start.sum(), x0)
    terms = [sde.drift(x0, leaves[1]) * of_start, sde.diffusion(x0, leaves[1]) ** 2 / 2 * (bend + of_start**2)]
    # The clock runs in neither equation alone: `drift` and `diffusion` both carry its speed.
    size = 1 + of_t.abs() + sum(term.abs() for term in terms)
    assert ((of_t - sum(terms)).abs() <= 1e-8 * size).all()


@each_process
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_the_score_is_the_slope_of_the_density_also_from_zero_and_far_out(sde, dtype, accuracy):
    values = torch.tensor([1e-6, 1e-3, 0.1, 1.0, 100.0], dtype=dtype)
    x, x0 = torch.cartesian_prod(values, torch.cat([values.new_zeros(1), values])).unbind(1)
    for t in (sde.t_span[0], 0.1, 1.0):
        time = torch.tensor(t, dtype=torch.float64)
        score = sde.score(x, x0, time)
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(sde.log_prob(leaf, torch.where(x0 > 0, x0, 1e-30), time).sum(), leaf)
        assert score.dtype == dtype
        assert torch.isfinite(score).all()
        assert torch.allclose(score, slope, rtol=accuracy, atol=accuracy)


def test_what_a_network_answers_is_of_the_order_of_one_everywhere():
    sde, x0 = CIR(), torch.tensor([0.0, 1e-4, 0.5, 3.0]).repeat(20_000, 1)
    for t in (1e-3, 0.05, 0.2):
        time = torch.tensor(t, dtype=torch.float64)
        z = sde.perturb(x0, time, Noise.seeded(1))
        rest = sde.score_from_output(torch.zeros_like(z), z, time)
        answer = sde.scale(time) * (sde.score(z, x0, time) - rest) / (sde.score_from_output(torch.ones_like(z), z, time) - rest)
        assert ((answer**2).mean(0).sqrt() - 1.7).abs().max() < 1.3


@pytest.mark.parametrize("sde", [CIR(), Jacobi(), WrightFisher(speed=1.0)], ids=lambda sde: sde.spec)
def test_an_error_of_the_network_counts_the_same_near_a_wall(sde):
    """`score_error_weighting`, by which `dsm` weighs errors, makes up for what `score_from_output` multiplies a network's output by."""
    z = torch.tensor([[1e-6, 0.5], [0.5, 1e-6], [0.3, 0.9]], dtype=torch.float64)
    t = torch.full((3, 1), 0.3, dtype=torch.float64)
    one = torch.ones_like(sde.network_input(z, t))
    step = sde.score_from_output(one, z, t) - sde.score_from_output(0 * one, z, t)
    weight = DSM().weight(SimpleNamespace(sde=sde), t, z)
    assert torch.allclose(weight * step**2, sde.scale(t).expand_as(z) ** 2, rtol=1e-6)


@pytest.mark.parametrize("sde", [CIR(kappa=40.0, sigma=3.0), Jacobi(b=3.0, kappa=40.0), WrightFisher(speed=20.0)], ids=lambda sde: sde.spec)
def test_after_long_the_score_is_that_of_the_process_at_rest(sde):
    z = torch.tensor([[0.1, 0.5], [0.7, 0.02]], dtype=torch.float64)
    t = torch.ones(2, 1, dtype=torch.float64)
    x0 = torch.full_like(sde.network_input(z, t), 1.0)
    assert torch.allclose(sde.score(z, x0 / x0.shape[-1], t), sde.stationary_score(z, t), atol=1e-9)


def test_at_time_zero_nothing_has_happened():
    x0 = torch.tensor([[0.3, 2.0], [1e-6, 50.0], [0.0, 1.0]])
    t = torch.tensor([[0.0], [0.5], [0.0]])
    drawn = CIR().perturb(x0, t, Noise.seeded(0))
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn[[0, 2]], x0[[0, 2]])
    assert (drawn[1] != x0[1]).all()


def test_the_data_are_divided_by_their_means():
    x0 = torch.tensor([[100.0, 0.0, 0.0], [300.0, 0.5, 0.0]])
    sde = SDES.build("cir").adapted(x0)
    assert sde.unit == (200.0, 0.25, 1.0)
    assert torch.equal(sde.encode(x0), torch.tensor([[0.5, 0.0, 0.0], [1.5, 2.0, 0.0]]))
    assert torch.equal(sde.decode(sde.encode(x0)), x0)
    assert SDES.build("cir").adapted(torch.full((5, 1, 4, 4), 3.0)).unit == (3.0,)
    assert CIR(unit=(2.0,)).adapted(x0).unit == (2.0,)


def test_the_boundary_reflects_and_nothing_ends_on_it():
    proposal, z = torch.tensor([0.5, -0.25, 0.0, -0.0]), torch.tensor([1.0, 1.0, 0.125, 0.5])
    assert CIR().project(proposal, z).tolist() == [0.5, 0.25, 0.125, 0.5]


@pytest.mark.parametrize("steps", STATES)
def test_no_state_of_a_million_is_outside(steps):
    assert outside(SAMPLERS.build("euler-maruyama"), CIR(), 100, steps) == 0


@pytest.mark.parametrize(("sde", "event"), [(CIR(), 100), (Jacobi(), 100), (WrightFisher(), 10)], ids=["cir", "jacobi", "wright-fisher"])
@pytest.mark.parametrize("sampler", ["heun", "pc", "sscs", "torchsde", "torchsde:method=midpoint", "torchsde:method=srk"])
def test_no_state_is_outside_by_any_sampler_that_fits(sampler, sde, event):
    """Their stages may look beyond a wall, and no score is known there. `srk` takes no noise that depends on other entries."""
    fits = SAMPLERS.build(sampler).refuses(sde) is None
    assert fits or (sampler, sde.entrywise_noise) == ("torchsde:method=srk", False)
    for steps in (3, 20) if fits else ():
        assert outside(SAMPLERS.build(sampler), sde, event, steps, states=4000) == 0


def test_two_points_are_found_again_but_not_without_the_divergence():
    sampler = SAMPLERS.build("euler-maruyama")
    assert distance(sampler, CIR(), POINTS, 100, 4000) < 0.05
    assert distance(sampler, without_divergence(CIR)(), POINTS, 100, 4000) > 0.4


def test_splitting_off_the_process_at_rest_takes_fewer_steps():
    assert distance(SAMPLERS.build("sscs"), CIR(start=0.05), POINTS, 40, 4000) < 0.05


def test_splitting_off_the_process_at_rest_finds_two_points_with_the_geometric_clock():
    """Its steps are longest at the prior, where the splitting is at its coarsest: it takes more of them than with the quadratic clock."""
    assert distance(SAMPLERS.build("sscs"), CIR(), POINTS, 60, 4000) < 0.05


def test_noise_that_would_reach_zero_is_refused():
    with pytest.raises(ParameterError, match=r"sigma=2.1 the process reaches 0.*at most sqrt\(2 kappa theta\) = 2"):
        CIR(kappa=1.0, theta=2.0, sigma=2.1)
    assert FELLER.q == 0
