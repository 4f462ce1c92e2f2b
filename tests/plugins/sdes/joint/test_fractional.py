"""Fractional diffusion: its weights, its covariance against an integrator and simulation, its memory, and samples of exact scores."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from sdezoo.conformance.bank.problems import Atoms
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.process.noise import Noise
from sdezoo.process.sde import ForwardSDE
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.registry import LOSSES, SAMPLERS, SDES
from sdezoo_plugins.sdes.joint.fractional import weights
from tests.analytic import SIGMAS, at

WIDE = torch.empty((), dtype=torch.float64)


def integrated(sde, t):
    """The covariance by an integrator, from the equation of all its entries at once."""
    gamma, omega = (part.numpy() for part in sde._rates)
    count = sde.count

    def rate(u, p):
        p, f = p.reshape(1 + count, 1 + count), np.zeros((1 + count, 1 + count))
        mu, g = (float(k) for k in sde._coefficients(at(u)))
        f[0, 0], f[0, 1:], f[1:, 1:] = mu, -g * omega * gamma, -np.diag(gamma)
        noise = np.append(g * omega.sum(), np.ones(count))
        return (f @ p + p @ f.T + np.outer(noise, noise)).ravel()

    begin = np.diag(np.append(0.0, np.full(count, sde.start)))
    return solve_ivp(rate, (0, t), begin.ravel(), method="DOP853", rtol=1e-11, atol=1e-14).y[:, -1].reshape(1 + count, -1)


@pytest.mark.parametrize("spec", ["count=1", "count=3", "count=5,hurst=0.2", "count=2,kind=fve", "count=4,kind=fve,hurst=0.3"])
@pytest.mark.parametrize("t", [1e-3, 0.07, 1.0])
def test_the_covariance_solves_its_equation(spec, t):
    sde = SDES.build(f"fractional:{spec}")
    expected = integrated(sde, t)
    unit = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(sde._covariance(at(t))[0].numpy() / unit, expected / unit, atol=1e-8)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_the_noise_ends_where_it_should(count):
    assert float(SDES.build(f"fractional:count={count}")._covariance(at(1.0))[0, 0, 0]) == pytest.approx(1)
    assert float(SDES.build(f"fractional:count={count},kind=fve,sigma_max=30")._covariance(at(1.0))[0, 0, 0]) == pytest.approx(900)


def test_half_is_brownian_motion():
    assert [float(weights(0.5, count)[1].sum()) for count in (3, 4, 5)] == pytest.approx([1, 1, 1], abs=2e-3)


def test_three_processes_have_the_variance_of_fractional_brownian_motion():
    """Type II: `Var B_t = t^{2H}/(2H Γ(H + ½)²)`."""
    hurst = 0.9
    gamma, omega = weights(hurst, 3)
    total = gamma[:, None] + gamma
    for t in (0.5, 0.75, 1.0):
        found = float(omega @ (-torch.expm1(-total * t) / total) @ omega)
        assert found == pytest.approx(t ** (2 * hurst) / (2 * hurst * math.gamma(hurst + 0.5) ** 2), rel=1e-2)


@pytest.mark.parametrize("count", [2, 3])
def test_draws_are_those_of_the_equation(count):
    sde, x0 = SDES.build(f"fractional:count={count}"), torch.full((20_000, 1), 0.8, dtype=torch.float64)
    simulated = ForwardSDE.perturb(sde, x0, at(0.5), Noise.seeded(0))[..., 0]
    exact = sde._covariance(at(0.5))[0]
    assert (simulated.T.cov() - exact).abs().max().item() < 0.012 + SIGMAS * float(exact.diagonal().max()) * math.sqrt(2 / len(x0))
    drawn = sde.perturb(x0, at(0.5), Noise.seeded(1))[..., 0]
    assert (drawn.T.cov() - exact).abs().max().item() < SIGMAS * float(exact.diagonal().max()) * math.sqrt(2 / len(x0))


@pytest.mark.parametrize(("sampler", "count"), [("euler-maruyama", 1), ("euler-maruyama", 3)])
def test_two_points_are_found_again(sampler, count):
    points, rows = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 1000
    x = SAMPLERS.build(sampler).sample(Atoms(SDES.build(f"fractional:count={count}"), points), (rows, 1), 200, like=WIDE)
    assert (x - x.sign()).abs().mean().item() < 0.05
    assert (x > 0).double().mean().item() == pytest.approx(0.5, abs=SIGMAS * 0.5 / math.sqrt(rows))


def test_an_error_in_the_score_counts_about_once():
    """The error in `y` is `η` times that in `x`, and its weight takes that back: the loss is between 1 and 2 times the error in `x`."""
    sde = SDES.build("fractional:count=5,kind=fve")
    z = torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.linspace(*sde.t_span, 4, dtype=torch.float64)[:, None, None]
    one = torch.ones(4, 2, dtype=torch.float64)
    error = sde.score_from_output(one, z, t) - sde.score_from_output(0 * one, z, t)
    weighed = (sde.score_error_weighting(z, t) * error**2).sum(1)
    assert ((weighed >= 1) & (weighed <= 2)).all()
    assert (error**2).sum(1).max() > 1e4


def test_what_fits_and_what_is_refused():
    sde = SDES.build("fractional")
    assert LOSSES.build("hsm").refuses(sde) is None
    assert sde.network_input_shape((3, 8, 8)) == (3, 8, 8)
    with pytest.raises(ParameterError, match="with count=3 the covariance"):
        SDES.build("fractional:start=0")
    for wrong in ("hurst=0", "hurst=1", "count=6", "beta_min=30"):
        with pytest.raises(ParameterError):
            SDES.build(f"fractional:{wrong}")
    with pytest.raises(CompositionError, match="holds more than the data"):
        sde.log_abs_det(torch.zeros(1, 4, 1), torch.zeros(1, 1))


def test_a_table_is_trained_and_sampled_in_float64(tmp_path):
    train(TrainingConfig(sde="fractional:count=2", loss="hsm", data="wine", steps=3, out=str(tmp_path / "run")))
    made = sample(tmp_path / "run", tmp_path / "a.csv", n=8, steps=5, sampler="euler-maruyama", precision="float64")
    assert made is not None
    with pytest.raises(ParameterError, match="drawn in float32"):
        sample(tmp_path / "run", tmp_path / "b.csv", n=2, precision="float64", given=["alcohol=13"])
