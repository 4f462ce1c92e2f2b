"""The laws of every SDE, and what is special to Cox–Ingersoll–Ross: Bessel functions, the limit t → 0, and the boundary."""

import math

import pytest
import torch
from sdezoo_cir import CIR, bessel

from sdezoo import SDES, Noise
from sdezoo.conformance import sde_laws
from sdezoo.errors import ParameterError

FELLER = CIR(kappa=1.0, theta=2.0, sigma=2.0)
PROCESSES = [CIR(), FELLER, CIR(kappa=5.0, theta=10.0, sigma=0.5), CIR(kappa=1.5, theta=0.3, sigma=0.4)]
TIMES = [1e-5, 1e-3, 4e-3, 0.05, 1.0]

each_process = pytest.mark.parametrize("sde", PROCESSES, ids=lambda sde: sde.spec)
each_time = pytest.mark.parametrize("t", TIMES)


@pytest.mark.parametrize("law", sde_laws(CIR()))
def test_law(law):
    law()


def test_sdezoo_finds_it():
    assert SDES.build("cir:sigma=1.1") == CIR(sigma=1.1)


def grid(sde: CIR, t: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`x`, `x_0` and `t` over four standard deviations around the mean, float64."""
    x0 = torch.tensor([0.02, 0.3, 1.0, 4.0, 100.0], dtype=torch.float64).repeat_interleave(9)
    mean = sde.theta + (x0 - sde.theta) * math.exp(-sde.kappa * t)
    rate = sde.sigma**2 / sde.kappa * -math.expm1(-sde.kappa * t)
    deviation = (rate * (x0 * math.exp(-sde.kappa * t) + sde.theta / 2 * -math.expm1(-sde.kappa * t))).sqrt()
    x = mean + torch.linspace(-1.5, 2.5, 9, dtype=torch.float64).repeat(5) * deviation
    inside = x > 1e-6
    return x[inside], x0[inside], torch.full_like(x[inside], t)


@each_time
@each_process
def test_density_and_score_are_those_of_the_textbook(sde, t):
    """Computed with 60 digits, of which cancellation leaves enough."""
    mp = pytest.importorskip("mpmath").mp
    x, x0, times = (values[::2] for values in grid(sde, t))
    density, score = sde.log_prob(x, x0, times), sde.score(x, x0, times)
    with mp.workdps(60):
        kappa, theta, sigma, now = map(mp.mpf, (sde.kappa, sde.theta, sde.sigma, t))
        q, c = 2 * kappa * theta / sigma**2 - 1, 2 * kappa / (sigma**2 * (1 - mp.exp(-kappa * now)))
        for k in range(len(x)):
            here = mp.mpf(float(x[k]))
            u, v = c * mp.exp(-kappa * now) * mp.mpf(float(x0[k])), c * here
            w = 2 * mp.sqrt(u * v)
            level = mp.besseli(q, w)
            assert density[k] == pytest.approx(float(mp.log(c) - u - v + q / 2 * mp.log(v / u) + mp.log(level)), rel=1e-9, abs=1e-9)
            assert score[k] == pytest.approx(float(-c + q / here + w / (2 * here) * mp.besseli(q + 1, w) / level), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("q", [0.0, 0.37, 3.2, 19.9, 40.0])
def test_bessel_is_differentiable_from_zero_to_where_it_would_overflow(q):
    w = torch.tensor([0.0, 1e-8, 1e-3, 0.1, 1.0, 7.0, 30.0, 200.0, 1e4, 1e6], dtype=torch.float64, requires_grad=True)
    log, gap = bessel(q, w)
    (slope,) = torch.autograd.grad(log.sum(), w, create_graph=True)
    assert torch.isclose(log[0], torch.tensor(-q * math.log(2) - math.lgamma(q + 1), dtype=torch.float64), rtol=1e-12)
    assert torch.allclose(slope * w, -gap, rtol=1e-9, atol=1e-12)  # d/dw log(I_q w^{−q}) = I_{q+1}/I_q
    (bend,) = torch.autograd.grad(slope.sum(), w)
    ratio = 1 + slope  # Bessel's equation for the ratio: r' = 1 − r² − (2q + 1) r/w
    assert torch.allclose((bend * w)[1:], (w - w * ratio**2 - (2 * q + 1) * ratio)[1:], atol=1e-8)


@each_time
@each_process
def test_the_density_solves_both_equations_of_kolmogorov(sde, t):
    x, x0, times = grid(sde, t)
    leaves = [leaf.requires_grad_() for leaf in (x, x0, times)]
    of_x, of_start, of_t = torch.autograd.grad(sde.log_prob(*leaves).sum(), leaves, create_graph=True)
    (bend,) = torch.autograd.grad(of_x.sum(), x, retain_graph=True)
    (bend_start,) = torch.autograd.grad(of_start.sum(), x0)
    noise = sde.sigma**2
    forward = [sde.kappa + 0 * x, (noise - sde.drift(x, times)) * of_x, noise * x / 2 * (bend + of_x**2)]
    backward = [sde.drift(x0, times) * of_start, noise * x0 / 2 * (bend_start + of_start**2)]
    for terms in (forward, backward):
        size = 1 + of_t.abs() + sum(term.abs() for term in terms)
        assert ((of_t - sum(terms)).abs() <= 1e-9 * size).all()


@each_process
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_the_score_is_the_slope_of_the_density_and_finite_far_out(sde, dtype, accuracy):
    values = torch.tensor([1e-6, 1e-3, 0.1, 1.0, 100.0], dtype=dtype)
    x, x0 = torch.cartesian_prod(values, values).unbind(1)
    for t in (sde.times[0], 0.1, 1.0):
        time = torch.tensor(t, dtype=torch.float64)
        score = sde.score(x, x0, time)
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(sde.log_prob(leaf, x0, time).sum(), leaf)
        assert score.dtype == dtype
        assert torch.isfinite(score).all()
        assert torch.allclose(score, slope, rtol=accuracy, atol=accuracy)


@pytest.mark.parametrize("t", [1e-4, 0.1, 1.0])
def test_draws_have_the_moments_of_the_transition(t):
    sde = CIR()
    x0 = torch.full((200_000,), 0.4, dtype=torch.float64)
    drawn = sde.perturb(x0, torch.tensor(t, dtype=torch.float64), Noise.seeded(3))
    left, gone = math.exp(-sde.kappa * t), -math.expm1(-sde.kappa * t)
    variance = sde.sigma**2 / sde.kappa * gone * (0.4 * left + sde.theta * gone / 2)
    assert abs(float(drawn.mean()) - (0.4 * left + sde.theta * gone)) < 4.5 * math.sqrt(variance / len(x0))
    assert abs(float(drawn.var()) / variance - 1) < 0.03


def test_at_time_zero_nothing_has_happened():
    x0 = torch.tensor([[0.3, 2.0], [1e-6, 50.0], [1.0, 1.0]])
    t = torch.tensor([[0.0], [0.5], [0.0]])
    drawn = CIR().perturb(x0, t, Noise.seeded(0))
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn[[0, 2]], x0[[0, 2]])
    assert (drawn[1] != x0[1]).all()
    assert torch.equal(CIR().perturb(x0, torch.zeros((), dtype=torch.float64), Noise.seeded(0)), x0)


def test_the_boundary_reflects_and_nothing_ends_on_it():
    proposal, z = torch.tensor([0.5, -0.25, 0.0, -0.0]), torch.tensor([1.0, 1.0, 0.125, 0.5])
    assert CIR().confine(proposal, z).tolist() == [0.5, 0.25, 0.125, 0.5]


def test_the_divergence_is_the_derivative_of_the_squared_noise():
    z = torch.tensor([[0.01, 1.0, 30.0]], dtype=torch.float64)
    automatic = super(CIR, CIR()).divergence(z, torch.tensor(0.5))
    assert torch.allclose(CIR().divergence(z, torch.tensor(0.5)), automatic)


def test_noise_that_would_reach_zero_is_refused():
    with pytest.raises(ParameterError, match=r"sigma=2.1 the process reaches 0.*at most sqrt\(2 kappa theta\) = 2"):
        CIR(kappa=1.0, theta=2.0, sigma=2.1)
    assert FELLER.q == 0
