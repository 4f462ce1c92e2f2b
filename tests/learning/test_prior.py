"""The fitted prior is the Gaussian with the first two moments of `p(z_1)`."""

import pytest
import torch
from torch import nn

from sdezoo.conformance.bank.noise_doubles import Still, keyed
from sdezoo.learning import prior as module
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.prior import FittedPrior, measure
from sdezoo.process.noise import Noise
from sdezoo.zoo.registry import SDES
from tests.analytic import AFFINE_SPECS, at

LIKE = torch.empty((), dtype=torch.float64)


def data(count, size=5):
    generator = torch.Generator().manual_seed(3)
    mix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.randn(count, size, generator=generator, dtype=torch.float64) @ mix + torch.arange(size)


def law(prior, sde, event):
    """Mean and covariance of a draw, exactly: it is affine in its white noise."""
    size = torch.Size(event).numel()
    mean = prior.draw(sde, (1, *event), Still(0.0), LIKE).flatten()
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *event)
    root = prior.draw(sde, (size, *event), Still(basis), LIKE).flatten(1) - mean
    return mean, root.T @ root


def expected(sde, mean, covariance):
    k = sde.coefficients(at(sde.t_span[1]))
    return k.alpha * mean + k.shift, k.alpha**2 * covariance + k.variance * torch.eye(len(mean))


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_full_prior_has_mean_and_covariance_of_the_noised_data(spec):
    sde, z = SDES.build(spec), data(300)
    mean, covariance = law(FittedPrior.fit(z), sde, (5,))
    for found, wanted in zip((mean, covariance), expected(sde, z.mean(0), torch.cov(z.T)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_fewer_rows_than_dimensions():
    sde, z = SDES.build("gbm"), data(3)
    for found, wanted in zip(law(FittedPrior.fit(z), sde, (5,)), expected(sde, z.mean(0), torch.cov(z.T)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_low_rank_keeps_leading_directions_and_total_variance(monkeypatch):
    monkeypatch.setattr(module, "_FULL_UP_TO", 4)
    monkeypatch.setattr(module, "_LEADING", 2)
    sde, z = SDES.build("gbm"), data(300)
    values, vectors = torch.linalg.eigh(torch.cov(z.T))
    values[:3] = values[:3].mean()
    wanted = expected(sde, z.mean(0), vectors @ torch.diag(values) @ vectors.T)
    prior = FittedPrior.fit(z)
    assert prior.directions.shape == (2, 5)
    for found, want in zip(law(prior, sde, (5,)), wanted, strict=True):
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


def test_many_rows_are_thinned_without_bias(monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 1000)
    sde, z = SDES.build("gbm"), data(20_000)
    mean, covariance = law(FittedPrior.fit(z), sde, (5,))
    wanted, cov = expected(sde, z.mean(0), torch.cov(z.T))
    torch.testing.assert_close(mean, wanted, rtol=1e-5, atol=1e-5)
    assert (covariance - cov).norm() < 0.15 * cov.norm()


@pytest.mark.parametrize(("shape", "axes"), [((300, 5), (0,)), ((300, 2, 3, 4), (0, 2, 3))], ids=["columns", "channels"])
def test_white_prior_is_one_mean_and_variance_a_column_or_channel(shape, axes):
    sde = SDES.build("gbm")
    z = data(shape[0], torch.Size(shape[1:]).numel()).reshape(shape)
    full = torch.zeros(shape[1:], dtype=torch.float64)
    mean = (z.mean(axes, keepdim=True)[0] + full).flatten()
    variance = (z.var(axes, keepdim=True)[0] + full).flatten()
    for found, wanted in zip(law(FittedPrior.fit(z, "white"), sde, shape[1:]), expected(sde, mean, torch.diag(variance)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_images_keep_their_covariance():
    sde, z = SDES.build("gbm"), data(300, 24).reshape(300, 2, 3, 4)
    wanted = expected(sde, z.flatten(1).mean(0), torch.cov(z.flatten(1).T))
    for found, want in zip(law(FittedPrior.fit(z), sde, (2, 3, 4)), wanted, strict=True):
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["full", "white"])
def test_draws_follow_the_law(kind):
    sde, z = SDES.build("gbm"), data(300)
    prior = FittedPrior.fit(z, kind)
    mean, covariance = law(prior, sde, (5,))
    drawn = prior.draw(sde, (20_000, 5), Noise.seeded(0), LIKE)
    standard = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (drawn - mean).T, upper=False).T
    assert standard.mean(0).abs().max() < 4.5 / 20_000**0.5
    assert (torch.cov(standard.T) - torch.eye(5)).abs().max() < 4.5 * (2 / 20_000) ** 0.5


def test_a_draw_keeps_dtype_and_does_not_depend_on_the_batch():
    sde = SDES.build("gbm")
    for kind in ("full", "white"):
        prior = FittedPrior.fit(data(300), kind)
        whole = prior.draw(sde, (6, 5), keyed(6), torch.empty(()))
        assert whole.dtype == torch.float32
        torch.testing.assert_close(prior.draw(sde, (2, 5), keyed(2, first=4), torch.empty(())), whole[4:], rtol=1e-5, atol=1e-5)


def test_moments_of_constant_columns_stay_finite():
    z = torch.stack([torch.full((10,), 3.0), torch.arange(10.0)], 1)
    mean, std = measure(z)
    assert mean.tolist() == [3, 4.5]
    assert std[0] == 1
    assert std[1] == pytest.approx(float(z[:, 1].std()))
    assert torch.isfinite(FittedPrior.fit(z, "white").draw(SDES.build("gbm"), (4, 2), keyed(4), torch.empty(()))).all()


@pytest.mark.parametrize("prior", ["full", "white", "process"])
def test_state_dict_carries_moments_and_prior(prior):
    sde = SDES.build("gbm")
    x0 = data(300).exp()

    def model(rows):
        return ScoreModel.for_data(sde, nn.Linear(5, 5), rows, prior=prior)

    torch.manual_seed(0)
    trained, blank = model(x0), model(x0**2)
    blank.load_state_dict(trained.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(trained.state_dict().values(), blank.state_dict().values(), strict=True))
    assert torch.equal(trained.prior((4, 5), keyed(4), LIKE), blank.prior((4, 5), keyed(4), LIKE))
    assert torch.equal(trained.mean, measure(x0.log()).mean)
    assert ("fitted.directions" in trained.state_dict()) == (prior != "process")
    if prior == "process":
        assert torch.equal(trained.prior((4, 5), keyed(4), LIKE), sde.prior((4, 5), keyed(4), LIKE))
