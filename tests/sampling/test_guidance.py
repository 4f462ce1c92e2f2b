"""Guidance is exact where the posterior is known, keeps the support, and composes."""

import pytest
import torch
from torch import nn
from torch.distributions import StickBreakingTransform

from sdezoo.conformance.bank.problems import Additive
from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.learning.model import Model, ScoreModel
from sdezoo.sampling.guidance import Covariance, Guided, Inpainting, LinearInverse
from sdezoo.sampling.likelihood import log_likelihood
from sdezoo.zoo.registry import NETWORKS, SAMPLERS, SDES
from tests.analytic import AFFINE_SPECS, POSITIVE_SPECS, SAMPLER_SPECS, assert_moments, at

WIDE = torch.float64
LIKE = torch.empty((), dtype=WIDE)
ADDITIVE_SPECS = [spec for spec in AFFINE_SPECS if spec not in POSITIVE_SPECS]
FREE = torch.zeros(4, dtype=torch.bool)
MASK = torch.tensor([True, False, True, False])
KNOWN = torch.tensor([2.5, 0.0, -1.4, 0.0], dtype=WIDE)
"""Two standard deviations from the mean of `law`, and so out of reach of a start that does not know of it."""
OPERATOR = torch.randn(2, 4, generator=torch.Generator().manual_seed(1), dtype=WIDE)
TWEEDIE = Covariance()
SEEN = torch.tensor([2.0, -1.0], dtype=WIDE)


class Normal(Model):
    """The exact score of normal coordinates with any covariance."""

    def __init__(self, sde, mean, covariance):
        self.sde, self.mean, self.covariance = sde, mean, covariance

    def at(self, t, z):
        k = self.sde.at(t, z)
        spread = k.alpha.to(z)[..., None] ** 2 * self.covariance.to(z) + k.variance.to(z)[..., None] * torch.eye(len(self.mean)).to(z)
        return k.alpha * self.mean.to(z) + k.shift, spread

    def score(self, z, t):
        mean, covariance = self.at(t, z)
        return torch.linalg.solve(covariance, (mean - z)[..., None])[..., 0]

    def prior(self, shape, noise, like):
        mean, covariance = self.at(at(self.sde.t_span[1]), like)
        return mean + noise.normal(like, shape) @ torch.linalg.cholesky(covariance).T


class Labelled(Normal):
    """Two classes, which differ in their mean."""

    def condition_on(self, condition):
        return Shifted(self, condition[:, None].to(WIDE))


class Shifted(Model):
    """Every row of the data of `base`, moved by `shift`."""

    def __init__(self, base, shift):
        self.base, self.shift, self.sde = base, shift, base.sde

    def score(self, z, t):
        return self.base.score(z - self.sde.at(t, z).alpha * self.shift.to(z), t)


def law(spec, kind=Normal):
    sde = SDES.build(spec) if isinstance(spec, str) else spec
    root = 0.5 * torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=WIDE)
    return kind(sde, torch.tensor([0.5, -0.3, 0.2, 1.0], dtype=WIDE), root @ root.T + 0.05 * torch.eye(4, dtype=WIDE))


def posterior(model, matrix, seen, noise_sd):
    gain = (
        model.covariance
        @ matrix.T
        @ torch.linalg.inv(matrix @ model.covariance @ matrix.T + noise_sd**2 * torch.eye(len(matrix), dtype=WIDE))
    )
    return Normal(model.sde, model.mean + gain @ (seen - matrix @ model.mean), model.covariance - gain @ matrix @ model.covariance)


def states(rows=16):
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(2), dtype=WIDE)


def inpainted(model, noise_sd=0.1, covariance=TWEEDIE):
    known = torch.where(MASK, model.sde.decode(KNOWN[None])[0], torch.nan)
    return Inpainting(model, known, MASK, noise_sd, covariance), posterior(model, torch.eye(4, dtype=WIDE)[MASK], KNOWN[MASK], noise_sd)


def seen_through(model, operator=OPERATOR, noise_sd=0.3, covariance=TWEEDIE):
    return LinearInverse(model, SEEN, operator, noise_sd, covariance), posterior(model, OPERATOR, SEEN, noise_sd)


def assert_same_score(found, wanted, rtol=1e-8):
    z = states()
    for t in torch.linspace(*found.sde.t_span, 7, dtype=WIDE):
        expected = wanted.score(z, t)
        torch.testing.assert_close(found.score(z, t), expected, rtol=0, atol=rtol * float(expected.abs().max()))


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_known_entries_of_normal_coordinates_give_the_posterior_score(spec):
    """In `log x` for positive data; at every time."""
    assert_same_score(*inpainted(law(spec)))


@pytest.mark.parametrize("spec", ADDITIVE_SPECS)
@pytest.mark.parametrize("operator", [OPERATOR, lambda x: x @ OPERATOR.T], ids=["matrix", "callable"])
def test_a_linear_map_of_normal_data_gives_the_posterior_score(spec, operator):
    assert_same_score(*seen_through(law(spec), operator))


def test_the_isotropic_covariance_is_exact_for_independent_coordinates_of_its_spread():
    model = Normal(SDES.build("vp"), torch.zeros(4, dtype=WIDE), 0.49 * torch.eye(4, dtype=WIDE))
    for covariance, exact in ((Covariance("isotropic", spread=0.7), True), (Covariance("isotropic"), False), (Covariance("zero"), False)):
        found, wanted = seen_through(model, covariance=covariance)
        if exact:
            assert_same_score(found, wanted)
        else:
            with pytest.raises(AssertionError):
                assert_same_score(found, wanted, rtol=0.01)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp-2m", "euler-maruyama:spacing=karras"])
@pytest.mark.parametrize("spec", ["gbm", "ve", "vp"])
def test_samples_have_mean_and_covariance_of_the_posterior(spec, sampler):
    found, wanted = inpainted(law(spec))
    steps = 200 if sampler.startswith("euler") else 40
    z = found.sde.encode(SAMPLERS.build(sampler).sample(found, (4000, 4), steps, like=LIKE))
    deviation = wanted.covariance.diagonal().sqrt()
    assert_moments(z, wanted.mean, deviation, bias=0.04 if steps == 200 else 0.01)
    off = (torch.cov(z.T) - wanted.covariance) / deviation.outer(deviation)
    assert off.abs().max() < 4.5 * (2 / 4000) ** 0.5 + 0.04


def test_the_start_is_moved_by_the_observation():
    """`gbm` ends four times as wide as the data: from the unmoved prior the mean is off by half a deviation of the posterior."""
    found, wanted = inpainted(law("gbm"))
    found.prior = found.model.prior
    z = found.sde.encode(SAMPLERS.build("heun").sample(found, (4000, 4), 40, like=LIKE))
    assert ((z.mean(0) - wanted.mean).abs() / wanted.covariance.diagonal().sqrt()).max() > 0.4


@pytest.mark.parametrize("spec", ["gbm", "vp"])
def test_exponential_samplers_return_what_is_known_without_noise(spec):
    found, _ = inpainted(law(spec), noise_sd=0.0)
    z = found.sde.encode(SAMPLERS.build("dpmpp-2m").sample(found, (16, 4), 20, like=LIKE))
    torch.testing.assert_close(z[:, MASK], KNOWN[MASK].expand(16, 2), rtol=0, atol=1e-6)
    assert (z[:, ~MASK].std(0) > 0.05).all()


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_nothing_known_changes_nothing(spec):
    model = law(spec)
    assert_same_score(Inpainting(model, torch.full((4,), torch.nan), FREE), model)
    for draw in (SAMPLERS.build("heun"), SAMPLERS.build("pc")):
        free = draw.sample(Inpainting(model, torch.full((4,), torch.nan), FREE), (4, 4), 10, like=LIKE)
        torch.testing.assert_close(free, draw.sample(model, (4, 4), 10, like=LIKE), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sampler", [spec for spec in SAMPLER_SPECS if SAMPLERS.load(spec).preserves_support])
def test_positive_data_stay_positive_under_every_sampler(sampler):
    """The sum of the entries is far above what the law expects, so that the guidance is strong."""
    guided = LinearInverse(law("gbm:sigma_end=3"), torch.tensor([20.0]), torch.ones(1, 4), 0.3)
    x = SAMPLERS.build(sampler).sample(guided, (16, 4), 100, like=LIKE)
    assert (x > 0).all()
    assert float(x.sum(1).mean()) == pytest.approx(20, rel=0.2)


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_guidance_is_the_same_in_every_grad_mode(outer):
    found, _ = seen_through(law("vp"))
    expected = found.score(states(), at(0.3))
    with outer():
        assert torch.equal(found.score(states(), at(0.3)), expected)
        SAMPLERS.build("dpmpp-2m").sample(found, (2, 4), 3, like=LIKE)


def test_a_row_does_not_depend_on_the_batch():
    model = law("gbm")
    many = [LinearInverse(model, torch.tensor([[3.0], [9.0], [1.0]])[rows], torch.ones(1, 4), 0.1) for rows in (slice(0, 3), slice(1, 3))]
    z = states(3)
    torch.testing.assert_close(many[0].score(z, at(0.2))[1:], many[1].score(z[1:], at(0.2)), rtol=1e-9, atol=1e-9)


def test_observations_compose_in_either_order():
    """Two observations of normal data, one after the other."""
    model = law("vp")
    both = posterior(inpainted(model)[1], OPERATOR, SEEN, 0.3)
    assert_same_score(LinearInverse(Inpainting(model, KNOWN, MASK, 0.1), SEEN, OPERATOR, 0.3), both, rtol=1e-7)
    assert_same_score(Inpainting(LinearInverse(model, SEEN, OPERATOR, 0.3), KNOWN, MASK, 0.1), both, rtol=1e-7)


def test_guidance_towards_a_class_is_linear_in_its_scale():
    model, labels = law("vp", Labelled), torch.arange(16) % 2
    z, t = states(), at(0.3)
    free, full = model.score(z, t), model.condition_on(labels).score(z, t)
    for scale in (-1.0, 0.0, 0.5, 1.0, 3.0):
        guided = Guided(model, labels, scale)
        torch.testing.assert_close(guided.score(z, t), free + scale * (full - free))
        torch.testing.assert_close(guided.denoise(z, t), Model.denoise(guided, z, t))
    assert torch.equal(Guided(model, labels, 0.0).score(z, t), free)
    assert torch.equal(Guided(model, labels, 1.0).score(z, t), full)


def test_guidance_towards_a_class_and_an_observation_commute_at_scale_one():
    labels = torch.ones(16, dtype=torch.int64)
    wanted = inpainted(Normal(law("vp").sde, law("vp").mean + 1, law("vp").covariance))[1]
    model = law("vp", Labelled)
    assert_same_score(Guided(Inpainting(model, KNOWN, MASK, 0.1), labels, 1.0), wanted)
    observed = Inpainting(Guided(model, labels, 1.0), KNOWN, MASK, 0.1)
    assert_same_score(observed, wanted)
    assert_same_score(observed.condition_on(labels), wanted)


def test_an_unconditional_model_is_refused():
    sde, labels = SDES.build("vp"), torch.zeros(3, dtype=torch.int64)
    network = NETWORKS.build("mlp:width=8,depth=1")
    with pytest.raises(CompositionError, match="unconditional"):
        Guided(law(sde), labels, 2.0)
    with pytest.raises(CompositionError, match="unconditional"):
        Guided(ScoreModel(sde, network.module((2,))), labels, 2.0)
    guided = Guided(ScoreModel(sde, network.module((2,), classes=4)), labels, 2.0)
    assert SAMPLERS.build("dpmpp-2m").sample(guided, (3, 2), 4).isfinite().all()
    assert log_likelihood(guided, torch.zeros(3, 2), steps=4).isfinite().all()


def test_networks_are_differentiated():
    """Float32, parameters that require gradients, a network that has learnt nothing but is no constant."""
    torch.manual_seed(0)
    sde = SDES.build("gbm")
    model = ScoreModel.for_data(sde, _Network(), states(64).float().exp())
    x = SAMPLERS.build("dpmpp-2m").sample(LinearInverse(model, torch.tensor([6.0]), torch.ones(1, 4), 0.1), (8, 4), 30)
    assert x.dtype == torch.float32
    assert not x.requires_grad
    assert float((x.sum(1) - 6).abs().max()) < 1.0


class _Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 4))

    def forward(self, x, level, condition=None):
        return self.inner(x)


class Simplex(Additive):
    """Additive noise on the coordinates of a simplex."""

    @property
    def coordinates(self):
        return StickBreakingTransform()


def test_what_does_not_fit_is_refused():
    model, known = law("gbm"), torch.ones(4)
    with pytest.raises(CompositionError, match="affine"):
        Inpainting(model.ambient(), known, MASK)
    with pytest.raises(CompositionError, match="mix the entries"):
        Inpainting(law(Simplex()), known, MASK)
    with pytest.raises(DataError, match="2 known entries"):
        Inpainting(model, -known, MASK)
    with pytest.raises(ParameterError, match="noise_sd=0"):
        Inpainting(model, known, MASK, 0.0, Covariance("zero"))
    with pytest.raises(ParameterError, match="noise_sd=-1"):
        LinearInverse(model, known, OPERATOR, -1.0)
    with pytest.raises(ParameterError, match="iterations"):
        Covariance(iterations=0)
    with pytest.raises(CompositionError, match="not normalized"):
        log_likelihood(Inpainting(model, known, MASK), torch.ones(2, 4), steps=1)
