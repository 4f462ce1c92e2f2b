"""The Wright–Fisher diffusion: its equation in shares, its density against Jacobi's, exact draws, data on faces, and the simplex."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sdezoo import SAMPLERS, SDES, Noise
from sdezoo.errors import DataError, ParameterError
from sdezoo_plugins.sdes.boundary.jacobi import Jacobi
from sdezoo_plugins.sdes.boundary.wright_fisher import WrightFisher
from sdezoo_plugins.sdes.shared.coalescent import lines
from sdezoo_plugins.sdes.shared.simplex_transition import (
    _small_time_counts,
    angle,
    density_and_descendants,
    descendants,
    log_density,
    small_time,
)
from tests.diffusions import STATES, distance, outside, without_divergence

LEVEL = 0.01 / 4
"""Of a test of each of four parts."""
HALF = torch.tensor(0.5, dtype=torch.float64)


def test_the_sticks_solve_the_equation_of_the_shares():
    """By Itô: `J diag(g²) Jᵀ = s (diag x − x xᵀ) β'`, and `J f + ½ Σ g_i² ∂²x/∂v_i² = (s/2) α (1 − K x) β'`."""
    sde, z = WrightFisher(alpha=1.7, speed=0.8), torch.tensor([0.2, 0.7, 0.4], dtype=torch.float64)
    x, rate = sde.decode(z), float(sde._rate(HALF))
    first = torch.func.jacfwd(sde.decode)(z)
    second = torch.func.jacfwd(torch.func.jacfwd(sde.decode))(z)
    squared = sde.diffusion(z, HALF) ** 2
    assert torch.allclose(first @ squared.diag() @ first.T, rate * (x.diag() - x.outer(x)))
    drift = first @ sde.drift(z, HALF) + torch.einsum("kii,i->k", second, squared) / 2
    assert torch.allclose(drift, rate / 2 * sde.alpha * (1 - 4 * x))


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.5])
def test_two_parts_are_jacobis_diffusion(alpha):
    """Series by Fourier transforms against polynomials."""
    x0 = torch.tensor([0.0, 0.02, 0.4, 1.0], dtype=torch.float64).repeat_interleave(5)
    for tau in (0.006, 0.0101, 0.05, 0.2, 1.0):
        y = 2 * torch.asin(x0.sqrt()) + math.sqrt(tau) * torch.tensor([-2.5, -1.0, 0.3, 1.2, 2.5], dtype=torch.float64).repeat(4)
        x = torch.sin(y.clamp(0.01, math.pi - 0.01) / 2) ** 2
        parts, start = torch.stack([x, 1 - x], -1), torch.stack([x0, 1 - x0], -1)
        jacobi = Jacobi(a=alpha, b=alpha, kappa=alpha, start=1.0)  # τ = t
        expected = jacobi.log_prob(x, x0, torch.tensor(tau, dtype=torch.float64))
        times = torch.full_like(x, tau)
        assert torch.allclose(log_density(parts, start, alpha, times), expected, atol=1e-6 if tau > 0.01 else 1e-4)
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(jacobi.log_prob(leaf, x0, torch.tensor(tau, dtype=torch.float64)).sum(), leaf)
        n = descendants(parts, start, alpha, times)
        found = (alpha - 1 + n[:, 0]) / x - (alpha - 1 + n[:, 1]) / (1 - x)
        assert ((found - slope) * (x * (1 - x) * tau).sqrt()).abs().max() < (1e-6 if tau > 0.01 else 1e-3)


@pytest.mark.parametrize("tau", [0.0051, 0.02, 0.3])
def test_one_part_against_the_others_is_jacobis_diffusion(tau):
    """The density of three parts, integrated over the second, by quadrature."""
    alpha, start = 1.5, torch.tensor([0.3, 0.6, 0.1], dtype=torch.float64)
    u, w = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(400))
    found, first = [], 0.3 + math.sqrt(0.21 * tau) * torch.tensor([-1.0, 0.0, 1.5], dtype=torch.float64)
    for x in first:
        second = (1 - x) * torch.sin(math.pi * (u + 1) / 4) ** 2
        parts = torch.stack([x.expand_as(u), second, 1 - x - second], -1)
        density = log_density(parts, start.expand_as(parts), alpha, torch.full_like(u, tau)).exp()
        found.append((density * w * (1 - x) * math.pi / 4 * torch.sin(math.pi * (u + 1) / 2)).sum().log())
    jacobi = Jacobi(a=alpha, b=2 * alpha, kappa=1.5 * alpha, start=1.0)
    expected = jacobi.log_prob(first, torch.full_like(first, 0.3), torch.tensor(tau, dtype=torch.float64))
    assert torch.allclose(torch.stack(found), expected, atol=1e-5)


@pytest.mark.parametrize(("parts", "accuracy"), [(3, 1e-4), (13, 1e-3)])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_small_time_form_is_the_series_where_that_begins(parts, accuracy, sparse):
    """Density, and counts in units of the noise, `√(x/τ)`, without what all parts share: that no score sees."""
    tau = torch.full((100,), 0.0051, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    start = torch.rand((100, parts), generator=generator, dtype=torch.float64)
    start = torch.where(start < 0.4, 0.0, start) if sparse else start + 0.1
    start = start / start.sum(-1, keepdim=True)
    z = WrightFisher(speed=1.0, start=1.0).perturb(start, tau[:1], Noise.seeded(0))
    x = WrightFisher().decode(z)
    near = 2 * angle(x, start)[:, 0] < 6 * tau.sqrt()
    assert near.sum() > 80
    x, start, tau = x[near], start[near], tau[near]
    gap = log_density(x, start, 2.0, tau) - small_time(x, start, (2.0,) * parts, tau)
    assert (gap**2).mean().sqrt() < parts * 0.0051  # of the order of `τ` for each part at a wall
    counts = descendants(x, start, 2.0, tau) - _small_time_counts(x, start, 2.0, tau)
    counts = (counts - x * counts.sum(-1, keepdim=True)) * (tau.unsqueeze(-1) / x).sqrt()
    assert (counts**2).mean().sqrt() < accuracy


@pytest.mark.parametrize("t", [1e-3, 0.2, 0.5])
def test_draws_have_the_law_of_the_density(t):
    """Of each part alone, in distribution function; jointly, `sdezoo check` tries it."""
    sde = WrightFisher(start=1.0)
    x0 = torch.tensor([0.0, 0.3, 0.6, 0.1], dtype=torch.float64).expand(20_000, 4)
    time = torch.tensor(t, dtype=torch.float64)
    drawn = sde.decode(sde.perturb(x0, time, Noise.seeded(6)))
    jacobi = Jacobi(a=2.0, b=6.0, kappa=4.0, start=1.0)
    u, w = np.polynomial.legendre.leggauss(1500)
    y = math.pi * (torch.from_numpy(u) + 1) / 2
    grid = torch.sin(y / 2) ** 2
    for k in range(4):
        mass = torch.from_numpy(w) * math.pi / 2 * y.sin() / 2 * jacobi.log_prob(grid, x0[:1500, k], time).exp()
        ends = (mass.cumsum(0) - mass / 2).numpy()
        assert stats.kstest(drawn[:, k].numpy(), lambda x, ends=ends: np.interp(x, grid.numpy(), ends)).pvalue > LEVEL


def test_the_prior_is_dirichlets_law_and_stays_it():
    sde, like = WrightFisher(), torch.empty(20_000, 4, dtype=torch.float64)
    prior = sde.prior(tuple(like.shape), Noise.seeded(0), like)
    later = sde.reverse_transition(prior, HALF, HALF / 2, Noise.seeded(1))
    for z in (prior, later):
        for part in sde.decode(z).T:
            assert stats.kstest(part.numpy(), stats.beta(2, 6).cdf).pvalue > LEVEL


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_data_on_faces_and_corners_have_finite_scores_and_leave_them(dtype):
    sde = WrightFisher()
    x0 = torch.tensor([[0.0, 0.4, 0.6], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], dtype=dtype).repeat(500, 1)
    for t in (*sde.t_span, 0.2):
        time = torch.tensor(t, dtype=torch.float64)
        z = sde.perturb(x0, time, Noise.seeded(1))
        score = sde.score(z, x0, time)
        assert score.dtype == z.dtype == dtype
        assert ((z > 0) & (z < 1)).all()
        assert torch.isfinite(score).all()
    z = sde.perturb(x0, torch.zeros((), dtype=torch.float64), Noise.seeded(1))
    assert torch.allclose(sde.decode(z), x0)


def test_its_speed_is_set_from_the_number_of_parts():
    x0 = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    sde = SDES.build("wright-fisher").adapted(x0)
    assert sde.speed == 1.0
    assert sde.adapted(x0) == sde
    with pytest.raises(ParameterError, match=r"speed=0.004 the process is too short.*above 0.005"):
        WrightFisher(speed=0.004)
    with pytest.raises(DataError, match=r"one part have nothing to share.*two parts or more"):
        sde.adapted(torch.ones(5, 1))


@pytest.mark.parametrize("steps", STATES)
def test_no_state_of_a_million_is_outside(steps):
    assert outside(SAMPLERS.build("euler-maruyama"), WrightFisher(), 10, steps) == 0


def test_two_points_are_found_again_but_not_without_the_divergence():
    points, sampler = [[0.02, 0.38, 0.6], [0.4, 0.5, 0.1]], SAMPLERS.build("euler-maruyama")
    assert distance(sampler, WrightFisher(), points, 40, 1000) < 0.025
    assert distance(sampler, without_divergence(WrightFisher)(), points, 40, 1000) > 0.04


@pytest.mark.parametrize("parts", [3, 30])
@pytest.mark.parametrize("tau", [0.006, 0.0199, 0.0201, 0.1, 1.0])
@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_the_series_is_the_sum_of_its_terms(parts, tau, alpha):
    """Against products of polynomials, coefficient by coefficient. No term is negative, so none cancel. Counts are the slope."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand((6, parts), generator=generator, dtype=torch.float64) + 0.1
    start[1:3] = torch.where(start[1:3] < 0.6, 0.0, start[1:3])
    start = start / start.sum(-1, keepdim=True)
    x = WrightFisher().decode(WrightFisher(alpha=alpha, speed=1.0, start=1.0).perturb(start, torch.tensor(tau).double(), Noise.seeded(0)))
    near = 2 * angle(x, start)[:, 0] < 6 * math.sqrt(tau)
    assert near.any()
    x, start, times = x[near], start[near], torch.full((int(near.sum()),), tau, dtype=torch.float64)
    expected = torch.tensor([_series(*rows, alpha, tau) for rows in zip(x, start, strict=True)], dtype=torch.float64)
    assert torch.allclose(log_density(x, start, alpha, times), expected, rtol=0, atol=1e-11)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(log_density(leaf, start, alpha, times).sum(), leaf)
    assert torch.allclose(alpha - 1 + descendants(x, start, alpha, times), x * slope, rtol=1e-9, atol=1e-9)
    density, counts = density_and_descendants(x, start, alpha, times)
    assert torch.allclose(density, expected, rtol=0, atol=1e-11)
    assert torch.equal(counts, descendants(x, start, alpha, times))


def _series(x: torch.Tensor, start: torch.Tensor, alpha: float, tau: float) -> float:
    """`log p` of one row, by the terms of its series."""
    theta, n = alpha * len(x), torch.arange(int(2 / tau + 9 / math.sqrt(tau)) + 16, dtype=torch.float64)
    radius = torch.tensor(2 / tau * (2 / tau + theta / 2), dtype=torch.float64)
    factors = torch.xlogy(n, radius * (x * start).unsqueeze(-1)) - torch.lgamma(n + 1) - torch.lgamma(alpha + n) + math.lgamma(alpha)
    product, log = np.ones(1), 0.0
    for factor in factors.exp().numpy():
        product = np.convolve(product, factor)[: len(n)]
        log += math.log(product.max())
        product /= product.max()
    q = lines(torch.tensor([tau], dtype=torch.float64), theta, len(n))[0].clamp_min(0)
    weights = q.log() + torch.lgamma(theta + n) + torch.lgamma(n + 1) - torch.xlogy(n, radius)
    terms = weights + torch.from_numpy(product).log()
    return float(terms.logsumexp(0)) + log - len(x) * math.lgamma(alpha) + float((alpha - 1) * x.log().sum())
