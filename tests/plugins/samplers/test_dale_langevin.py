"""The paper's two samplers are Euler–Maruyama in `log x` and in `x`; and torchsde's Euler method is ours."""

import pytest
import torch

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import gaussian
from sdezoo.errors import SupportError
from sdezoo.zoo.registry import SAMPLERS, SDES
from tests.analytic import AFFINE_SPECS, GBM_SPECS, POSITIVE_SPECS, assert_moments, at, coordinates
from tests.process.edges import BetweenWalls

LIKE = torch.empty((), dtype=torch.float64)
METHODS = ["euler", "milstein", "srk", "euler_heun", "heun", "midpoint", "log_ode", "reversible_heun"]
QUICK = ("euler", "milstein", "reversible_heun")


def draw(spec, model, steps, seed=0, count=8):
    return SAMPLERS.build(spec).sample(model, (count, 2), steps, seed, like=LIKE)


@pytest.mark.parametrize("spacing", ["uniform", "karras"])
@pytest.mark.parametrize("spec", POSITIVE_SPECS)
def test_dale_langevin_is_euler_maruyama_on_log_x(spec, spacing):
    model = gaussian(SDES.build(spec))
    ours, theirs = (draw(f"{name}:spacing={spacing}", model, 40).log() for name in ("dale-langevin", "euler-maruyama"))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("spec", GBM_SPECS)
def test_one_update_is_the_papers_formula(spec):
    """`X ∘ exp(δσ² X∘s − δ(μ − 3σ²/2) + √δ σ Z)` and `X ∘ (1 + 2δσ² − δμ + δσ² X∘s + √δ σ Z)`, σ and μ at `t`."""
    sde = SDES.build(spec)
    model, t, s = gaussian(sde), at(0.6), at(0.599)
    z, noise, delta = coordinates(8, 2), keyed(8).normal(coordinates(8, 2)), 0.001
    x, variance = z.exp(), sde.rates(t)[2]
    mu, sigma, h = sde.mu if sde.mu is not None else variance / 2, variance.sqrt(), model.hyvarinen(z, t)
    dale, _ = SAMPLERS.build("dale-langevin").step(model, z, t, s, keyed(8), None)
    expected = x * torch.exp(delta * variance * h - delta * (mu - 1.5 * variance) + delta**0.5 * sigma * noise)
    torch.testing.assert_close(dale.exp(), expected, rtol=1e-10, atol=0)
    free, _ = SAMPLERS.build("multiplicative").step(model.ambient(), x, t, s, keyed(8), None)
    expected = x * (1 + 2 * delta * variance - delta * mu + delta * variance * h + delta**0.5 * sigma * noise)
    torch.testing.assert_close(free, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["dale-langevin", "multiplicative"])
@pytest.mark.parametrize("recipe", ["mnist", "fashion", "kmnist", "cifar10"])
def test_authors_presets(name, recipe):
    """Their δ, inner steps and annealing factor, whatever the grid; no noise in the last update."""
    sampler = SAMPLERS.build(f"{name}:preset=paper,recipe={recipe}")
    model = gaussian(SDES.build("gbm:sigma=0.8"))
    view = sampler.view(model)
    start = coordinates(8, 2) if name == "dale-langevin" else coordinates(8, 2).exp()
    delta, inner, factor = sampler.authors[recipe]
    z, anneal, memory = start, 1.0, None
    for t, s in ((0.9, 0.5), (0.5, 0.1), (0.1, 0.0)):
        expected = z
        rows = keyed(8, seed=1)
        for _ in range(inner):
            fresh = rows.normal(expected)
            drift = -view.sde.reverse_drift(expected, at(t), view.score(expected, at(t))) * delta
            expected = expected + drift + (anneal * delta**0.5 * view.sde.diffusion(expected, at(t)) * fresh if s else 0)
        z, memory = sampler.step(view, z, at(t), at(s), keyed(8, seed=1), memory)
        torch.testing.assert_close(z, expected, rtol=1e-9, atol=1e-10)
        anneal *= factor


@pytest.mark.parametrize("steps", [3, 5, 10])
def test_unconstrained_sampler_stops_where_it_leaves_the_positives(steps):
    model = gaussian(SDES.build("gbm:sigma=0.8"))
    with pytest.raises(SupportError, match=rf"left the support of the data: \d+ of 4000 coordinates at step \d+ of {steps}\.") as error:
        draw("multiplicative", model, steps, count=2000)
    assert "preserves the support" in error.value.remedy


@pytest.mark.parametrize("spec", POSITIVE_SPECS)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10])
def test_dale_langevin_never_leaves_the_positives(spec, steps):
    """At any step count: every state decodes, to something positive."""
    model = gaussian(SDES.build(spec), deviation=(0.6, 0.8))
    x = draw("dale-langevin", model, steps, count=500)
    assert (x > 0).all()
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_torchsde_euler_is_euler_maruyama(spec):
    model = gaussian(SDES.build(spec))
    ours, theirs = (model.sde.encode(draw(name, model, 40)) for name in ("euler-maruyama", "torchsde:method=euler"))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spec", ["gbm:sigma=0.8,mu=0.1", "vp"])
@pytest.mark.parametrize("method", METHODS)
def test_every_torchsde_method_runs_and_recovers_the_law(method, spec):
    model = gaussian(SDES.build(spec))
    x = SAMPLERS.build(f"torchsde:method={method}").sample(model, (500, 2), 25)
    assert_moments(model.sde.encode(x), model.means[0], model.deviations[0], bias=0.1)


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[] if m in ("euler", "milstein", "reversible_heun") else pytest.mark.slow) for m in METHODS]
)
def test_torchsde_on_the_ambient_equation(method):
    """State-dependent noise: Stratonovich methods need `−¼ ∇·(g gᵀ)` in the drift. The law in `x` is the same."""
    base = gaussian(SDES.build("gbm:sigma=0.8,mu=0.1"), deviation=(0.3, 0.4))
    sampler = SAMPLERS.build(f"torchsde:method={method}")
    x = sampler.sample(base.ambient(), (500, 2), 100)
    assert (x > 0).all()
    assert_moments(x.log(), base.means[0], base.deviations[0], bias=0.1)
    if method == "euler":
        with pytest.raises(SupportError, match="outside the support"):
            sampler.sample(base.ambient(), (500, 2), 25)


def test_torchsde_runs_on_a_process_that_is_not_affine():
    class Flat(type(gaussian(SDES.build("vp")).ambient())):
        def __init__(self):
            self.sde = BetweenWalls()

        def score(self, z, t):
            return torch.zeros_like(z)

        def prior(self, shape, noise, like):
            return self.sde.prior(shape, noise, like)

    x = SAMPLERS.build("torchsde").sample(Flat(), (4000, 1), 20)
    assert ((x >= 0) & (x <= 1)).all()
    assert float(x.var()) == pytest.approx(1 / 12, rel=0.07)
