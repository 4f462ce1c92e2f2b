"""Heavy-tailed noise: its law, the flow that it makes exact, and a network's input and target of unit variance."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import brentq

from sdezoo.conformance.bank.noise_doubles import Forbidden
from sdezoo.conformance.bank.sampler_problems import drive
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.learning.loss import Batch
from sdezoo.learning.model import DenoiserModel, ScoreModel
from sdezoo.process.noise import Noise
from sdezoo.zoo.composition import fitting
from sdezoo.zoo.registry import LOSSES, NETWORKS, SAMPLERS, SDES
from tests.analytic import SIGMAS, at

COUNT = 20_000
POINTS = (-1.0, 1.5)


@pytest.mark.parametrize("nu", [2.5, 4.0])
def test_the_noise_is_students(nu):
    """Each entry has Student's law; of `d` entries, which share one scale, `‖e‖²/d` has Fisher's `F(d, ν)`."""
    sde = SDES.build(f"student-t:nu={nu}")
    e = sde.base((COUNT, 3), Noise.seeded(3), torch.empty((), dtype=torch.float64))
    assert stats.kstest(e[:, 0], stats.t(nu).cdf).pvalue > 0.01
    assert stats.kstest((e**2).mean(1), stats.f(3, nu).cdf).pvalue > 0.01
    x0 = torch.full((COUNT, 3), 0.7, dtype=torch.float64)
    drawn = (sde.perturb(x0, at(0.4), Noise.seeded(1)) - x0) / sde.mix(at(0.4)).sigma
    assert stats.kstest(drawn[:, 1], stats.t(nu).cdf).pvalue > 0.01
    prior = sde.prior((COUNT, 3), Noise.seeded(2), x0)
    assert stats.kstest(prior[:, 2] / sde.sigma_max, stats.t(nu).cdf).pvalue > 0.01


class TwoPoints(DenoiserModel):
    """The exact denoiser of data that are one of `POINTS`, with probability ½ each."""

    def __init__(self, sde):
        self.sde = sde

    def denoise(self, z, t):
        sigma = float(self.sde.mix(t).sigma)
        a = z.new_tensor(POINTS)
        shares = torch.softmax(-(self.sde.nu + 1) / 2 * (((z - a) / sigma) ** 2 / self.sde.nu).log1p(), 1)
        return (shares * a).sum(1, keepdim=True)


def quantile(sde, t, q):
    """Of `z_t`: a path of the flow is at the same quantile at all times."""
    sigma = float(sde.mix(at(t)).sigma)
    return brentq(lambda z: np.mean([stats.t(sde.nu).cdf((z - a) / sigma) for a in POINTS]) - q, -1e4, 1e4, xtol=1e-13, rtol=1e-14)


@pytest.mark.parametrize("nu", [2.5, 5.0])
def test_the_flow_keeps_quantiles_and_is_of_order_2(nu):
    sde, levels, lo = SDES.build(f"student-t:nu={nu}"), (0.01, 0.2, 0.45, 0.6, 0.99), 0.45
    start, end = (torch.tensor([[quantile(sde, t, q)] for q in levels], dtype=torch.float64) for t in (1.0, lo))
    errors = []
    for steps in (64, 256):
        times = torch.linspace(1, lo, steps + 1, dtype=torch.float64)
        errors.append(float((drive(SAMPLERS.build("flow"), TwoPoints(sde), start, times, Forbidden()) - end).norm()))
    assert errors[1] < 2e-3
    assert math.log(errors[0] / errors[1], 4) > 1.8


def test_two_points_are_found_again():
    x = SAMPLERS.build("flow").sample(TwoPoints(SDES.build("student-t")), (4000, 1), 60, like=torch.empty((), dtype=torch.float64))
    away = (x - x.new_tensor(POINTS)).abs()
    assert away.amin(1).mean().item() < 1e-3
    shares = (away[:, 0] < away[:, 1]).double().mean().item()
    assert shares == pytest.approx(0.5, abs=SIGMAS * 0.5 / math.sqrt(4000))


@pytest.mark.parametrize("spread", [1.0, 30.0])
@pytest.mark.parametrize("t", [1e-3, 0.3, 0.6, 1.0])
def test_input_and_target_of_the_network_have_unit_variance(spread, t):
    sde = SDES.build(f"student-t:nu=12,spread={spread}")
    x0 = spread * torch.randn(COUNT, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = sde.perturb(x0, at(t), Noise.seeded(1))
    seen = sde.network_input(z, at(t))
    target = (sde.denoiser_from_output(torch.zeros_like(z), z, at(t)) - sde.target(z, x0, at(t))) / sde.error_scale(at(t))
    # The variance of a variance: (kurtosis − 1)/n, and the kurtosis of 12 degrees of freedom is 3.75.
    bound = SIGMAS * math.sqrt(2.75 / COUNT)
    assert seen.var().item() == pytest.approx(1, abs=bound)
    assert target.var().item() == pytest.approx(1, abs=bound)
    assert (seen * target).mean().item() == pytest.approx(0, abs=bound)  # what the network is left with is uncorrelated with what it sees


def test_parameters():
    x0 = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 4.0])
    adapted = SDES.build("student-t").adapted(x0)
    assert adapted.spread == pytest.approx(math.sqrt((9 + 16) / 2), rel=0.1)
    assert SDES.build("student-t:spread=2").adapted(x0).spread == 2
    assert SDES.build("student-t").adapted(torch.ones(5, 2)).spread == 1
    for wrong in ("nu=2", "sigma_min=30"):
        with pytest.raises(ParameterError):
            SDES.build(f"student-t:{wrong}")


def test_no_stochastic_sampler_takes_it():
    sde = SDES.build("student-t")
    assert [name for name in SAMPLERS.names() if SAMPLERS.build(name).refuses(sde) is None] == ["flow"]


def test_the_denoiser_is_what_is_learnt_and_no_score_is_offered():
    """Until it learned a denoiser, a network answered `S = (D − z)/σ²`, with the loss `λ |S_θ − S|²`, `λ = σ⁴/e²`: the same number."""
    sde = SDES.build("student-t:spread=3")
    torch.manual_seed(0)
    model = ScoreModel(sde, NETWORKS.build("mlp:width=8,depth=1").module((2,)).double())
    x0 = 3 * torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.linspace(*sde.t_span, 5, dtype=torch.float64)[:, None]
    value = LOSSES.build("dsm")(model, Batch(x0), t, Noise.seeded(3))
    z, sigma = sde.perturb(x0, t, Noise.seeded(3)), sde.mix(t).sigma
    pull, exact = ((d - z) / sigma**2 for d in (model.denoise(z, t), x0))
    noise = sde.nu / (sde.nu - 2) * sigma**2
    weight = sigma**4 * (9 + noise) / (9 * noise)
    torch.testing.assert_close(value, (weight * (pull - exact) ** 2).sum(1))
    with pytest.raises(CompositionError, match="has no score"):
        model.score(z, t)
    assert not hasattr(sde, "score")
    assert fitting(sde, LOSSES) == ["dsm"]


def test_a_network_answers_the_noise_in_what_is_left():
    """`D = c z − √(s² (1 − c)) F`: more `F` is less `D`, as where a network predicts noise."""
    sde, z, out = SDES.build("student-t:spread=3"), torch.tensor([[2.0], [-5.0]], dtype=torch.float64), torch.tensor([[0.7], [-1.1]])
    noise = sde.nu / (sde.nu - 2) * float(sde.mix(at(0.4)).sigma) ** 2
    kept = 9 / (9 + noise)
    torch.testing.assert_close(sde.denoiser_from_output(out.double(), z, at(0.4)), kept * z - math.sqrt(9 * (1 - kept)) * out.double())
