"""What the one loop promises, for every registered sampler on every process it fits."""

import pytest
import torch

from sdezoo.conformance.bank.noise_doubles import Forbidden
from sdezoo.conformance.bank.problems import gaussian
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.learning.model import ScoreModel
from sdezoo.zoo.registry import SAMPLERS, SDES
from sdezoo_plugins.networks.unet import UNet
from tests.analytic import AFFINE_SPECS, SAMPLER_SPECS, at

PAIRS = [(s, p) for s in SAMPLER_SPECS for p in AFFINE_SPECS if SAMPLERS.build(s).refuses(SDES.build(p)) is None]
FIRST_OF_EACH = [(name, "gbm:sigma=0.8") for name in SAMPLER_SPECS]  # which all of them fit
STAYING = [pair for pair in PAIRS if pair[0] != "multiplicative" or pair[1].startswith("gbm:sigma=0.8")]
pairs = pytest.mark.parametrize(("sampler", "sde"), PAIRS)

NFE = {
    "euler-maruyama": lambda n: n,
    "dale-langevin": lambda n: n,
    "multiplicative": lambda n: n,
    "ancestral": lambda n: n,
    "ddim": lambda n: n,
    "ddim:eta=1": lambda n: n,
    "dpmpp-2m": lambda n: n,
    "heun": lambda n: 2 * n - 1,
    "pc": lambda n: 2 * n - 1,
    "pc:inner=3": lambda n: 4 * n - 3,
    "torchsde": lambda n: n,
    "dale-langevin:preset=paper": lambda n: n,
    "dale-langevin:preset=paper,recipe=kmnist": lambda n: 3 * n,
    "dale-langevin:preset=paper,recipe=cifar10": lambda n: 6 * n,
    "multiplicative:preset=paper": lambda n: 4 * n,
    "multiplicative:preset=paper,recipe=fashion": lambda n: 3 * n,
}


def test_every_sampler_fits_something():
    assert {name for name, _ in PAIRS} == set(SAMPLER_SPECS)


@pytest.mark.parametrize("steps", [1, 2, 20])
@pytest.mark.parametrize("spec", NFE)
def test_network_evaluations(spec, steps):
    """What each sampler's docstring says; a step of torchsde's Euler method is one evaluation too."""
    model = gaussian(SDES.build("gbm:sigma=0.1"))
    SAMPLERS.build(spec).sample(model, (3, 2), steps)
    assert model.evaluations == NFE[spec](steps)


@pairs
def test_last_step_is_free_of_noise_and_asks_for_no_score_at_zero(sampler, sde):
    sampler, model = SAMPLERS.build(sampler), gaussian(SDES.build(sde))
    view, lo = sampler.view(model), model.sde.t_span[0]
    z = view.sde.encode(model.sde.decode(model.clean(4)), None)
    end, _ = sampler.step(view, z, at(lo), at(0.0), Forbidden(), None)
    assert torch.isfinite(end).all()


@pytest.mark.parametrize(("sampler", "sde"), STAYING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_dtype_shape_and_support(sampler, sde, dtype, steps):
    model = gaussian(SDES.build(sde))
    if sampler == "multiplicative" and steps < 20:
        steps = 30
    x = SAMPLERS.build(sampler).sample(model, (3, 2), steps, like=torch.empty((), dtype=dtype))
    assert x.dtype == dtype
    assert x.shape == (3, 2)
    assert model.sde.support.check(x).all()


@pytest.mark.parametrize(("sampler", "sde"), FIRST_OF_EACH)
def test_a_sample_depends_on_seed_and_index_alone(sampler, sde):
    sampler, model = SAMPLERS.build(sampler), gaussian(SDES.build(sde))
    state = torch.get_rng_state()
    whole = sampler.sample(model, (7, 2), 60, seed=3)
    assert torch.equal(whole, sampler.sample(model, (7, 2), 60, seed=3))
    parts = [sampler.sample(model, (n, 2), 60, seed=3, first=first) for first, n in ((0, 3), (3, 1), (4, 3))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(whole, sampler.sample(model, (7, 2), 60, seed=4))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("sampler", "sde"), FIRST_OF_EACH)
def test_float64_follows_the_path_of_float32(sampler, sde):
    sampler, model = SAMPLERS.build(sampler), gaussian(SDES.build(sde))
    narrow, wide = (sampler.sample(model, (4, 2), 60, like=torch.empty((), dtype=d)) for d in (torch.float32, torch.float64))
    torch.testing.assert_close(narrow.double(), wide, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("sampler", "sde"), FIRST_OF_EACH)
def test_start_and_callback(sampler, sde):
    sampler, model = SAMPLERS.build(sampler), gaussian(SDES.build(sde))
    seen = []
    start = model.sde.decode(model.clean(4).float())
    x = sampler.sample(model, (4, 2), 60, start=start, callback=lambda k, z, t: seen.append((k, z, float(t))))
    assert [k for k, _, _ in seen] == list(range(1, 61))
    assert [t for _, _, t in seen] == sampler.grid(sampler.view(model), 60)[1:].tolist()
    assert torch.equal(sampler.view(model).sde.decode(seen[-1][1]), x)
    assert not torch.allclose(x, sampler.sample(model, (4, 2), 60, start=2 * start))


@pytest.mark.parametrize("sampler", SAMPLER_SPECS)
def test_no_gradient_is_recorded_and_grad_mode_is_left_alone(sampler):
    model = gaussian(SDES.build("gbm:sigma=0.8"))
    model.means = model.means.clone().requires_grad_()
    assert not SAMPLERS.build(sampler).sample(model, (2, 2), 60).requires_grad
    assert torch.is_grad_enabled()
    with torch.inference_mode():
        SAMPLERS.build(sampler).sample(model, (2, 2), 60)


@pytest.mark.parametrize(("sampler", "sde"), [(s, p) for s in SAMPLER_SPECS for p in AFFINE_SPECS if (s, p) not in PAIRS])
def test_a_process_that_does_not_fit_is_refused_before_anything_is_drawn(sampler, sde):
    model = gaussian(SDES.build(sde))
    with pytest.raises(CompositionError, match=f"'{sampler}' needs"):
        SAMPLERS.build(sampler).sample(model, (2, 2), 5)
    assert model.evaluations == 0


@pytest.mark.parametrize("spec", ["dpmpp-2m", "dpmpp-2m-sde"])
def test_a_sample_is_the_same_in_every_batch(spec):
    """Up to what a network's own arithmetic does with another batch."""
    torch.manual_seed(0)
    net = UNet(width=8).module((1, 8, 8)).eval()
    for parameter in net.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)  # a fresh network says nothing
    model, sampler = ScoreModel(SDES.build("gbm:sigma=0.8"), net), SAMPLERS.build(spec)
    whole = sampler.sample(model, (64, 1, 8, 8), 10)
    for size in (1, 7):
        parts = [sampler.sample(model, (size, 1, 8, 8), 10, first=first) for first in range(0, 21, size)]
        assert (torch.cat(parts)[:21].log() - whole[:21].log()).abs().max() <= 1e-5
    chosen = [17, 3, 50]
    assert (sampler.sample(model, (3, 1, 8, 8), 10, rows=chosen).log() - whole[chosen].log()).abs().max() <= 1e-5
    with pytest.raises(ParameterError, match="2 rows were given for 3 samples"):
        sampler.sample(model, (3, 1, 8, 8), 10, rows=[1, 2])
