"""Lévy–Itô: the noise against its characteristic function and SciPy's density, its limit, its reversal, and what is refused."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import Atoms
from sdezoo.conformance.bank.sampler_problems import drive
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.process.noise import Noise
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.composition import fitting
from sdezoo.zoo.registry import LOSSES, SAMPLERS, SDES
from tests.analytic import SIGMAS, at

COUNT = 1_000_000
WIDE = torch.empty((), dtype=torch.float64)
POINTS = torch.tensor([[-1.0], [0.2], [1.3]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.1, 0.6, 0.3])


@pytest.mark.parametrize("alpha", [0.8, 1.5, 1.8, 2.0])
def test_the_noise_has_its_characteristic_function(alpha):
    e = SDES.build(f"levy:alpha={alpha}").base((COUNT, 2), Noise.seeded(0), WIDE)
    for u in (torch.tensor([0.3, 0.0]), torch.tensor([0.6, 0.8]), torch.tensor([0.0, 2.0])):
        assert (e @ u.double()).cos().mean().item() == pytest.approx(math.exp(-(float(u.norm()) ** alpha)), abs=3e-3)


def test_quantiles_reach_into_the_tail():
    e = SDES.build("levy:alpha=1.5").base((COUNT, 1), Noise.seeded(1), WIDE)[:, 0].numpy()
    for q in (0.9, 0.99, 0.999):
        beyond = stats.levy_stable.sf(np.quantile(e, q), 1.5, 0)
        assert beyond == pytest.approx(1 - q, abs=SIGMAS * math.sqrt(q * (1 - q) / COUNT))


@pytest.mark.parametrize("alpha", [1.2, 1.8, 1.95])
def test_the_density_is_that_of_scipy(alpha):
    sde, z = SDES.build(f"levy:alpha={alpha},spread=1"), torch.tensor([[0.0], [0.7], [4.0], [60.0]], dtype=torch.float64)
    sigma = float(sde.mix(at(0.5)).sigma)
    expected = stats.levy_stable.logpdf(z[:, 0].numpy() / sigma, alpha, 0) - math.log(sigma)
    torch.testing.assert_close(sde.log_prob(z, 0 * z, at(0.5))[:, 0], torch.from_numpy(expected), rtol=3e-4, atol=3e-4)


def test_the_density_of_several_entries_is_that_of_cauchy():
    sde, z = SDES.build("levy:alpha=1,spread=1"), torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = float(sde.mix(at(0.5)).sigma)
    flat = z.flatten(1).numpy() / sigma
    expected = stats.multivariate_t(np.zeros(6), np.eye(6), df=1).logpdf(flat) - 6 * math.log(sigma)
    torch.testing.assert_close(sde.log_prob(z, 0 * z, at(0.5))[:, 0, 0], torch.from_numpy(expected), rtol=3e-4, atol=3e-4)


@pytest.mark.parametrize("what", ["log_prob", "base", "network_input", "denoiser"])
def test_nothing_jumps_where_the_noise_becomes_normal(what):
    def value(alpha):
        sde, z = SDES.build(f"levy:alpha={alpha},spread=2"), torch.tensor([[0.3], [-2.0]], dtype=torch.float64)
        if what == "log_prob":
            return sde.log_prob(z, 0 * z, at(0.6))
        if what == "base":
            return sde.base((500, 1), Noise.seeded(3), WIDE).clamp(-6, 6)
        return sde.network_input(z, at(0.6)) if what == "network_input" else sde.denoiser_from_output(0.1 * z, z, at(0.6))

    torch.testing.assert_close(value(1.999999), value(2.0), atol=5e-3, rtol=5e-3)
    if what == "log_prob":
        sigma = 2 * math.sqrt(1 - float(SDES.build("levy:alpha=2").mix(at(0.6)).alpha) ** 2)
        normal = torch.distributions.Normal(0.0, math.sqrt(2) * sigma).log_prob(torch.tensor([[0.3], [-2.0]], dtype=torch.float64))
        torch.testing.assert_close(value(2.0), normal, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sampler", ["flow", "levy-sde"])
def test_three_points_noised_are_found_on_the_way_back(sampler):
    sde, count, end = SDES.build("levy:alpha=1.5,spread=1"), 4000, 0.25
    model, noise = Atoms(sde, POINTS, WEIGHTS), Noise.seeded(5)
    exact = sde.perturb(model.clean(10 * count, noise), at(end), noise)
    noise = keyed(count, 3)
    z = model.prior((count, 1), noise, WIDE)
    times = torch.linspace(sde.t_span[1], end, 101, dtype=torch.float64)
    found = drive(SAMPLERS.build(sampler), model, z, times, noise)
    assert stats.ks_2samp(found[:, 0], exact[:, 0]).pvalue > 1e-3


def test_the_step_given_variances_is_exact_for_one_point():
    """For several points it is biased: the denoiser does not know the variance."""
    sde, count, end = SDES.build("levy:alpha=1.5,spread=1"), 4000, 0.25
    noise = keyed(count, 3)
    model = Atoms(sde, POINTS[:1])
    z = model.prior((count, 1), noise, WIDE)
    found = drive(SAMPLERS.build("dlpm"), model, z, torch.linspace(sde.t_span[1], end, 13, dtype=torch.float64), noise)
    away = (found - sde.mix(at(end)).alpha * POINTS[0]) / sde.mix(at(end)).sigma
    levels = (0.1, 0.5, 0.9, 0.99)
    for q, value in zip(levels, stats.levy_stable.ppf(levels, 1.5, 0), strict=True):
        assert (away < value).double().mean().item() == pytest.approx(q, abs=SIGMAS * math.sqrt(q * (1 - q) / count))


def test_normal_noise_gives_the_posterior_step_of_ddpm():
    """At `α = 2` both stochastic samplers are `ancestral` on an affine process of the same mixture, up to their noise."""
    sde = SDES.build("levy:alpha=2,spread=1")
    model, z, (t, s) = Atoms(sde, POINTS), torch.tensor([[0.4]], dtype=torch.float64).expand(20_000, 1), (at(0.7), at(0.6))
    p, q = sde.mix(t), sde.mix(s)
    share = (q.sigma / q.alpha * p.alpha / p.sigma) ** 2
    denoised = model.denoise(z[:1], t)
    mean = q.alpha * denoised + q.alpha / p.alpha * share * (0.4 - p.alpha * denoised)
    deviation = float(q.sigma * (2 * (1 - share)).sqrt())
    for name in ("levy-sde", "dlpm"):
        end = SAMPLERS.build(name).step(model, z, t, s, keyed(len(z)), None)[0]
        assert end.mean().item() == pytest.approx(mean.item(), abs=SIGMAS * deviation / math.sqrt(len(z)))
        assert end.std().item() == pytest.approx(deviation, rel=SIGMAS / math.sqrt(2 * len(z)))


@pytest.mark.parametrize(("spec", "beyond"), [("clamp=20", 0.0), ("angle_cut=0.3", 2e-4), ("alpha=1.8", 1.5e-3)])
def test_published_truncations_shorten_the_tail(spec, beyond):
    e = SDES.build(f"levy:{spec}").base((COUNT, 1), Noise.seeded(0), WIDE)
    assert (e.abs() > 15).double().mean().item() == pytest.approx(beyond, abs=2e-4 + 0.2 * beyond)


def test_far_out_errors_of_the_output_count_alike():
    """The output is scaled by the size of the state, and the weight takes that back: no outlier decides the loss."""
    sde, out = SDES.build("levy:alpha=1.5,spread=2"), torch.ones(3, 1, dtype=torch.float64)
    z = torch.tensor([[0.1], [50.0], [1e6]], dtype=torch.float64)
    moved = sde.denoiser_from_output(out, z, at(0.5)) - sde.denoiser_from_output(0 * out, z, at(0.5))
    torch.testing.assert_close(sde.error_weighting(z, at(0.5)) * moved**2, (out * sde.error_scale(at(0.5))) ** 2)


def test_tail_indices():
    assert SDES.build("levy").tail == 1.8
    assert SDES.build("levy:alpha=2").tail == math.inf
    assert SDES.build("levy:clamp=20").tail == math.inf
    assert SDES.build("levy:angle_cut=0.3").tail == pytest.approx(18)


def test_what_fits():
    levy = SDES.build("levy")
    assert fitting(levy, LOSSES) == ["dsm"]
    assert fitting(levy, SAMPLERS) == ["dlpm", "flow", "levy-sde"]
    assert fitting(SDES.build("levy:clamp=20"), SAMPLERS) == ["flow"]
    assert SAMPLERS.build("levy-sde").refuses(SDES.build("levy:angle_cut=0.3")) == (
        "needs noise that is not truncated (no clamp and no angle_cut)"
    )
    with pytest.raises(ParameterError, match="affine"):
        SDES.build("lift:base=levy")
    with pytest.raises(CompositionError, match="has no score"):
        Atoms(levy, POINTS).score(POINTS, at(0.5))


@pytest.mark.parametrize(
    ("wrong", "what"), [("alpha=2.5", "alpha"), ("alpha=0", "alpha"), ("alpha=2,clamp=20", "no noise"), ("angle_cut=4", "angle_cut")]
)
def test_bad_parameters_are_refused(wrong, what):
    with pytest.raises(ParameterError, match=what):
        SDES.build(f"levy:{wrong}")


def test_a_table_is_trained_and_sampled(tmp_path):
    result = train(TrainingConfig(sde="levy:alpha=1.7", loss="dsm", data="wine", steps=3, out=str(tmp_path / "run")))
    assert "levy:alpha=1.7" in (result.checkpoint / "state.json").read_text(encoding="utf-8")
