"""The laws of every SDE, and what is special to the hyperbolic diffusion: its coordinates."""

import pytest
import torch
from sdezoo_hyperbolic import Hyperbolic, SinhTransform

from sdezoo import SDES, Noise
from sdezoo.conformance import sde_laws


@pytest.mark.parametrize("law", sde_laws(Hyperbolic()))
def test_law(law):
    law()


def test_sdezoo_finds_it():
    assert SDES.build("hyperbolic:sigma=1.1") == Hyperbolic(sigma=1.1)


def test_the_coordinates_are_those_of_torch_composed_by_hand():
    z = torch.linspace(-8, 8, 33, dtype=torch.float64)
    phi = SinhTransform()
    assert torch.allclose(phi.inv(phi(z)), z, atol=1e-12)
    slope = torch.func.vmap(torch.func.grad(phi))(z)
    assert torch.allclose(phi.log_abs_det_jacobian(z, phi(z)), slope.log())


def test_draws_are_normal_in_asinh():
    x0 = torch.full((100_000, 1), -0.7, dtype=torch.float64)
    z = Hyperbolic(sigma=2.0).perturb(x0, torch.tensor(0.5, dtype=torch.float64), Noise.seeded(0))
    assert abs(float(z.mean()) - float(x0[0].asinh())) < 4.5 / len(x0) ** 0.5
    assert abs(float(z.std()) - 1) < 0.01
