"""Whatever the registries say fits, runs: two steps of training, two of sampling, every triple, read off the registries."""

import pytest
import torch

from sdezoo.conformance.bank.cases import typical
from sdezoo.errors import CompositionError, SupportError
from sdezoo.learning.loss import Batch
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.noise_levels import draw_times
from sdezoo.learning.output import OUTPUTS
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.zoo.composition import check_fit, defaults, fitting, fitting_parts, preferred
from sdezoo.zoo.registry import LOSSES, NETWORKS, SAMPLERS, SDES

SDE_NAMES = [name for name, sde in defaults(SDES) if fitting(sde, LOSSES)]
AFFINE = [name for name, sde in defaults(SDES) if isinstance(sde, AffineSDE)]
PRIORS = (["process"], ["full", "white", "process"])
"""Fitted ones are for affine processes alone."""
TRAINED = [(sde, loss) for sde in SDE_NAMES for loss, part in defaults(LOSSES) if part.refuses(SDES.build(sde)) is None]
VECTORS = [name for name, network in defaults(NETWORKS) if network.refuses((3,)) is None]
IMAGES = [name for name, network in defaults(NETWORKS) if network.refuses((1, 8, 8)) is None]


def data(sde, shape):
    return typical(sde, 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def network(sde, spec, event):
    return NETWORKS.build(spec).module(sde.network_input_shape(event))


def train(model, loss, x0, seed=0):
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for step in range(2):
        noise = Noise.seeded(seed, step)
        shape = (len(x0),) + (1,) * (len(model.sde.state_shape(x0.shape)) - 1)
        t = draw_times("log-normal", model, loss.t_span(model.sde), shape, noise, x0)
        value = loss(model, Batch(x0), t, noise)
        assert value.shape == (len(x0),)
        optimizer.zero_grad()
        value.mean().backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
        optimizer.step()


@pytest.mark.parametrize(("sde", "loss", "prior"), [(*pair, prior) for pair in TRAINED for prior in PRIORS[pair[0] in AFFINE]])
def test_every_sampler_runs_on_what_every_loss_trained(sde, loss, prior):
    torch.manual_seed(0)
    process = SDES.build(sde)
    event = process.row_shape or (3,)
    x0 = data(process, (6, *event))
    process = process.adapted(x0)
    model = ScoreModel.for_data(process, network(process, "mlp:width=8,depth=1", event), x0, prior=prior)
    train(model, LOSSES.build(loss), x0)
    for name, sampler in defaults(SAMPLERS):
        if sampler.refuses(process) is not None:
            continue
        try:
            x = sampler.sample(model, (5, *event), 2)
        except SupportError:
            assert not sampler.preserves_support, name
            continue
        assert x.shape == (5, *event)
        assert process.support.check(x).all(), name


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("sde", SDE_NAMES)
def test_every_output_trains_and_samples(sde, output):
    torch.manual_seed(0)
    process = SDES.build(sde)
    event = process.row_shape or (3,)
    x0 = data(process, (6, *event))
    net = network(process, "mlp:width=8,depth=1", event)
    if OUTPUTS[output].refuses(process):
        with pytest.raises(CompositionError):
            ScoreModel.for_data(process, net, x0, output)
        return
    model = ScoreModel.for_data(process, net, x0, output)
    train(model, LOSSES.build(fitting(process, LOSSES)[0]), x0)
    x = SAMPLERS.build(preferred(fitting_parts(process, SAMPLERS), "samplers", "table")).sample(model, (5, *event), 2)
    assert process.support.check(x).all()


@pytest.mark.parametrize("net", IMAGES)
@pytest.mark.parametrize("loss", [name for name, part in defaults(LOSSES) if part.refuses(SDES.build("gbm")) is None])
def test_images(net, loss):
    images_of("gbm", net, loss)


@pytest.mark.parametrize(("sde", "loss"), [("cld", "hsm"), ("zero-inflated", "dsm")])
def test_images_whose_states_hold_more_than_the_data(sde, loss):
    images_of(sde, "unet", loss)


def images_of(sde, net, loss):
    torch.manual_seed(0)
    process = SDES.build(sde)
    check_fit(process, LOSSES.build(loss))
    x0 = data(process, (3, 1, 8, 8))
    small = f"{net}:width=8,multipliers=(1,2)" if net == "unet" else net
    model = ScoreModel.for_data(process, network(process, small, (1, 8, 8)), x0)
    train(model, LOSSES.build(loss), x0)
    x = SAMPLERS.build(preferred(fitting_parts(process, SAMPLERS), "samplers", "image")).sample(model, (2, 1, 8, 8), 2)
    assert x.shape == (2, 1, 8, 8)
    assert process.support.check(x).all()


def test_networks_for_vectors_and_for_images_are_registered():
    assert "mlp" in VECTORS
    assert "unet" in IMAGES
