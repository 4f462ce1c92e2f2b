"""Every column its own scale: noise in proportion to its spread, one clock, no digit lost, constants exact."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.distributions import ExpTransform, SigmoidTransform, StickBreakingTransform

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import gaussian
from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.process.standardized import Standardized, column_moments, standardized
from sdezoo.runs.estimator import DiffusionModel
from sdezoo.sampling.guidance import Inpainting
from sdezoo.sampling.likelihood import log_likelihood
from sdezoo.zoo.registry import SAMPLERS, SDES
from tests.analytic import assert_moments, at

WIDE = torch.float64
CENTER, SPREAD = (3.0, 6.9, -27.6, 2.0), (1.0, 1e-3, 1e-6, 0.0)
SPECS = ["gbm", "exp-ou", "lift", "lift:base=vp", "zero-inflated"]


def normal(count, size, seed=0):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=WIDE)


def table(count=500, dtype=WIDE):
    """Log-normal columns with a spread of 1, 1e-3 and 1e-6, and one that is constant."""
    u = normal(count, 4)
    u = (u - u.mean(0)) / u.std(0)
    return (torch.tensor(CENTER, dtype=WIDE) + torch.tensor(SPREAD, dtype=WIDE) * u).exp().to(dtype)


def test_nothing_given_is_nothing_done():
    phi = ExpTransform()
    assert standardized(phi, None, None) is phi


@pytest.mark.parametrize("phi", [ExpTransform(), SigmoidTransform(), StickBreakingTransform()])
def test_the_map_is_inverted_and_its_volume_is_right(phi):
    whole = standardized(phi, (0.3, -1.0), (0.5, 2.0))
    z = normal(6, 2)
    x = whole(z)
    torch.testing.assert_close(x, phi(torch.tensor([0.3, -1.0], dtype=WIDE) + torch.tensor([0.5, 2.0], dtype=WIDE) * z))
    torch.testing.assert_close(whole.inv(x), z)
    found = whole.log_abs_det_jacobian(z, x).reshape(6, -1).sum(1)
    for i in range(6):
        slope = torch.autograd.functional.jacobian(lambda row: whole(row[None])[0], z[i])
        assert float(found[i]) == pytest.approx(float(torch.linalg.det(slope[:2]).abs().log()), rel=1e-9)


def test_float32_states_lose_no_digit_that_the_data_have():
    x = table(dtype=torch.float32)[:, :2]
    phi = standardized(ExpTransform(), CENTER[:2], SPREAD[:2])
    exact = (x.double().log() - torch.tensor(CENTER[:2], dtype=WIDE)) / torch.tensor(SPREAD[:2], dtype=WIDE)
    torch.testing.assert_close(phi.inv(x).double(), exact, rtol=1e-7, atol=1e-9)
    assert float((phi(phi.inv(x)) / x - 1).abs().max()) < 1.2e-7


def test_a_constant_column_is_the_constant_at_every_state():
    phi = Standardized(ExpTransform(), torch.tensor([2.0, 2.0], dtype=WIDE), torch.tensor([0.0, 1.0], dtype=WIDE))
    z = 1e3 * normal(50, 2)
    assert phi(z)[:, 0].unique().tolist() == [pytest.approx(math.exp(2))]
    assert not phi.inv(torch.full((3, 2), 7.0, dtype=WIDE))[:, 0].any()
    assert not phi.bijective


def test_moments_are_measured_unless_they_are_given():
    u = torch.tensor([[1.0, 0.1, 5.0], [3.0, 0.1, 5.0], [5.0, 0.1, 6.0]], dtype=WIDE)
    assert column_moments(u) == ((3.0, 0.1, pytest.approx(16 / 3)), (2.0, 0.0, pytest.approx(3**-0.5)))
    assert column_moments(u, (0.0,), (1.0, 2.0, 3.0)) == ((0.0,), (1.0, 2.0, 3.0))
    with pytest.raises(ParameterError, match="center has 2 numbers for 3 columns"):
        column_moments(u, (1.0, 2.0))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dtype", [torch.float32, WIDE])
def test_noise_is_in_proportion_to_the_spread_of_each_column(spec, dtype):
    """`log x_t = c + α (log x_0 − c) + s (m + σ ε)`: in each column the noise is `s_i σ`, with one `σ` for all of them."""
    x0 = table()
    sde = SDES.build(spec).adapted(x0)
    assert sde.adapted(x0) == sde == SDES.build(sde.full_spec)
    t = at(0.01)
    z0 = sde.encode(x0.to(dtype))
    z = sde.perturb(x0.to(dtype), t, keyed(len(x0)))
    x = sde.decode(z).double()
    k = sde.exact(t)
    c, s = (torch.tensor(v, dtype=WIDE) for v in (CENTER, SPREAD))
    added = (x[:, :3].log() - c[:3] - float(k.alpha) * (x0[:, :3].log() - c[:3])) / (s[:3] * float(k.sigma))
    eps = keyed(len(x0)).normal(z0)[:, :3].double()
    few = 2 if dtype is torch.float32 else 3  # float32 does not hold the third column
    torch.testing.assert_close(added[:, :few], eps[:, :few], rtol=1e-3, atol=5e-3)
    assert torch.equal(x[:, 3].to(dtype), x0[:, 3].to(dtype)) or dtype is WIDE
    assert x[:, 3].unique().numel() == 1


@pytest.mark.parametrize("spec", SPECS)
def test_images_keep_one_scale(spec):
    sde = SDES.build(spec).adapted(table()[:, :3].reshape(-1, 1, 1, 3))
    assert sde.parameters()["spread"] is None


def test_a_volatility_that_is_given_is_the_same_for_all_columns():
    for spec in ("gbm:sigma=0.8", "gbm:sigma_end=8", "exp-ou:mean=0,sigma=1", "zero-inflated:sigma_max=3"):
        assert SDES.build(spec).adapted(table()).parameters()["spread"] is None


def test_a_table_of_500_columns_is_written_exactly():
    sde = SDES.build("gbm").adapted(normal(30, 500).exp())
    again = SDES.build(sde.full_spec)
    assert again == sde
    assert hash(again) == hash(sde)
    assert len(again.spread) == 500


@pytest.mark.parametrize("spec", ["gbm", "exp-ou", "lift"])
def test_a_table_of_constants_is_refused(spec):
    with pytest.raises(DataError, match="the same, so the noise"):
        SDES.build(spec).adapted(torch.full((4, 2), 3.0))


@pytest.mark.parametrize("sampler", ["dpmpp-2m", "dale-langevin", "ancestral", "euler-maruyama"])
@pytest.mark.parametrize("dtype", [torch.float32, WIDE])
def test_a_sampler_recovers_each_spread(sampler, dtype):
    """With the exact score of normal coordinates the spread of `log x` in each column is that of the data, a thousandfold apart."""
    sde = SDES.build("gbm").adapted(table())
    model = gaussian(sde, [0.0] * 4, [1.0] * 4)
    x = SAMPLERS.build(sampler).sample(model, (2000, 4), 100, like=torch.empty((), dtype=dtype))
    few = 2 if dtype is torch.float32 else 3
    mean, deviation = (torch.tensor(v[:few], dtype=WIDE) for v in (CENTER, SPREAD))
    assert_moments(x[:, :few].double().log(), mean, deviation, bias=0.03)
    assert x[:, 3].unique().numel() == 1


PLAIN, SCALED = SDES.build("gbm:sigma=0.8"), SDES.build("gbm:sigma=1.6,center=(0.3),spread=(0.5)")
"""One process in two parametrizations."""
MEAN, DEVIATION = [0.5, -0.3], [0.6, 1.1]


def both():
    """One law of the data under both."""
    return gaussian(PLAIN, MEAN, DEVIATION), gaussian(SCALED, [(m - 0.3) / 0.5 for m in MEAN], [d / 0.5 for d in DEVIATION])


@pytest.mark.parametrize("sampler", ["dpmpp-2m", "unipc", "dale-langevin", "multiplicative", "ancestral", "euler-maruyama", "deis"])
def test_samples_do_not_depend_on_the_parametrization(sampler):
    plain, scaled = (SAMPLERS.build(sampler).sample(m, (20, 2), 200, like=torch.empty((), dtype=WIDE)) for m in both())
    torch.testing.assert_close(plain, scaled, rtol=1e-6, atol=1e-9)


def test_scores_and_likelihoods_do_not_depend_on_the_parametrization():
    plain, scaled = both()
    x = normal(5, 2).exp()
    for t in (at(0.1), at(0.7)):
        hyvarinen = [m.hyvarinen(m.sde.encode(x), t) for m in (plain, scaled)]
        torch.testing.assert_close(*hyvarinen)
        torch.testing.assert_close(plain.ambient().score(x, t), scaled.ambient().score(x, t))
        torch.testing.assert_close(x * scaled.ambient().score(x, t), hyvarinen[1])
        for name in ("drift", "diffusion"):
            torch.testing.assert_close(*(getattr(m.sde.ambient(), name)(x, t) for m in (plain, scaled)))
    nats = [log_likelihood(model, x, steps=40, prior=partial(model.log_density, t=at(1.0))) for model in (plain, scaled)]
    torch.testing.assert_close(*nats, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("noise_sd", [0.0, 0.2])
def test_inpainting_does_not_depend_on_the_parametrization(noise_sd):
    known, mask = torch.tensor([2.0, 1.0], dtype=WIDE), torch.tensor([True, False])
    x = [
        SAMPLERS.build("dpmpp-2m").sample(Inpainting(m, known, mask, noise_sd), (20, 2), 20, like=torch.empty((), dtype=WIDE))
        for m in both()
    ]
    torch.testing.assert_close(*x, rtol=1e-6, atol=1e-9)


def test_a_drift_per_column_is_that_of_the_data():
    """`dX_i = μ X_i dt + s_i σ X_i dW`: `E X_t = x_0 e^{μt}` in each column."""
    sde = SDES.build("gbm:sigma=0.5,mu=0.4,center=(1,2),spread=(1,0.1)")
    x0 = torch.tensor([2.0, 9.0], dtype=WIDE).expand(40_000, 2)
    x = sde.decode(sde.perturb(x0, at(1.0), keyed(len(x0))))
    error = x.std(0) / len(x) ** 0.5
    assert ((x.mean(0) - x0[0] * math.exp(0.4)).abs() < 4.5 * error).all()


def test_a_constant_column_has_no_density_and_does_not_move():
    sde = SDES.build("gbm").adapted(table())
    model = gaussian(sde, [0.0] * 4, [1.0] * 4)
    with pytest.raises(CompositionError, match=r"1 of the columns are constant, so the data have no density"):
        log_likelihood(model, table(3))
    ambient, x = sde.ambient(), table(3)
    for t in (at(0.2), at(0.9)):
        assert not ambient.drift(x, t)[:, 3].any()
        assert not ambient.diffusion(x, t)[:, 3].any()
        assert not model.ambient().score(x, t)[:, 3].any()


def test_training_keeps_the_spread_of_each_column():
    """Price beside year and a constant, by default: the year's spread is a thousandth of the price's."""
    rng = np.random.default_rng(0)
    x = np.column_stack([np.exp(rng.normal(3, 1, 1000)), rng.uniform(2015, 2024, 1000), np.full(1000, 7.4606)])
    model = DiffusionModel(net="mlp:width=64,depth=2", steps=400, device="cpu").fit(x)
    samples = model.sample(1000)
    ratio = np.log(samples).std(0)[:2] / np.log(x).std(0)[:2]
    assert (abs(ratio - 1) < 0.15).all(), ratio
    assert (samples[:, 2] == np.float32(7.4606)).all()
