"""Weights are their formulas; times fall where the noise is as large as the data."""

import math

import pytest
import torch
from torch import nn

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.errors import CompositionError
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.noise_levels import Importance, draw_times
from sdezoo.learning.prior import Moments
from sdezoo.learning.weighting import weight
from sdezoo.process.noise import Noise
from sdezoo.zoo.composition import check_fit
from sdezoo.zoo.registry import LOSSES, SDES
from tests.analytic import AFFINE_SPECS, at, times
from tests.process.edges import BetweenWalls

STD = torch.tensor([0.5, 2.0])
LIKE = torch.empty((), dtype=torch.float64)


def model(sde, std=STD):
    return ScoreModel(sde, nn.Identity(), moments=Moments(torch.zeros_like(std), std))


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_weights_are_their_formulas(spec):
    sde = SDES.build(spec)
    for t in (times(sde, 2), at(0.4)):
        alpha, _, v = sde.coefficients(t)
        s, ratio = STD.double(), v.sqrt() / alpha
        formulas = {
            "paper": v**2,
            "uniform": v,
            "edm": v**2 / alpha**2 * (ratio**2 + s**2) / (ratio * s) ** 2,
            "min-snr": (v / alpha / s) ** 2 * ((s / ratio) ** 2).clamp(max=5),
            "likelihood": sde.diffusion(torch.zeros(1, dtype=torch.float64), t) ** 2,
        }
        for name, expected in formulas.items():
            for dtype in (torch.float32, torch.float64):
                found = weight(name, model(sde), t, LIKE.to(dtype))
                assert found.dtype == dtype
                torch.testing.assert_close(found, expected.to(dtype), rtol=1e-5 if dtype == torch.float32 else 1e-10, atol=0)


def test_authors_weight_of_the_papers_process():
    t = torch.tensor([[0.1], [0.7]], dtype=torch.float64)
    torch.testing.assert_close(weight("paper", model(SDES.build("gbm:sigma=0.8")), t, LIKE), (0.64 * t) ** 2, rtol=1e-12, atol=0)


def test_edm_weight_needs_an_affine_process():
    with pytest.raises(CompositionError, match="weighting=edm needs an affine SDE"):
        check_fit(BetweenWalls(), LOSSES.build("dsm:weighting=edm"))
    check_fit(BetweenWalls(), LOSSES.build("dsm"))


@pytest.mark.parametrize("name", ["uniform", "log-normal", "importance"])
@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_times_stay_in_the_span(spec, name):
    sde = SDES.build(spec)
    lo, hi = sde.t_span
    for span in ((lo, hi), (0.2, 0.4), (lo, lo)):
        t = draw_times(name, model(sde), span, (2000, 1, 1), Noise.seeded(0), LIKE)
        assert t.shape == (2000, 1, 1)
        assert t.dtype == torch.float64
        assert span[0] - 1e-9 <= t.min() <= t.max() <= span[1] + 1e-9
        assert span[0] == span[1] or t.std() > 0.1 * (span[1] - span[0])


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_log_normal_times_follow_their_truncated_law(spec):
    """`ln(σ̂/s)` is `N(0, 1.2²)` between the process's levels: the distribution function of the draws is uniform."""
    sde, std = SDES.build(spec), torch.tensor([0.5])
    t = draw_times("log-normal", model(sde, std), sde.t_span, (5000, 1), Noise.seeded(0), LIKE)

    def below(time):
        return torch.special.ndtr((sde.coefficients(time).ratio / 0.5).log() / 1.2)

    a, b = (below(at(time)) for time in sde.t_span)
    u = ((below(t) - a) / (b - a)).flatten().sort()[0]
    assert (u - torch.arange(1, 5001) / 5000).abs().max() < 2.0 / math.sqrt(5000)  # Kolmogorov–Smirnov, p = 7e-4


@pytest.mark.parametrize("spec", ["ve", "vp"])
def test_the_median_noise_is_as_large_as_the_data(spec):
    sde = SDES.build(spec)
    t = draw_times("log-normal", model(sde, torch.tensor([0.3, 0.3])), sde.t_span, (5000, 1), Noise.seeded(0), LIKE)
    assert 0.2 < float(sde.coefficients(t).ratio.median()) < 0.4


def test_scale_of_the_data_is_a_root_mean_square():
    sde = SDES.build("vp")
    columns, one = (
        draw_times("log-normal", model(sde, std), sde.t_span, (50, 1), Noise.seeded(0), LIKE)
        for std in (torch.tensor([0.3, 0.4]), torch.tensor([math.sqrt(0.125)]))
    )
    torch.testing.assert_close(columns, one, rtol=1e-6, atol=1e-9)


def test_times_of_a_process_that_is_not_affine_are_uniform():
    sde = BetweenWalls()
    t = draw_times("log-normal", ScoreModel(sde, nn.Identity()), sde.t_span, (5000, 1), Noise.seeded(0), LIKE)
    assert float(t.mean()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", ["uniform", "log-normal", "importance"])
def test_times_come_from_the_rows_of_the_noise(name):
    sde = SDES.build("gbm")
    whole = draw_times(name, model(sde), sde.t_span, (6, 1), keyed(6), LIKE)
    torch.testing.assert_close(draw_times(name, model(sde), sde.t_span, (2, 1), keyed(2, first=4), LIKE), whole[4:], rtol=1e-12, atol=0)


def test_importance_starts_uniform_and_learns_where_losses_are_large():
    """`p ∝ √E[L²]`, a tenth of it uniform."""
    importance, generator = Importance(), torch.Generator().manual_seed(0)
    u = torch.rand(20_000, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(importance.draw(u), (u, torch.ones_like(u)))
    for part in u.split(500):
        importance.observe(part, 1 + 9 * (part > 0.75))
    expected = 0.1 + 0.9 * torch.tensor([1.0, 10.0]).double() / 3.25
    torch.testing.assert_close(importance.density[[0, -1]], expected)


def test_importance_leaves_the_expected_loss_as_it_is():
    """The mean of `f(u)/p(u)` over draws of density `p` is that of `f(u)` over uniform ones: by the midpoint rule, exactly."""
    importance = Importance()
    middle = (torch.arange(64_000, dtype=torch.float64) + 0.5) / 64_000
    importance.observe(middle, (3 * middle).exp())
    u, factor = importance.draw(middle)
    assert (u.diff() > 0).all()
    for f in (torch.ones_like, torch.square, lambda x: (7 * x).sin()):
        torch.testing.assert_close((f(u) * factor).mean(), f(middle).mean(), rtol=1e-5, atol=1e-6)


def test_importance_lowers_the_variance():
    importance = Importance()
    middle = (torch.arange(64_000, dtype=torch.float64) + 0.5) / 64_000
    loss = lambda u: (6 * u).exp()  # noqa: E731
    importance.observe(middle, loss(middle))
    u, factor = importance.draw(middle)
    assert (loss(u) * factor).var() < 0.05 * loss(middle).var()


def test_importance_remembers_no_more_than_its_state():
    first = Importance()
    u = torch.linspace(0, 0.999, 300, dtype=torch.float64)
    first.observe(u, 1 + u)
    second = Importance(first.state.clone())
    for importance in (first, second):
        importance.observe(u, 2 - u)
    assert torch.equal(first.state, second.state)
    for _ in range(300):
        first.observe(u, torch.full_like(u, 3.0))
    torch.testing.assert_close(first.state[0], torch.full((64,), 9.0).double(), rtol=1e-6, atol=0)
