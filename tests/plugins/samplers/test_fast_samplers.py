"""The samplers for few evaluations: orders, exactness, and how far they are from the exact flow after ten calls of the score."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import Mixture, Multiplicative, eight, gaussian
from sdezoo.conformance.bank.sampler_problems import WIDE, drive
from sdezoo.learning.model import Model
from sdezoo.sampling.grid import grid
from sdezoo.zoo.registry import SDES
from sdezoo_plugins.samplers.affine.ddim import DDIM
from sdezoo_plugins.samplers.affine.deis import DEIS
from sdezoo_plugins.samplers.affine.dpmpp_2m import DPMpp2M
from sdezoo_plugins.samplers.affine.dpmpp_2m_sde import DPMpp2MSDE
from sdezoo_plugins.samplers.affine.dpmpp_3m import DPMpp3M
from sdezoo_plugins.samplers.affine.exponential_adams import log_snr, with_data, with_noise
from sdezoo_plugins.samplers.affine.unipc import UniPC
from sdezoo_plugins.samplers.general.heun import Heun
from sdezoo_plugins.samplers.general.pf_ode import PFODE
from tests.analytic import AFFINE_SPECS, assert_moments, at, coordinates

MULTISTEP = {
    "dpmpp-3m": DPMpp3M(spacing="log-snr"),
    "unipc": UniPC(spacing="log-snr"),
    "unipc order 3": UniPC(order=3, spacing="log-snr"),
    "unipc noise": UniPC(prediction="noise", spacing="log-snr"),
    "deis": DEIS(spacing="log-snr"),
    "deis rho": DEIS(polynomial="rho", spacing="log-snr"),
}
FLOWS = MULTISTEP | {"heun": Heun(spacing="log-snr")}
LOWEST = 0.01
"""The noise level at which the curves below end; they begin at 0.8."""


def each(samplers):
    return pytest.mark.parametrize("sampler", list(samplers.values()), ids=list(samplers))


def at_lo(sampler, model, z, steps):
    """The state at `t = lo` after `steps` steps from `z`."""
    return drive(sampler, model, z, sampler.grid(model, steps + 1)[:-1], keyed(len(z)))


def slope(errors):
    return torch.tensor([float(e) for e in errors]).log2().diff().mean().neg().item()


@cache
def normal(spec):
    """Normal coordinates, where to start, and the exact end: the flow keeps `(z − mean_t)/sd_t`."""
    sde = SDES.build(spec)
    model = gaussian(sde)
    lo, hi = sde.t_span
    (m1, v1), (m0, v0) = (model.components(WIDE, at(t)) for t in (hi, lo))
    z = m1 + v1.sqrt() * coordinates(20, 2)
    return model, z, m0 + (v0 / v1).sqrt() * (z - m1)


@cache
def bimodal(spec):
    """A bimodal problem, where to start, and where a fine grid ends."""
    model = Mixture(SDES.build(spec), torch.tensor([[-0.8], [0.9]]), 0.5)
    z = torch.linspace(-1.5, 1.5, 30, dtype=torch.float64)[:, None]
    return model, z, at_lo(UniPC(order=3, spacing="log-snr"), model, z, 1000)


@pytest.mark.parametrize("spec", ["gbm:sigma=0.8,mu=0.1", "gbm:sigma=0.1,sigma_end=2", "vp"])
@each(FLOWS)
def test_order_on_normal_coordinates(sampler, spec):
    """At least what is declared: where the prior keeps little of the data, the first steps do not limit the order."""
    model, z, exact = normal(spec)
    assert slope((at_lo(sampler, model, z, n) - exact).abs().max() for n in (40, 80, 160)) >= sampler.weak_order - 0.3


@pytest.mark.parametrize("spec", ["gbm:sigma=0.8", "vp"])
@each(FLOWS)
def test_order_on_a_mixture(sampler, spec):
    """Against a fine grid, which every method has to agree with."""
    model, z, exact = bimodal(spec)
    assert slope((at_lo(sampler, model, z, n) - exact).abs().mean() for n in (40, 80, 160)) >= sampler.weak_order - 0.3


def test_the_first_step_limits_what_is_not_corrected():
    """Order 2 where the prior keeps much of the data, and no more."""
    model, z, exact = normal("gbm:sigma=0.8")
    for sampler in (MULTISTEP["dpmpp-3m"], MULTISTEP["deis"]):
        assert slope((at_lo(sampler, model, z, n) - exact).abs().max() for n in (80, 160, 320)) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("spec", ["gbm:sigma=0.8", "vp"])
def test_dormand_and_prince_are_of_order_five(spec):
    """At least: where the tolerance leaves the steps to the grid."""
    model, z, exact = normal(spec)
    sampler = PFODE(rtol=1e6, atol=1e6)
    assert slope((at_lo(sampler, model, z, n) - exact).abs().max() for n in (10, 20, 40)) >= 4.7


@each(FLOWS)
@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_exact_where_the_data_are_one_point(sampler, spec):
    """Then `D` and `ε` do not change along the flow: every state keeps its `ε`, and the last is the point."""
    sde = SDES.build(spec)
    model = Mixture(sde, torch.tensor([[0.3, -0.2]]), 1e-9)
    eps = coordinates(3, 2)
    for steps in (1, 2, 10):
        k = sde.at(at(sde.t_span[1]), eps)
        z, times = k.alpha * model.means + k.shift + k.sigma * eps, sampler.grid(model, steps)
        z = drive(sampler, model, z, times[:-1], keyed(3))
        k = sde.at(times[-2], eps)
        torch.testing.assert_close(z, k.alpha * model.means + k.shift + k.sigma * eps, rtol=1e-6, atol=1e-6)
    for s in (sampler, DPMpp2MSDE(), PFODE()):
        torch.testing.assert_close(sde.encode(s.sample(model, (3, 2), 5, like=WIDE)), model.means.expand(3, 2), rtol=1e-6, atol=1e-6)


@each(MULTISTEP | {"heun": None})
def test_the_first_step_is_that_of_ddim(sampler):
    """With one value there is one exponential method; Heun's last step, of one evaluation, is the same."""
    model, z, _ = normal("vp")
    t, s = (at(1.0), at(0.7)) if sampler else (at(0.3), at(0.0))
    expected = DDIM().step(model, z, t, s, keyed(20), None)[0]
    torch.testing.assert_close((sampler or Heun()).step(model, z, t, s, keyed(20), None)[0], expected, rtol=1e-9, atol=1e-10)


def test_with_two_values_dpmpp_3m_is_dpmpp_2m_up_to_third_order():
    """Both take the line through two values; 2M weighs its slope by `h (1 − e^{−h})/2`, and `∫ e^{u−h} u du = h − 1 + e^{−h}` is exact."""
    model, z, _ = normal("vp")
    gaps = []
    for h in (0.04, 0.02, 0.01):
        t, s, before = at(0.5), at(0.5 - h), at(0.5 + h)
        k = model.sde.at(before, z)
        old, last = model.denoise(z + 1.0, before), (k.ratio / model.sde.at(t, z).ratio).log()
        two = DPMpp2M().step(model, z, t, s, keyed(20), (old, last))[0]
        three = DPMpp3M().step(model, z, t, s, keyed(20), [(log_snr(k), old)])[0]
        gaps.append((two - three).abs().max())
    assert slope(gaps) == pytest.approx(2, abs=0.2)  # of order 3 but for their own slope: the values differ by as much at every h


@pytest.mark.parametrize("advance", [with_data, with_noise])
@pytest.mark.parametrize("spec", ["gbm:sigma=0.8,mu=0.1", "vp"])
def test_weights_are_exact_for_polynomials(advance, spec):
    """`D`, or `ε`, a cubic in `λ`: variation of constants by Gauss's rule."""
    sde = SDES.build(spec)
    z = coordinates(4, 2)
    p, q = sde.at(at(0.6), z), sde.at(at(0.35), z)
    start, end = log_snr(p), log_snr(q)

    def cubic(level):
        u = level - start
        return 0.3 - 0.7 * u + 1.1 * u**2 - 0.4 * u**3

    known = [(log_snr(sde.at(at(t), z)), cubic(log_snr(sde.at(at(t), z))).expand_as(z)) for t in (0.35, 0.6, 0.8, 0.9)]
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(40))
    u = (end - start) * (1 + nodes) / 2
    if advance is with_data:
        integral = q.alpha * (weights * torch.exp(u - (end - start)) * cubic(start + u)).sum() * (end - start) / 2
        expected = q.shift + q.sigma / p.sigma * (z - p.shift) + integral
    else:
        integral = q.alpha * p.ratio * (weights * torch.exp(-u) * cubic(start + u)).sum() * (end - start) / 2
        expected = q.shift + q.alpha / p.alpha * (z - p.shift) - integral
    torch.testing.assert_close(advance(p, q, z, known), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_the_stochastic_variant_recovers_moments(spec):
    model = gaussian(SDES.build(spec))
    x = DPMpp2MSDE().sample(model, (4000, 2), 40, like=WIDE)
    assert_moments(model.sde.encode(x), model.means[0], model.deviations[0], bias=0.03)


def test_the_stochastic_variant_is_ancestral_with_one_value():
    """Mean and variance of the first step are the posterior's."""
    model, z, _ = normal("vp")
    mean, variance = model.sde.posterior(z, model.denoise(z, at(0.8)), at(0.8), at(0.5))
    found, _ = DPMpp2MSDE().step(model, z, at(0.8), at(0.5), keyed(20), None)
    torch.testing.assert_close(found, mean + variance.sqrt() * keyed(20).normal(z), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("sampler", [*FLOWS.values(), PFODE(), DPMpp2MSDE()], ids=[*FLOWS, "pf-ode", "dpmpp-2m-sde"])
def test_few_steps_stay_tame(sampler):
    """Where `σ√T = 10`, no state is farther out than the start is, and float32 holds every sample."""
    model = gaussian(SDES.build("gbm:sigma=10"))
    for steps in (2, 3, 5, 10):
        seen = []
        x = type(sampler)().sample(model, (200, 2), steps, callback=lambda k, z, t: seen.append(z.abs().max()))  # noqa: B023
        assert max(seen) < 50
        assert (x > 0).all()


class LogGamma(Model[Multiplicative]):
    """`z = ln x` for `x ~ Gamma(a)`: mass near `x = 0`. `∇ log p_t(z) = E[a − e^{z_0} | z]`, by the trapezoidal rule around `z`."""

    def __init__(self, sde, a=0.5):
        self.sde, self.a = sde, a
        self.nodes = torch.linspace(-9, 9, 73, dtype=torch.float64)

    def score(self, z, t):
        clean = z[..., None] + self.sde.at(t, z).sigma[..., None] * self.nodes
        posterior = torch.softmax(self.a * clean - clean.exp() - self.nodes**2 / 2, -1)
        return (posterior * (self.a - clean.exp())).sum(-1)

    def prior(self, shape, noise, like):
        x = torch.from_numpy(np.random.default_rng(0).gamma(self.a, size=shape))
        return x.log() + self.sde.sigma * noise.normal(like, shape)


@cache
def flow(law):
    """A law at noise levels from 0.8 to 0.01, an exact draw of `p(z_1)`, and where the flow takes it."""
    sde = Multiplicative(sigma=0.8, mu=0.32, lo=(LOWEST / 0.8) ** 2)
    model = {"eight": eight, "gamma": LogGamma, "bimodal": lambda s: Mixture(s, torch.tensor([[-0.8, 0.3], [0.9, -0.2]]), 0.5)}[law](sde)
    z = model.prior((500, 2), keyed(500), WIDE)
    return model, z, drive(UniPC(order=3), model, z, grid(sde, 200, "log-snr"), keyed(500))


def distance(sampler, law, steps):
    """Root mean square distance of the coordinates to the flow's, from the same start."""
    model, z, exact = flow(law)
    return float((drive(sampler, model, z, sampler.grid(model, steps), keyed(len(z))) - exact).square().mean().sqrt())


@pytest.mark.parametrize(
    ("sampler", "law", "calls", "within"),
    [
        (UniPC(), "gamma", 10, 0.003),
        (UniPC(prediction="noise"), "gamma", 10, 0.0015),
        (DPMpp2M(), "gamma", 10, 0.003),
        (UniPC(prediction="noise"), "bimodal", 10, 0.0022),
        (UniPC(), "eight", 10, 0.0075),
        (UniPC(prediction="noise"), "eight", 10, 0.006),
        (UniPC(order=3, prediction="noise"), "eight", 15, 0.002),
    ],
    ids=lambda value: getattr(value, "spec", None),
)
def test_few_calls_are_enough(sampler, law, calls, within):
    assert sampler.evaluations(calls) == calls
    assert distance(sampler, law, calls) <= within


@pytest.mark.parametrize("law", ["eight", "gamma", "bimodal"])
def test_a_corrector_is_worth_its_place(law):
    """At 20 calls, the default of UniPC is closer than DDIM by ten times, and than DPM-Solver++(2M)."""
    ours = distance(UniPC(), law, 20)
    assert ours < distance(DDIM(), law, 20) / 10
    assert ours < distance(DPMpp2M(), law, 20)


class Counted(Model):
    """A model that counts."""

    def __init__(self, base):
        self.base, self.sde, self.calls = base, base.sde, 0

    def score(self, z, t):
        self.calls += 1
        return self.base.score(z, t)


@pytest.mark.parametrize("law", ["eight", "gamma"])
def test_the_adaptive_flow_keeps_its_tolerance(law):
    model, z, exact = flow(law)
    errors = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        sampler = PFODE(rtol=tolerance, atol=tolerance)
        errors.append(float((drive(sampler, model, z, sampler.grid(model, 3), keyed(len(z))) - exact).abs().median()))
        assert errors[-1] < 20 * tolerance
    assert errors == sorted(errors, reverse=True)


def test_the_adaptive_flow_agrees_with_scipy():
    """`dz/dt` as the process states it, by DOP853."""
    model, z, _ = normal("vp")
    sde, (lo, hi) = model.sde, model.sde.t_span

    def drift(t, flat):
        u = torch.from_numpy(flat).reshape(z.shape)
        return sde.reverse_drift(u, at(t), model.score(u, at(t)), half=0.5).numpy().ravel()

    theirs = solve_ivp(drift, (hi, lo), z.numpy().ravel(), method="DOP853", rtol=1e-9, atol=1e-10).y[:, -1].reshape(z.shape)
    ours = at_lo(PFODE(rtol=1e-8, atol=1e-8), model, z, 1)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-6, atol=1e-6)


def test_the_adaptive_flow_spends_what_it_takes():
    """Six evaluations a step where the grid is fine enough, more where it is not; a sample does not depend on its batch."""
    model, z, _ = flow("eight")
    for steps in (2, 40):
        counted, sampler = Counted(model), PFODE()
        whole = drive(sampler, counted, z[:20], sampler.grid(model, steps), keyed(20))
        assert counted.calls >= sampler.evaluations(steps)
        assert (counted.calls == sampler.evaluations(steps)) == (steps == 40)
        alone = torch.cat([drive(sampler, model, z[k : k + 1], sampler.grid(model, steps), keyed(1)) for k in range(5)])
        torch.testing.assert_close(whole[:5], alone, rtol=1e-10, atol=1e-10)
