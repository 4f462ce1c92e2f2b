"""Measured orders of convergence on the probability flow, in float64."""

from functools import cache

import pytest
import torch

from sdezoo.conformance.bank.noise_doubles import Still
from sdezoo.conformance.bank.problems import Mixture, gaussian
from sdezoo.sampling.start import AtRows
from sdezoo.zoo.registry import SAMPLERS, SDES
from tests.analytic import AFFINE_SPECS, at, coordinates

LIKE = torch.empty((), dtype=torch.float64)
ORDERS = {"ddim": 1, "heun": 2, "dpmpp-2m": 2}


def at_lo(spec, model, start, steps):
    """The state at `t = lo` after `steps` steps, before the noise-free last one."""
    seen = []
    sampler = SAMPLERS.build(spec)
    sampler.sample(model, start.shape, steps + 1, start=AtRows(start), like=LIKE, callback=lambda k, z, t: seen.append(z))
    return seen[-2]


@cache
def mixture(spec):
    """A bimodal problem, where to start, and where a fine grid ends."""
    sde = SDES.build(spec)
    model = Mixture(sde, torch.tensor([[-0.8], [0.9]]), 0.5)
    start = sde.decode(torch.linspace(-1.5, 1.5, 30, dtype=torch.float64)[:, None])
    return model, start, at_lo("dpmpp-2m:spacing=log-snr", model, start, 1000)


def slope(errors):
    return torch.tensor([float(e) for e in errors]).log2().diff().mean().neg().item()


@pytest.mark.parametrize("spec", AFFINE_SPECS)
@pytest.mark.parametrize("sampler", ORDERS)
def test_order_on_normal_coordinates(sampler, spec):
    """The flow of a normal law keeps `(z − mean_t)/sd_t`, so the exact end is known."""
    sde = SDES.build(spec)
    model = gaussian(sde)
    lo, hi = sde.t_span
    (m1, v1), (m0, v0) = (model.components(LIKE, at(t)) for t in (hi, lo))
    z = m1 + v1.sqrt() * coordinates(20, 2)
    exact = m0 + (v0 / v1).sqrt() * (z - m1)
    errors = [(at_lo(f"{sampler}:spacing=log-snr", model, sde.decode(z), n) - exact).abs().max() for n in (40, 80, 160)]
    assert slope(errors) == pytest.approx(ORDERS[sampler], abs=0.3)


@pytest.mark.parametrize("spec", ["gbm:sigma=0.8", "vp"])
@pytest.mark.parametrize("sampler", ORDERS)
def test_order_on_a_mixture(sampler, spec):
    """Against a fine grid, which every method has to agree with."""
    model, start, exact = mixture(spec)
    errors = [(at_lo(f"{sampler}:spacing=log-snr", model, start, n) - exact).abs().mean() for n in (40, 80, 160)]
    assert slope(errors) == pytest.approx(ORDERS[sampler], abs=0.3)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_ancestral_is_ddim_with_all_its_noise(spec):
    """The same mean and standard deviation in any one step."""
    sde = SDES.build(spec)
    model = gaussian(sde)
    z = coordinates(5, 2)
    for t, s in ((sde.t_span[1], 0.6), (0.5, 0.499), (0.3, sde.t_span[0]), (sde.t_span[0], 0.0)):
        laws = []
        for name in ("ancestral", "ddim:eta=1"):
            mean, one = (SAMPLERS.build(name).step(model, z, at(t), at(s), Still(value), None)[0] for value in (0.0, 1.0))
            laws.append((mean, one - mean))
        torch.testing.assert_close(laws[0], laws[1], rtol=1e-8, atol=1e-10)
        expected = sde.posterior(z, model.denoise(z, at(t)), at(t), at(s))
        torch.testing.assert_close(laws[0][0], expected[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(laws[0][1][0, 0] ** 2, expected[1], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_ddim_keeps_the_marginal_at_every_eta(spec):
    """Given `z_0`, a step from `N(α_t z_0 + m_t, v_t)` ends in `N(α_s z_0 + m_s, v_s)`, whatever part of the noise is drawn afresh."""
    sde = SDES.build(spec)
    model = Mixture(sde, torch.tensor([[0.3]]), 1e-9)  # all data at 0.3: the denoiser is exact
    p, q = sde.coefficients(at(0.7)), sde.coefficients(at(0.4))
    for eta in (0.0, 0.5, 1.0):
        step = SAMPLERS.build(f"ddim:eta={eta}").step
        ends = [
            step(model, (p.alpha * 0.3 + p.shift + p.sigma * e).reshape(1, 1), at(0.7), at(0.4), Still(n), None)[0]
            for e, n in ((0, 0), (1, 0), (0, 1))
        ]
        torch.testing.assert_close(ends[0].squeeze(), q.alpha * 0.3 + q.shift, rtol=1e-6, atol=1e-6)
        variance = sum((end - ends[0]) ** 2 for end in ends[1:])
        torch.testing.assert_close(variance.squeeze(), q.variance, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_exponential_integrators_are_exact_when_the_data_are_one_point(spec):
    """The denoiser is constant, so nothing is left to approximate, in one step or in ten."""
    sde = SDES.build(spec)
    model = Mixture(sde, torch.tensor([[0.3, -0.2]]), 1e-9)
    for name in ("ddim", "dpmpp-2m", "ancestral"):
        for steps in (1, 2, 10):
            x = SAMPLERS.build(name).sample(model, (3, 2), steps, like=LIKE)
            torch.testing.assert_close(sde.encode(x), model.means.expand(3, 2), rtol=1e-6, atol=1e-6)
