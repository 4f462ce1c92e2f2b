"""Heston: moments, a European call against its characteristic function, positivity, and what is refused."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from sdezoo import DataError, ParameterError, paths
from sdezoo_plugins.sdes.joint.heston import Heston

MU, KAPPA, THETA, XI, RHO, V0 = 0.03, 2.0, 0.04, 0.3, -0.7, 0.06
MODEL = Heston(MU, KAPPA, THETA, XI, RHO)


def characteristic(u, spot, t):
    """`E e^{iu log S_t}`, in the form without a branch cut (Albrecher et al. 2007)."""
    b = KAPPA - RHO * XI * 1j * u
    d = np.sqrt(b**2 + XI**2 * (1j * u + u**2))
    g, decay = (b - d) / (b + d), np.exp(-d * t)
    c = MU * 1j * u * t + KAPPA * THETA / XI**2 * ((b - d) * t - 2 * np.log((1 - g * decay) / (1 - g)))
    return np.exp(c + (b - d) / XI**2 * (1 - decay) / (1 - g * decay) * V0 + 1j * u * math.log(spot))


def call(spot, strike, t):
    def share(tilt):
        def integrand(u):
            return (
                np.exp(-1j * u * math.log(strike)) * characteristic(u - tilt * 1j, spot, t) / characteristic(-tilt * 1j, spot, t) / (1j * u)
            ).real

        return 0.5 + quad(integrand, 1e-9, 200)[0] / math.pi

    return spot * share(1) - strike * math.exp(-MU * t) * share(0)


@pytest.fixture(scope="module")
def made():
    return paths(MODEL, [100.0, V0], steps=2, n=6000, horizon=1.0, substeps=4)


def off(values, expected):
    return abs(float(values.mean()) - expected) / (float(values.std()) / math.sqrt(len(values)))


@pytest.mark.parametrize("strike", [85.0, 100.0, 115.0])
def test_a_european_call_costs_what_its_characteristic_function_says(made, strike):
    payoff = math.exp(-MU) * (made.x[:, -1, 0] - strike).clamp_min(0)
    assert off(payoff, call(100.0, strike, 1.0)) < 3


def test_prices_are_a_martingale_and_variances_have_their_moments(made):
    assert off(made.x[:, -1, 0], 100 * math.exp(MU)) < 3.5
    v, decay = made.x[:, -1, 1], math.exp(-KAPPA)
    assert off(v, THETA + (V0 - THETA) * decay) < 3.5
    variance = V0 * XI**2 / KAPPA * (decay - decay**2) + THETA * XI**2 / (2 * KAPPA) * (1 - decay) ** 2
    assert off((v - v.mean()) ** 2, variance) < 3.5


def test_returns_and_changes_of_variance_are_correlated():
    step = paths(MODEL, [100.0, V0], steps=1, n=4000, horizon=0.01, substeps=1).x
    found = np.corrcoef(step[:, 1, 0].log().numpy(), step[:, 1, 1].numpy())[0, 1]
    assert abs(found - RHO) < 4 * (1 - RHO**2) / math.sqrt(4000) + 0.01


def test_the_variance_stays_positive_where_it_can_reach_zero():
    """`2κθ` far below `ξ²`."""
    wild = Heston(0.0, 1.0, 0.04, 1.0, -0.9, (1.0, 0.04))
    made = paths(wild, [1.0, 0.04], steps=4, n=300, horizon=2.0, substeps=3)
    assert not made.exact
    assert "exact variance" in made.scheme
    assert (made.x > 0).all()
    assert made.x.isfinite().all()


@pytest.mark.parametrize("rho", [1.0001, -2.0, float("nan")])
def test_a_correlation_outside_its_range_is_refused(rho):
    with pytest.raises(ParameterError, match="rho"):
        Heston(rho=rho)


def test_a_row_is_a_price_and_a_variance():
    for x0, words in (([100.0], "takes rows of 2 numbers, and x0 has 1"), ([100.0, -0.1], "support")):
        with pytest.raises(DataError, match=words):
            paths(MODEL, x0)


def test_the_noise_has_the_stated_covariance():
    z = torch.tensor([[0.1, 0.05]], dtype=torch.float64)
    columns = MODEL.columns(z, torch.zeros(()))[:, 0].T
    shared = RHO * XI
    torch.testing.assert_close(columns @ columns.T, 0.05 * torch.tensor([[1.0, shared], [shared, XI**2]], dtype=torch.float64))
