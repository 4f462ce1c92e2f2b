"""What losses are beyond their laws: finite on every affine process, and the multiplicative one is the additive one of `log x`."""

import re

import pytest
import torch

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.errors import CompositionError
from sdezoo.learning.loss import Batch
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.prior import Moments
from sdezoo.zoo.composition import check_fit, defaults
from sdezoo.zoo.registry import LOSSES, NETWORKS, SDES
from tests.analytic import AFFINE_SPECS, coordinates, times

VARIANTS = [
    "dsm:weighting=paper",
    "dsm:weighting=uniform",
    "mult-dsm:weighting=paper",
    "mult-dsm:weighting=uniform",
    "nonneg-sm:levels=data",
]
LOSS_SPECS = [name for name, _ in defaults(LOSSES)] + VARIANTS
MOMENTS = Moments(torch.tensor([0.2, 0.0, -0.1]), torch.tensor([0.8, 0.6, 1.0]))


def network(seed=0):
    """A small multilayer perceptron whose last layer is not the zero it starts from."""
    torch.manual_seed(seed)
    net = NETWORKS.build("mlp:width=16,depth=1").module((3,)).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net


def model(sde, output=None):
    return ScoreModel(sde, network(), output, moments=MOMENTS)


@pytest.mark.parametrize("sde", AFFINE_SPECS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_loss_is_finite_at_both_ends_of_time(sde, dtype):
    sde = SDES.build(sde)
    for loss in map(LOSSES.build, LOSS_SPECS):
        if loss.refuses(sde) is not None:
            continue
        student = ScoreModel(sde, network().to(dtype), moments=MOMENTS)
        t = torch.tensor(loss.t_span(sde), dtype=torch.float64).repeat_interleave(20)[:, None]
        value = loss(student, Batch(sde.decode(coordinates(40, 3).to(dtype))), t, keyed(40))
        assert value.dtype == dtype, loss.spec
        assert torch.isfinite(value).all(), loss.spec
        value.mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in student.parameters()), loss.spec


@pytest.mark.parametrize("output", ["edm", "denoiser", "v", "epsilon", "score"])
@pytest.mark.parametrize("weighting", ["paper", "uniform", "edm"])
def test_multiplicative_is_additive_on_log_x(output, weighting):
    """`gbm` with `mult-dsm` *is* `ve` with the same σ(t) and `dsm` on `log x`, loss and gradients, for `μ = σ²/2`."""
    low, high = 0.05, 3.0
    r = torch.tensor(high / low, dtype=torch.float64)
    start = float(low * (2 * r.log()).sqrt())
    positive = SDES.build(f"gbm:sigma={start!r},sigma_end={float(start * r)!r}")
    real = SDES.build(f"ve:sigma_min={low},sigma_max={high}")
    n = 64
    z0, t = coordinates(n, 3), times(real, n)
    results = []
    for sde, loss, x0 in ((positive, "mult-dsm", z0.exp()), (real, "dsm", z0)):
        student = model(sde, output)
        value = LOSSES.build(f"{loss}:weighting={weighting}")(student, Batch(x0), t, keyed(n))
        value.mean().backward()
        results.append([value.detach(), *(p.grad for p in student.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12 * float(b.abs().max()))


@pytest.mark.parametrize("spec", [s for s in AFFINE_SPECS if SDES.build(s).multiplicative])
def test_authors_weight_is_the_error_of_the_denoiser(spec):
    """`v² ‖X∘s_θ − X∘s‖² = α² ‖D_θ − log x_0‖²`; the target is the paper's formula."""
    sde = SDES.build(spec)
    n = 32
    z0, t, student = coordinates(n, 3), times(sde, n), model(sde)
    value = LOSSES.build("mult-dsm:weighting=paper")(student, Batch(z0.exp()), t, keyed(n))
    z = sde.perturb(z0.exp(), t, keyed(n))
    torch.testing.assert_close(value, (sde.at(t, z).alpha ** 2 * (student.denoise(z, t) - z0) ** 2).sum(1), rtol=1e-7, atol=1e-10)
    if spec.startswith("gbm:sigma=0.8"):
        mu = 0.32 if sde.mu is None else sde.mu
        hyvarinen = -1 - ((z - z0) - (mu - 0.32) * t) / (0.64 * t)
        torch.testing.assert_close(sde.score(z, z0.exp(), t) - 1, hyvarinen, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_defaults_of_dsm(spec):
    sde = SDES.build(spec)
    args = (model(sde), Batch(sde.decode(coordinates(5, 3))), times(sde, 5))
    torch.testing.assert_close(LOSSES.build("dsm")(*args, keyed(5)), LOSSES.build("dsm:weighting=edm")(*args, keyed(5)))


def test_only_nonneg_sm_on_data_looks_at_one_time():
    sde = SDES.build("gbm")
    assert {spec: LOSSES.build(spec).t_span(sde) for spec in LOSS_SPECS if LOSSES.build(spec).t_span(sde) != sde.t_span} == {
        "nonneg-sm:levels=data": (sde.t_span[0], sde.t_span[0])
    }


@pytest.mark.parametrize("loss", ["mult-dsm", "nonneg-sm"])
def test_losses_of_positive_data_refuse_the_real_line(loss):
    with pytest.raises(CompositionError) as error:
        check_fit(SDES.build("vp"), LOSSES.build(loss))
    assert "multiplicative noise; 'vp' lives on the real line" in error.value.problem
    assert "Fits 'vp': confined-sm, dsm, sliced-sm" in error.value.remedy
    assert re.search(f"Fits '{loss}': --sde .*gbm", error.value.remedy)
