"""Every output parameterization is a way to write the same score."""

import inspect

import pytest
import torch
from torch import nn

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import gaussian
from sdezoo.errors import CompositionError, SdezooError
from sdezoo.learning.loss import ScoreLoss
from sdezoo.learning.model import Model, ScoreModel
from sdezoo.learning.network import Network
from sdezoo.learning.output import OUTPUTS, Output
from sdezoo.learning.prior import Moments
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Process
from sdezoo.process.sde import ForwardSDE
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.registry import SDES
from tests.analytic import AFFINE_SPECS, at, coordinates, times

FITTING = [(spec, name) for spec in AFFINE_SPECS for name, output in OUTPUTS.items() if output.refuses(SDES.build(spec)) is None]
MOMENTS = Moments(torch.tensor([0.4, -0.1]), torch.tensor([0.8, 1.3]))


class Says(nn.Module):
    """A network whose answer is given; it keeps what it was shown."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x, level):
        self.seen, self.level = x, level
        return self.answer


def target(name, sde, z, t, score):
    """What a perfect network would answer, written from the literature's definitions."""
    k = sde.at(t, z)
    clean = (z - k.shift + k.variance * score) / k.alpha
    eps = -k.sigma * score
    scaled, level = (z - k.shift) / k.alpha, k.sigma / k.alpha
    mean, std = (m.to(z) for m in MOMENTS)
    skip, out = std**2 / (level**2 + std**2), level * std / (level**2 + std**2).sqrt()
    return {
        "score": score,
        "hyvarinen": score - 1,
        "epsilon": eps,
        "denoiser": clean,
        "v": k.alpha * eps - k.sigma * clean,
        "edm": (clean - mean - skip * (scaled - mean)) / out,
    }[name]


@pytest.mark.parametrize("column", [True, False], ids=["(B, 1)", "0-dim"])
@pytest.mark.parametrize(("spec", "name"), FITTING)
def test_all_outputs_tell_the_same_score(spec, name, column):
    sde = SDES.build(spec)
    exact = gaussian(sde)
    t = times(sde, 9) if column else at(0.3)
    z = sde.perturb(sde.decode(coordinates(9, 2)), t, keyed(9))
    score = exact.score(z, t)
    net = Says(target(name, sde, z, t, score))
    model = ScoreModel(sde, net, name, moments=MOMENTS)
    near = {"rtol": 1e-7, "atol": 1e-7}
    torch.testing.assert_close(model.score(z, t), score, **near)
    torch.testing.assert_close(model.denoise(z, t), exact.denoise(z, t), **near)
    torch.testing.assert_close(model.hyvarinen(z, t), exact.hyvarinen(z, t), **near)
    assert net.level.shape == (9,)
    torch.testing.assert_close(net.level.double(), sde.noise_conditioning(t).flatten().expand(9), rtol=1e-6, atol=1e-6)
    if name != "edm":
        assert torch.equal(net.seen, z)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_denoiser_of_gaussian_data_is_their_posterior_mean(spec):
    """Tweedie against Bayes: `E[z_0 | z] = (μ/s² + α (z − m)/v)/(1/s² + α²/v)`."""
    sde = SDES.build(spec)
    t, z = times(sde, 20), coordinates(20, 2)
    k, mean, variance = sde.at(t, z), torch.tensor([0.5, -0.3]), torch.tensor([0.6, 1.1]).double() ** 2
    expected = (mean / variance + k.alpha * (z - k.shift) / k.variance) / (1 / variance + k.alpha**2 / k.variance)
    torch.testing.assert_close(gaussian(sde).denoise(z, t), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_edm_starts_at_the_posterior_mean(spec):
    """Preconditioning alone is the answer for normal data, so the network has nothing left to say."""
    sde = SDES.build(spec)
    t, z = times(sde, 20), coordinates(20, 2)
    moments = Moments(torch.tensor([0.5, -0.3]).double(), torch.tensor([0.6, 1.1]).double())
    model = ScoreModel(sde, Says(torch.zeros_like(z)), "edm", moments=moments)
    torch.testing.assert_close(model.denoise(z, t), gaussian(sde).denoise(z, t), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_edm_input_and_target_have_unit_variance(spec):
    sde = SDES.build(spec)
    for time in (sde.t_span[0], 0.3, sde.t_span[1]):
        t, n = at(time), 20_000
        z0 = coordinates(n, 2)
        z = sde.perturb(sde.decode(z0), t, Noise.seeded(0))
        net = Says(torch.zeros_like(z))
        k, moments = sde.at(t, z), Moments(z0.mean(0), z0.std(0))
        blank = ScoreModel(sde, net, "edm", moments=moments).denoise(z, t)
        c_out = k.ratio * moments.sigma_data / (k.ratio**2 + moments.sigma_data**2).sqrt()
        for unit in (net.seen, (z0 - blank) / c_out):
            torch.testing.assert_close(unit.std(0), torch.ones(2, dtype=torch.float64), rtol=0.03, atol=0)
            assert unit.mean(0).abs().max() < 0.04


def test_default_outputs_and_refusals():
    class Bare(Process):
        def perturb(self, x0, t, noise):
            return x0

        def prior(self, shape, noise, like):
            return noise.normal(like, shape)

    assert SDES.build("vp").default_output == "edm"
    assert Bare().default_output == "epsilon"
    net = Says(torch.zeros(1))
    for sde, name in ((SDES.build("vp"), "hyvarinen"), (Bare(), "v"), (Bare(), "denoiser"), (Bare(), "edm"), (Bare(), "hyvarinen")):
        with pytest.raises(CompositionError, match=name):
            ScoreModel(sde, net, name)
    with pytest.raises(SdezooError, match="Choose one of score"):
        ScoreModel(Bare(), net, "scor")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OUTPUTS)
def test_states_keep_their_dtype_around_a_narrow_network(name, dtype):
    """Only the network may be bfloat16."""
    sde = SDES.build("gbm:sigma=0.8")
    model = ScoreModel(sde, Says(torch.full((3, 2), 0.1, dtype=torch.bfloat16)), name)
    z = coordinates(3, 2).to(dtype)
    for t in (at(0.5), times(sde, 3)):
        for value in (model.score(z, t), model.denoise(z, t), model.hyvarinen(z, t), model.ambient().score(z.exp(), t)):
            assert value.dtype == dtype
            assert value.shape == (3, 2)


@pytest.mark.parametrize("contract", [Process, Conditional, ForwardSDE, AffineSDE, Model, ScoreLoss, Sampler, Network, Output])
def test_abstract_classes_cannot_be_instantiated(contract):
    assert inspect.isabstract(contract)
    with pytest.raises(TypeError, match="abstract"):
        contract()


def test_conditions_reach_the_network_and_strangers_are_refused():
    class Labelled(nn.Module):
        def forward(self, x, level, condition):
            return condition[:, None].expand_as(x).float()

    sde, labels, z = SDES.build("vp"), torch.tensor([1, 2, 3]), torch.zeros(3, 2)
    given = ScoreModel(sde, Labelled(), "score").condition_on(labels)
    assert given.score(z, at(0.5))[:, 0].tolist() == [1, 2, 3]
    assert given.denoise(z, at(0.5)).shape == (3, 2)
    with pytest.raises(CompositionError, match="unconditional"):
        gaussian(sde).condition_on(labels)
