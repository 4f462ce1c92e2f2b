"""What follows from `z_t = α z_0 + m + σ ε`, for every affine process that is registered."""

import math
from itertools import pairwise

import pytest
import torch

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional
from sdezoo.zoo.registry import SDES
from tests.analytic import AFFINE_SPECS, assert_moments, at, coordinates, times

pytestmark = pytest.mark.parametrize("spec", AFFINE_SPECS)


@pytest.fixture
def sde(spec: str) -> AffineSDE:
    return SDES.build(spec)


def test_conditional_score_is_the_gradient_of_log_prob(sde):
    t = times(sde, 16)
    x0 = sde.decode(coordinates(16, 3))
    z = sde.perturb(x0, t, Noise.seeded(0))
    torch.testing.assert_close(sde.score(z, x0, t), Conditional.score(sde, z, x0, t), rtol=1e-9, atol=1e-9)


def test_conditional_score_needs_no_grad_mode(sde):
    x0 = sde.decode(coordinates(2, 3))
    with torch.inference_mode():
        z = sde.perturb(x0, at(0.5), Noise.seeded(0))
        torch.testing.assert_close(Conditional.score(sde, z, x0, at(0.5)), sde.score(z, x0, at(0.5)))


def test_density_integrates_to_one(sde):
    x0, t = sde.decode(coordinates(1, 1)), at(0.4)
    k = sde.coefficients(t)
    centre = k.alpha * sde.encode(x0) + k.shift
    z = centre + k.sigma * torch.linspace(-9, 9, 20_001, dtype=torch.float64)[:, None]
    assert torch.trapezoid(sde.log_prob(z, x0, t).exp().flatten(), z.flatten()).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_time_zero_is_the_data_exactly(sde, dtype):
    x0 = sde.decode(coordinates(5, 5).to(dtype))
    for t in (at(0.0), torch.zeros(5, 1, dtype=torch.float64)):
        assert torch.equal(sde.perturb(x0, t, keyed(5)), sde.encode(x0))


def test_encode_inverts_decode(sde):
    z = coordinates(50, 3)
    x = sde.decode(z)
    assert sde.support.check(x).all()
    torch.testing.assert_close(sde.encode(x), z, rtol=1e-12, atol=1e-12)


def test_rates_are_those_of_the_moments(sde):
    """`α' = r α`, `m' = r m + c`, `v' = 2 r v + g²`, by central differences."""
    h = 1e-5
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    (a0, m0, v0), (a1, m1, v1), k = sde.coefficients(t - h), sde.coefficients(t + h), sde.coefficients(t)
    r, c, g2 = sde.rates(t)
    torch.testing.assert_close((a1 - a0) / (2 * h), r * k.alpha, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close((m1 - m0) / (2 * h), r * k.shift + c, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close((v1 - v0) / (2 * h), 2 * r * k.variance + g2, rtol=1e-6, atol=1e-8)
    assert (g2 > 0).all()


@pytest.mark.slow  # as the laws moments-solve-the-sde and draws-agree-with-paths, by another way
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_moments_are_those_of_a_simulation(sde, share):
    """Forward Euler–Maruyama with the process's own drift and diffusion: the bias of 400 steps is below 2 %.

    Steps get shorter towards the end, where some processes are nearly singular.
    """
    count, steps, noise, end = 20_000, 400, Noise.seeded(1), share * sde.t_span[1]
    grid = end * (1 - torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** 2)
    x0 = sde.decode(torch.full((count, 1), 0.7, dtype=torch.float64))
    k = sde.coefficients(at(end))
    mean, deviation = k.alpha * sde.encode(x0)[0] + k.shift, k.sigma
    z = sde.encode(x0)
    for t, s in pairwise(grid.unbind()):
        z = sde.forward_step(z, t, s - t, noise)
    assert_moments(z, mean, deviation, bias=0.02)
    assert_moments(sde.perturb(x0, at(end), noise), mean, deviation)


def test_chapman_kolmogorov(sde):
    """`p(z_s | z_t, z_0)` is Bayes' rule on `p(z_s | z_0) p(z_t | z_s)`, and averages to `p(z_s | z_0)`."""
    z0, z = coordinates(20, 2), coordinates(20, 2, seed=1)
    lo, hi = sde.t_span
    for s, t in ((lo, 0.3), (0.3, 0.31), (0.3, hi)):
        p, q = sde.coefficients(at(t)), sde.coefficients(at(s))
        alpha = p.alpha / q.alpha
        shift, variance = p.shift - alpha * q.shift, p.variance - alpha**2 * q.variance
        assert variance > 0
        precision = 1 / q.variance + alpha**2 / variance
        mean = ((q.alpha * z0 + q.shift) / q.variance + alpha * (z - shift) / variance) / precision
        found, spread = sde.posterior(z, z0, at(t), at(s))
        torch.testing.assert_close(found, mean, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(spread, 1 / precision, rtol=1e-8, atol=0)
        at_mean, _ = sde.posterior(p.alpha * z0 + p.shift, z0, at(t), at(s))
        torch.testing.assert_close(at_mean, q.alpha * z0 + q.shift, rtol=1e-9, atol=1e-12)
        gain = alpha * q.variance / p.variance
        torch.testing.assert_close(spread + gain**2 * p.variance, q.variance, rtol=1e-9, atol=0)


def test_posterior_at_time_zero_is_the_data(sde):
    z0, z = coordinates(4, 2), coordinates(4, 2, seed=1)
    mean, variance = sde.posterior(z, z0, at(0.5), at(0.0))
    assert torch.equal(mean, z0)
    assert float(variance) == 0


def test_time_at_inverts_the_ratio(sde):
    t = torch.linspace(*sde.t_span, 200, dtype=torch.float64)
    ratio = sde.coefficients(t).ratio
    assert (ratio.diff() > 0).all()
    torch.testing.assert_close(sde.time_at(ratio), t, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(sde.time_at(ratio[:, None]), t[:, None], rtol=1e-9, atol=1e-12)
    ends = sde.time_at(torch.tensor([1e-30, 1e30], dtype=torch.float64))
    assert ends.tolist() == pytest.approx(list(sde.t_span))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("column", [False, True], ids=["0-dim", "(B, 1)"])
def test_dtype_of_the_state_is_kept(sde, dtype, column):
    t = torch.full((3, 1), 0.5, dtype=torch.float64) if column else at(0.5)
    s = t / 2
    x0 = sde.decode(coordinates(3, 2).to(dtype))
    z = sde.perturb(x0, t, keyed(3))
    ambient, x = sde.ambient(), sde.decode(z)
    results = [z, x, sde.drift(z, t), z + sde.diffusion(z, t), sde.divergence(z, t), sde.score(z, x0, t), sde.log_prob(z, x0, t)]
    results += [z * c for c in sde.at(t, z)] + [sde.reverse_drift(z, t, z), sde.posterior(z, z, t, s)[0], z + sde.posterior(z, z, t, s)[1]]
    results += [sde.prior((3, 2), keyed(3), z), ambient.prior((3, 2), keyed(3), z), ambient.perturb(x0, t, keyed(3))]
    results += [ambient.drift(x, t), x + ambient.diffusion(x, t), ambient.divergence(x, t), ambient.reverse_drift(x, t, x)]
    results += [sde.forward_step(z, t, t / 10, keyed(3)), ambient.forward_step(x, t, t / 10, keyed(3))]
    assert {r.dtype for r in results} == {dtype}
    assert {tuple(r.shape) for r in results} == {(3, 2)}


def test_rows_do_not_mix_when_batch_and_event_are_equally_large(sde):
    """`(B,)` against `(B, 1)` broadcasts silently when `B = d`."""
    n = 4
    x0, t = sde.decode(coordinates(n, n)), times(sde, n)
    z = sde.perturb(x0, t, keyed(n))

    def everything(z, x0, t, rows):
        ambient, x = sde.ambient(), sde.decode(z)
        mean, variance = sde.posterior(z, sde.encode(x0), t, t / 2)
        yield from (sde.perturb(x0, t, rows), sde.score(z, x0, t), sde.log_prob(z, x0, t), sde.drift(z, t), z + sde.diffusion(z, t))
        yield from (mean, z + variance, ambient.drift(x, t), ambient.diffusion(x, t), ambient.divergence(x, t))

    whole = list(everything(z, x0, t, keyed(n)))
    for i in range(n):
        row = slice(i, i + 1)
        for a, b in zip(whole, everything(z[row], x0[row], t[row], keyed(1, first=i)), strict=True):
            torch.testing.assert_close(a[row], b, rtol=1e-12, atol=1e-12)


def test_adapted_swamps_the_data(sde, spec):
    """A process that takes its scale from the data ends at four times their leading principal standard deviation, or at their own law.

    Processes with coordinates take it from columns of mean 0 and deviation 1. Others stay.
    """
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    z0 = torch.randn(500, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.1]) @ turn
    u0 = z0 + 0.3
    x0 = sde.decode(u0)
    adapted = sde.adapted(x0)
    assert adapted.adapted(10 * x0) == adapted
    if adapted == sde:
        assert ":" in spec or None not in sde.parameters().values()
        return
    assert SDES.build(adapted.spec) == adapted
    if adapted.column_spread.ndim:
        u0 = (u0 - u0.mean(0)) / u0.std(0)
        torch.testing.assert_close(adapted.encode(x0), u0, rtol=1e-9, atol=1e-12)
    if spec == "exp-ou":
        assert (adapted.parameters()["mean"], adapted.parameters()["sigma"]) == (0, 1)
        return
    leading = math.sqrt(torch.linalg.eigvalsh(torch.cov(u0.T))[-1])
    assert math.sqrt(adapted.coefficients(at(1.0)).variance) == pytest.approx(4 * leading, rel=1e-3)  # ve: √(σ_max² − σ_min²)


def test_prior_is_the_terminal_law_of_data_at_the_origin(sde):
    k = sde.coefficients(at(sde.t_span[1]))
    z = sde.prior((20_000, 1), Noise.seeded(0), torch.empty(()))
    assert_moments(z, k.shift, k.sigma)


def test_rates_are_kept_where_no_derivative_is_taken(spec):
    """Those of an equal time are the same tensors, and gradients pass though sampling asked first. A time that is differentiated varies."""
    sde, at = SDES.build(spec), torch.tensor(0.37, dtype=torch.float64)
    with torch.inference_mode():
        first = sde.rates(at.clone())
    assert all(one is other for one, other in zip(first, sde.rates(at.clone()), strict=True))
    z = torch.ones(3, dtype=torch.float64, requires_grad=True)
    sde.reverse_drift(z, at, z * z).sum().backward()
    assert z.grad is not None
    t = at.clone().requires_grad_()
    slope = torch.autograd.grad(sde.rates(t)[2].sum(), t, allow_unused=True)[0]
    wanted = torch.func.jvp(lambda u: sde.rates(u)[2].sum(), (at,), (torch.ones_like(at),))[1]
    torch.testing.assert_close(torch.zeros_like(wanted) if slope is None else slope, wanted)


def test_rates_follow_a_time_that_is_written_to_in_place(spec):
    sde = SDES.build(spec)
    t = torch.tensor(0.2, dtype=torch.float64)
    early = sde.rates(t)[2].clone()
    assert sde.rates(t)[2] == early
    t += 0.3
    assert sde.rates(t)[2] == sde.rates(torch.tensor(0.5, dtype=torch.float64))[2]
