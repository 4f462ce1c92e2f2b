"""Log-Laplace noise: its distribution and moments, its jumps, its reversal, and what positive data get."""

import math

import pytest
import torch
from scipy import stats

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import Atoms
from sdezoo.conformance.bank.sampler_problems import drive
from sdezoo.errors import ParameterError, SupportError
from sdezoo.process.noise import Noise
from sdezoo.zoo.composition import fitting
from sdezoo.zoo.registry import LOSSES, SAMPLERS, SDES
from tests.analytic import SIGMAS, at

COUNT = 1_000_000
WIDE = torch.empty((), dtype=torch.float64)


def test_the_noise_is_laplace_of_unit_variance():
    e = SDES.build("log-laplace").base((COUNT, 1), Noise.seeded(0), WIDE)[:, 0].numpy()
    assert stats.kstest(e, stats.laplace(scale=1 / math.sqrt(2)).cdf).pvalue > 1e-3
    assert e.var() == pytest.approx(1, abs=SIGMAS * math.sqrt(5 / COUNT))


def test_moments_of_noised_positive_data_are_known_up_to_the_tail_index():
    """`E X^p = e^{p(c + s α z_0)}/(1 − (p s σ)²/2)`, here with `ln X` around 1 and deviation 0.3."""
    sde, t = SDES.build("log-laplace:center=(1),spread=(0.3)"), at(0.7)
    alpha, sigma = (float(k) for k in sde.mix(t))
    x = sde.decode(sde.perturb(torch.full((COUNT, 1), 5.0, dtype=torch.float64), t, Noise.seeded(1)))
    for p in (-1.0, 0.5, 1.0, 2.0):
        known = math.exp(p * (1 + alpha * (math.log(5) - 1))) / (1 - (p * 0.3 * sigma) ** 2 / 2)
        assert (x**p).mean().item() == pytest.approx(known, abs=SIGMAS * float((x**p).std()) / math.sqrt(COUNT))


def test_the_tail_of_positive_data_is_a_power_law():
    """Half of the noise points up, and of that `P(X > r)` is the power `r^{−√2/s}`."""
    sde = SDES.build("log-laplace:center=(0),spread=(0.5)")
    x, index = sde.decode(sde.base((COUNT, 1), Noise.seeded(2), WIDE)), math.sqrt(2) / 0.5
    for r in (2.0, 4.0, 8.0):
        share = r**-index / 2
        assert (x > r).double().mean().item() == pytest.approx(share, abs=SIGMAS * math.sqrt(share / COUNT))


def test_an_entry_jumps_at_the_rate_of_the_noise_level():
    sde, (t, s) = SDES.build("log-laplace"), (at(0.5), at(0.4))
    jumps = sde.increment(torch.zeros(COUNT, 1, dtype=torch.float64), t, s, Noise.seeded(3))
    (alpha, sigma), (before, under) = sde.mix(t), sde.mix(s)
    share = 1 - float(under * alpha / (before * sigma)) ** 2
    assert (jumps != 0).double().mean().item() == pytest.approx(share, abs=SIGMAS * math.sqrt(share * (1 - share) / COUNT))


@pytest.mark.parametrize("sampler", ["flow", "levy-sde"])
def test_three_points_noised_are_found_on_the_way_back(sampler):
    sde, count, end = SDES.build("log-laplace"), 4000, 0.25
    points = torch.tensor([[-1.0], [0.2], [1.3]], dtype=torch.float64).exp()
    model, noise = Atoms(sde, points, torch.tensor([0.1, 0.6, 0.3])), Noise.seeded(5)
    exact = sde.perturb(model.clean(10 * count, noise), at(end), noise)
    noise = keyed(count, 3)
    times = torch.linspace(sde.t_span[1], end, 101, dtype=torch.float64)
    found = drive(SAMPLERS.build(sampler), model, model.prior((count, 1), noise, WIDE), times, noise)
    assert stats.ks_2samp(found[:, 0], exact[:, 0]).pvalue > 1e-3


def test_columns_are_centred_and_scaled_and_constants_kept():
    x = torch.tensor([[1e-9, 3.0, 7e9], [4e-9, 3.0, 8e9], [2e-9, 3.0, 9e9]], dtype=torch.float64)
    sde = SDES.build("log-laplace").adapted(x)
    z = sde.encode(x)
    torch.testing.assert_close(z[:, [0, 2]].std(0), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(sde.decode(z), x)
    assert (sde.decode((z + 5).float())[:, 1] == 3.0).all()


def test_what_fits_and_what_is_refused():
    sde = SDES.build("log-laplace")
    assert fitting(sde, SAMPLERS) == ["flow", "levy-sde"]
    assert fitting(sde, LOSSES) == ["dsm"]
    with pytest.raises(ParameterError, match="spread"):
        SDES.build("log-laplace:spread=(-1)")
    with pytest.raises(SupportError, match="not finite or outside"):
        sde.decode(torch.tensor([[1000.0]]))
