"""The likelihood along the flow is the density, for every process whose density is known."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import LogNormal, MultivariateNormal, Normal, StickBreakingTransform

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import Additive, Mixture, eight, gaussian
from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.learning.model import Model, ScoreModel
from sdezoo.learning.prior import FittedPrior
from sdezoo.process.process import Process
from sdezoo.sampling.likelihood import bits_per_dim, dequantize, estimate, log_likelihood
from sdezoo.zoo.registry import SDES
from tests.analytic import AFFINE_SPECS, POSITIVE_SPECS, at

WIDE = torch.float64
CLOSE = 1e-3
"""Nats for each dimension."""


class Simplex(Additive):
    """Additive noise on the coordinates of a simplex."""

    @property
    def coordinates(self):
        return StickBreakingTransform()


class Exact(Model):
    """A problem that knows the density of its prior."""

    def __init__(self, problem):
        self.problem, self.sde = problem, problem.sde

    def score(self, z, t):
        return self.problem.score(z, t)

    def prior(self, shape, noise, like):
        return self.problem.prior(shape, noise, like)

    def prior_log_prob(self, z):
        return self.problem.log_density(z, at(self.sde.t_span[1]))


class Silent(nn.Module):
    """Returns 0: with the output `edm`, the exact denoiser of the normal law with the model's moments."""

    def forward(self, x, level, condition=None):
        return torch.zeros_like(x)


def of(problem, rows=64):
    """A problem, data from it, and their log-density in closed form."""
    z = problem.clean(rows, seed=1)
    x = problem.sde.decode(z)
    stretch = problem.sde.coordinates.log_abs_det_jacobian(z, x).reshape(rows, -1).sum(1)
    return Exact(problem), x, problem.log_density(z, at(0.0)) - stretch


def assert_close(found, wanted, entries):
    assert found.dtype == WIDE
    assert float((found - wanted).abs().max()) / entries < CLOSE


@pytest.mark.parametrize("problem", [gaussian, eight])
@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_density_of_normal_log_normal_and_mixed_data(spec, problem):
    model, x, wanted = of(problem(SDES.build(spec)))
    assert_close(log_likelihood(model, x), wanted, 2)


def test_log_normal_data_by_torch():
    model = Exact(gaussian(SDES.build("gbm"), [0.5], [0.6]))
    x = torch.linspace(0.1, 8, 40, dtype=WIDE)[:, None]
    assert_close(log_likelihood(model, x), LogNormal(0.5, 0.6).log_prob(x)[:, 0], 1)


def test_density_on_the_simplex():
    """With respect to the entries but the last."""
    model, x, wanted = of(eight(Simplex()))
    assert x.shape == (64, 3)
    assert_close(log_likelihood(model, x), wanted, 2)


@pytest.mark.parametrize("spec", [*POSITIVE_SPECS[:1], "vp"])
def test_a_density_on_the_line_integrates_to_one(spec):
    sde = SDES.build(spec)
    problem = Mixture(sde, torch.tensor([[-0.8], [0.9]]), torch.tensor([[0.35], [0.45]]), torch.tensor([0.6, 0.4]))
    x = sde.decode(torch.linspace(-4, 4, 801, dtype=WIDE)[:, None])
    mass = torch.trapezoid(log_likelihood(Exact(problem), x).exp(), x[:, 0])
    assert float(mass) == pytest.approx(1, abs=1e-3)


def test_the_equation_in_the_data_has_the_same_density():
    """A process that is not affine: the flow in `x`, along `ln t`, its divergence-of-noise term included."""
    model, x, wanted = of(gaussian(SDES.build("gbm:sigma=0.8,mu=0.1")), 16)
    assert_close(log_likelihood(model.ambient(), x, steps=24), wanted, 2)


def test_error_falls_with_the_fourth_power_of_the_steps():
    model, x, wanted = of(gaussian(SDES.build("vp")))
    errors = [float((log_likelihood(model, x, steps=steps) - wanted).abs().mean()) for steps in (24, 48)]
    assert 12 < errors[0] / errors[1] < 20


def test_the_gap_below_lo_is_closed():
    """Components barely wider than the noise at `lo`: the law noised to `lo` has another density."""
    model, x, wanted = of(eight(SDES.build("gbm:sigma=0.8")))
    lo = at(model.sde.t_span[0])
    noised = log_likelihood(model, x, noised=True)
    k = model.sde.exact(lo)
    z = model.sde.encode(x)
    assert_close(noised, model.problem.log_density(k.alpha * z + k.shift, lo) + 2 * k.alpha.log() - z.sum(1), 2)
    assert float((noised - wanted).abs().max()) / 2 > 10 * CLOSE


def test_hutchinson_is_unbiased_and_knows_its_error():
    means = torch.tensor([[-0.8, 0.3, 0.1], [0.9, -0.4, 0.2], [0.0, 0.5, -0.6]])
    model, x, _ = of(Mixture(SDES.build("ve"), means, 0.3), 200)
    exact = estimate(model, x, steps=24)
    assert (exact.standard_error == 0).all()
    found = estimate(model, x, steps=24, divergence="hutchinson", probes=16)
    error, claimed = found.nats - exact.nats, found.standard_error
    assert float(claimed.median()) > 1e-3
    # Squared, what is claimed is unbiased; as a ratio it is not, since a few signs of three coordinates are often all alike.
    for mean_zero in (error, error**2 - claimed**2):
        assert abs(float(mean_zero.mean())) < 4.5 * float(mean_zero.std()) / 200**0.5
    assert float((error**2).mean()) > 0.5 * float((claimed**2).mean())
    assert estimate(model, x[:1], steps=1, divergence="hutchinson", probes=1).standard_error.isnan().all()


def test_a_row_depends_on_seed_and_index_alone():
    model, x, _ = of(eight(SDES.build("vp")), 6)
    probe = partial(log_likelihood, model, steps=8, divergence="hutchinson", probes=2, seed=3)
    whole = probe(x)
    torch.testing.assert_close(probe(x[4:], first=4), whole[4:], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(probe(x, seed=4), whole)


@pytest.mark.parametrize("kind", ["full", "white"])
@pytest.mark.parametrize("spec", ["gbm", "vp"])
def test_the_fitted_prior_has_the_density_of_its_draws(spec, kind):
    sde = SDES.build(spec)
    z = torch.randn(300, 5, generator=torch.Generator().manual_seed(3), dtype=WIDE) @ torch.triu(torch.ones(5, 5, dtype=WIDE))
    prior, k = FittedPrior.fit(z, kind), sde.exact(at(1.0))
    covariance = torch.cov(z.T) if kind == "full" else torch.diag(z.var(0))
    eye = torch.eye(5, dtype=WIDE)
    law = torch.distributions.MultivariateNormal(k.alpha * z.mean(0) + k.shift, k.alpha**2 * covariance + k.variance * eye)
    at_hi = prior.draw(sde, (50, 5), keyed(50), torch.empty((), dtype=WIDE))
    torch.testing.assert_close(prior.log_prob(sde, at_hi), law.log_prob(at_hi), rtol=1e-4, atol=1e-3)
    model = ScoreModel(sde, nn.Identity(), fitted=prior)
    assert torch.equal(model.prior_log_prob(at_hi), prior.log_prob(sde, at_hi))
    assert torch.equal(model.condition_on(torch.zeros(50)).prior_log_prob(at_hi), prior.log_prob(sde, at_hi))


def test_the_prior_of_images_keeps_their_shape():
    z = torch.randn(40, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    sde = SDES.build("gbm")
    for kind in ("full", "white"):
        prior = FittedPrior.fit(z, kind)
        numeric = torch.stack([prior.log_prob(sde, z[:4] + h) for h in (-1.0, 0.0, 1.0)])
        assert numeric.shape == (3, 4)
        assert (numeric[0] - 2 * numeric[1] + numeric[2] < 0).all()


def test_the_process_is_the_prior_of_a_model_without_one():
    sde = SDES.build("vp")
    k, z = sde.exact(at(1.0)), torch.randn(5, 3, dtype=WIDE)
    wanted = Normal(k.shift, k.sigma).log_prob(z).sum(1)
    torch.testing.assert_close(ScoreModel(sde, nn.Identity()).prior_log_prob(z), wanted)
    problem = gaussian(sde)
    with pytest.raises(CompositionError, match="is not known"):
        Model.prior_log_prob(_Unstated(problem), z[:, :2])
    model, x, wanted = of(problem)
    assert_close(log_likelihood(problem, x, prior=model.prior_log_prob), wanted, 2)


class _Unstated(Exact):
    prior_log_prob = Model.prior_log_prob


def test_a_network_has_a_density():
    """In float32 too."""
    sde = SDES.build("gbm")
    z = 0.4 + 0.7 * torch.randn(4000, 2, generator=torch.Generator().manual_seed(0), dtype=WIDE)
    model = ScoreModel.for_data(sde, Silent(), z.exp())
    x = z[:50].exp()
    law = MultivariateNormal(z.mean(0), z.T.cov())

    def wanted(rows: torch.Tensor) -> torch.Tensor:
        return law.log_prob(rows.double().log()) - rows.double().log().sum(1)

    for rows in (x, x.float()):
        found = log_likelihood(model, rows)
        assert not found.requires_grad
        assert float((found - wanted(rows)).abs().max()) < 2 * CLOSE


def test_dequantization_and_bits():
    """Bits of a density that is constant in every cell are those of the cells."""
    counts = torch.arange(4).repeat_interleave(2500)[:, None]
    cells = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=WIDE)
    width, low = 0.5, 3.0
    x = dequantize(low + width * counts.double(), keyed(len(counts)), width)
    assert torch.equal(((x - low) / width).floor().long(), counts)
    density = (cells / width).log()[((x[:, 0] - low) / width).long()]
    torch.testing.assert_close(bits_per_dim(density, (1,), width), -cells.log2()[counts[:, 0]])
    torch.testing.assert_close(bits_per_dim(density, (1,)), -(density / math.log(2)))
    both = torch.tensor([0.5, 0.25])
    torch.testing.assert_close(bits_per_dim(torch.zeros(1, dtype=WIDE), (3, 2), both), torch.full((1,), 1.5, dtype=WIDE))


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_the_likelihood_is_the_same_in_every_grad_mode(outer):
    model, x, _ = of(eight(SDES.build("gbm")), 4)
    expected = log_likelihood(model, x, steps=4)
    with outer():
        assert torch.equal(log_likelihood(model, x + 0, steps=4), expected)


class Detached(Exact):
    def score(self, z, t):
        return super().score(z, t).detach()


class Jumping(Process):
    """No SDE."""

    def perturb(self, x0, t, noise):
        return x0

    def prior(self, shape, noise, like):
        return noise.normal(like, shape)


def test_what_has_no_likelihood_is_refused():
    model, x, _ = of(gaussian(SDES.build("gbm")), 3)
    with pytest.raises(DataError, match="3 values"):
        log_likelihood(model, x * torch.tensor([1.0, -1.0]))
    with pytest.raises(CompositionError, match="cannot be differentiated"):
        log_likelihood(Detached(model.problem), x, steps=1)
    for wrong in ({"steps": 0}, {"probes": 0}, {"divergence": "none"}):
        with pytest.raises(ParameterError):
            log_likelihood(model, x, **wrong)
    model.sde = Jumping()
    with pytest.raises(CompositionError, match="no probability flow"):
        log_likelihood(model, x)


class Wrong(Exact):
    """No law has this score."""

    def score(self, z, t):
        return super().score(z, t) + 0.2 * torch.sin(3 * z)


@pytest.mark.parametrize("spec", ["gbm:sigma=0.8", "vp"])
def test_noised_a_density_integrates_to_one_for_whatever_score(spec):
    model = Wrong(gaussian(SDES.build(spec), [0.5], [0.6]))
    z = torch.linspace(-12, 13, 4001, dtype=WIDE)[:, None]
    x = model.sde.decode(z)
    stretch = model.sde.coordinates.log_abs_det_jacobian(z, x)[:, 0]
    mass = torch.trapezoid((log_likelihood(model, x, noised=True) + stretch).exp(), z[:, 0])
    assert float(mass) == pytest.approx(1, abs=1e-3)


def test_the_caller_hears_of_every_step():
    model, x, _ = of(gaussian(SDES.build("vp")), 2)
    done = []
    estimate(model, x, steps=5, callback=done.append)
    assert done == [1, 2, 3, 4, 5]
