"""The Itô form on the data, and the divergence term that multiplicative noise needs."""

from dataclasses import dataclass

import pytest
import torch

from sdezoo.conformance.bank.problems import gaussian
from sdezoo.errors import SupportError
from sdezoo.learning.model import Model
from sdezoo.process.affine import Ambient
from sdezoo.zoo.registry import SDES
from sdezoo_plugins.samplers.general.euler_maruyama import EulerMaruyama
from tests.analytic import AFFINE_SPECS, GBM_SPECS, assert_moments, at, coordinates


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spec", GBM_SPECS)
def test_geometric_brownian_motion_in_x(spec, dtype):
    """`f = μ x` and `g = σ x`, to rounding."""
    sde = SDES.build(spec)
    x = coordinates(40, 3).exp().to(dtype)
    for time in (0.01, 0.5, 1.0):
        t = at(time)
        variance = sde.rates(t)[2]
        mu = variance / 2 if sde.mu is None else at(sde.mu)
        tolerance = {"rtol": 40 * torch.finfo(dtype).eps, "atol": 0}
        torch.testing.assert_close(sde.ambient().diffusion(x, t), (variance.sqrt() * x.double()).to(dtype), **tolerance)
        torch.testing.assert_close(sde.ambient().drift(x, t), (mu * x.double()).to(dtype), rtol=400 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_divergence_is_that_of_the_full_jacobian(spec):
    """`(∇·(g gᵀ))_i = Σ_j ∂_j (g gᵀ)_ij`."""
    sde, t = SDES.build(spec), at(0.6)
    x = sde.decode(coordinates(5, 4))
    for view in (sde, sde.ambient()):

        def ggt(row, view=view):
            g = (torch.zeros_like(row[None]) + view.diffusion(row[None], t))[0]
            return torch.diag(g * g)

        full = torch.stack([torch.einsum("ijj->i", torch.func.jacrev(ggt)(row)) for row in x])
        torch.testing.assert_close(view.divergence(x, t), full, rtol=1e-10, atol=1e-12)
        with torch.inference_mode():
            torch.testing.assert_close(view.divergence(x, t), full, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_ambient_score_is_the_gradient_in_x(spec):
    """`∇_x log p_x(x)` with `log p_x = log p_z(φ⁻¹ x) − Σ log φ'`, by autograd."""
    sde, t = SDES.build(spec), at(0.4)
    model = gaussian(sde)
    mean, variance = model.components(torch.empty(0, 2, dtype=torch.float64), t)
    x = sde.decode(coordinates(6, 2)).requires_grad_()
    z = sde.encode(x)
    log_p = (-0.5 * (z - mean) ** 2 / variance - sde.coordinates.log_abs_det_jacobian(z, x)).sum()
    (expected,) = torch.autograd.grad(log_p, x)
    x = x.detach()
    torch.testing.assert_close(model.ambient().score(x, t), expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(model.hyvarinen(sde.encode(x), t), x * expected, rtol=1e-9, atol=1e-10)


@dataclass(frozen=True)
class Undivergent(Ambient):
    """The ambient equation as toolkits for additive noise reverse it."""

    def divergence(self, z, t):
        return torch.zeros_like(z)


class OnData(Model):
    """The ambient view of an exact model, with a process of our choice."""

    def __init__(self, model, sde):
        self.model, self.sde = model.ambient(), sde

    def score(self, z, t):
        return self.model.score(z, t)

    def prior(self, shape, noise, like):
        return self.model.prior(shape, noise, like)


@pytest.mark.parametrize(("process", "recovers"), [(Ambient, True), (Undivergent, False)])
def test_reversal_in_x_needs_the_divergence(process, recovers):
    base = SDES.build("gbm:sigma=0.8,mu=0.1")
    exact = gaussian(base, [0.5], [0.6])
    x = EulerMaruyama(spacing="uniform").sample(OnData(exact, process(base)), (4000, 1), 200, seed=1)
    law = (x.log(), torch.tensor(0.5), torch.tensor(0.6), 0.06)
    if recovers:
        assert_moments(*law)
    else:
        with pytest.raises(AssertionError, match="mean is off"):
            assert_moments(*law)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decoding_out_of_range_is_an_error(dtype):
    """Neither `inf` nor 0 comes out of `exp`."""
    sde = SDES.build("gbm")
    for far in (1000.0, -1000.0, float("nan")):
        with pytest.raises(SupportError, match="1 values"):
            sde.decode(torch.tensor([[0.0, far]], dtype=dtype))
    assert torch.isfinite(sde.decode(torch.tensor([100.0], dtype=torch.float64))).all()
    with pytest.raises(SupportError):
        sde.decode(torch.tensor([100.0]))
