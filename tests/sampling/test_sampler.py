"""What the one loop promises beyond the laws of samplers, which every sampler is tried on in `tests/conformance`."""

import pytest
import torch

from sdezoo.conformance.bank.problems import gaussian
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.learning.model import ScoreModel
from sdezoo.zoo.registry import SAMPLERS, SDES
from sdezoo_plugins.networks.unet import UNet
from tests.analytic import AFFINE_SPECS, SAMPLER_SPECS

each_sampler = pytest.mark.parametrize("sampler", SAMPLER_SPECS)

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


@pytest.mark.parametrize("spec", NFE)
def test_network_evaluations(spec):
    """What each sampler's docstring says; a step of torchsde's Euler method is one evaluation too."""
    for steps in (1, 2, 20):
        model = gaussian(SDES.build("gbm:sigma=0.1"))
        SAMPLERS.build(spec).sample(model, (3, 2), steps)
        assert model.evaluations == NFE[spec](steps)


@each_sampler
def test_float64_follows_the_path_of_float32(sampler):
    sampler, model = SAMPLERS.build(sampler), gaussian(SDES.build("gbm:sigma=0.8"))
    narrow, wide = (sampler.sample(model, (4, 2), 60, like=torch.empty((), dtype=d)) for d in (torch.float32, torch.float64))
    torch.testing.assert_close(narrow.double(), wide, rtol=2e-3, atol=2e-3)


@each_sampler
def test_no_gradient_is_recorded_and_grad_mode_is_left_alone(sampler):
    model = gaussian(SDES.build("gbm:sigma=0.8"))
    model.means = model.means.clone().requires_grad_()
    assert not SAMPLERS.build(sampler).sample(model, (2, 2), 60).requires_grad
    assert torch.is_grad_enabled()
    with torch.inference_mode():
        SAMPLERS.build(sampler).sample(model, (2, 2), 60)


@each_sampler
def test_a_process_that_does_not_fit_is_refused_before_anything_is_drawn(sampler):
    for sde in AFFINE_SPECS:
        model = gaussian(SDES.build(sde))
        if SAMPLERS.build(sampler).refuses(model.sde) is None:
            continue
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
