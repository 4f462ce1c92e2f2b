"""Noise that is a matrix: what follows from `diffuse` alone, solvers, the likelihood, and who refuses it."""

import pytest
import torch

from sdezoo import SAMPLERS, SDES, CompositionError, ParameterError, load_file, log_likelihood
from sdezoo.conformance.bank.problems import Mixture
from sdezoo.conformance.bank.sampler_problems import Sheared, ShearedMixture, sheared
from sdezoo.conformance.bank.step_problems import ShearedInClosedForm
from sdezoo.conformance.law import BoundLaw
from sdezoo.conformance.laws.sampler_laws import SAMPLER_LAWS
from sdezoo.process.differentiation import along
from sdezoo.process.noise import KeyedNoise
from sdezoo.process.sde import MatrixSDE

T = torch.tensor(0.4, dtype=torch.float64)
Z = torch.tensor([[0.7, -1.2, 0.3], [-0.4, 0.1, 2.0]], dtype=torch.float64)


def model(lo=1e-4):
    sde = Sheared(1.0, lo)
    means, deviations = torch.tensor([[-0.8, 0.3], [0.9, -0.2]]), torch.tensor([[0.5, 0.2], [0.2, 0.6]])
    return ShearedMixture(sde, Mixture(sde.flat, means, deviations, torch.tensor([0.8, 0.2])))


def test_the_columns_are_the_matrix():
    """`σ J(X)`: the identity with `X_0` below its first entry."""
    for row, columns in zip(Z, Sheared(2.0).columns(Z, T).unbind(1), strict=True):
        expected = 2.0 * torch.eye(3, dtype=torch.float64)
        expected[0, 1:] = 2.0 * row[0]
        torch.testing.assert_close(columns, expected)


def test_what_follows_from_the_columns():
    sde, s = Sheared(2.0), torch.sin(3 * Z)
    matrices = sde.columns(Z, T).movedim(0, -1)
    torch.testing.assert_close(sde.ggt(Z, T, s), (matrices @ matrices.mT @ s[..., None])[..., 0])
    torch.testing.assert_close(sde.divergence(Z, T), ShearedInClosedForm(2.0).divergence(Z, T))
    torch.testing.assert_close(sde.divergence(Z, T), torch.tensor([[0.0, 4.0, 4.0]], dtype=torch.float64).expand(2, 3))
    torch.testing.assert_close(sde.stratonovich_correction(Z, T), torch.tensor([[0.0, 2.0, 2.0]], dtype=torch.float64).expand(2, 3))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_derivatives_are_the_same_without_gradients(mode):
    sde = Sheared()
    expected = sde.reverse_drift(Z, T, Z), sde.stratonovich_correction(Z, T)
    with mode():
        for found, right in zip((sde.reverse_drift(Z, T, Z), sde.stratonovich_correction(Z, T)), expected, strict=True):
            torch.testing.assert_close(found, right)


def test_the_flow_of_matrix_noise_can_be_differentiated():
    """The likelihood differentiates the flow, in which the divergence is a derivative already."""
    sde = Sheared()
    _, slope = along(lambda z: sde.reverse_drift(z, T, -z, half=0.5), Z, torch.ones_like(Z))
    assert slope.isfinite().all()
    assert (slope != 0).any()


def test_the_likelihood_is_that_of_the_exact_density():
    """Shearing keeps volumes, so the density is that of the flat coordinates."""
    exact = model(1e-3)
    y = torch.tensor([[-0.8, 0.3], [0.5, -0.4], [1.0, 0.6]], dtype=torch.float64)
    lo = torch.tensor(1e-3, dtype=torch.float64)

    def prior(z):
        return exact.law.log_density(sheared(z, -1), torch.tensor(1.0, dtype=torch.float64))

    found = log_likelihood(exact, sheared(y), noised=True, prior=prior, steps=16)
    torch.testing.assert_close(found, exact.law.log_density(y, lo), rtol=0, atol=2e-3)


@pytest.mark.parametrize("method", ["midpoint", "reversible_heun"])
def test_solvers_in_the_sense_of_stratonovich_are_right(method):
    BoundLaw(SAMPLER_LAWS["matrix-noise-recovered"], SAMPLERS.build(f"torchsde:method={method}"))()


@pytest.mark.parametrize("spec", ["pc", "torchsde:method=milstein", "torchsde:method=srk", "torchsde:method=log_ode", "dpmpp-2m"])
def test_who_cannot_apply_a_matrix_refuses(spec):
    sampler = SAMPLERS.build(spec)
    assert sampler.refuses(Sheared())
    with pytest.raises(CompositionError, match="needs"):
        sampler.sample(model(), (2, 2), 3)


@pytest.mark.parametrize(("method", "taken"), [("euler", True), ("heun", True), ("milstein", False), ("srk", False), ("log_ode", False)])
def test_methods_for_diagonal_noise_refuse_noise_that_depends_on_other_entries(method, taken):
    reason = SAMPLERS.build(f"torchsde:method={method}").refuses(SDES.build("wright-fisher"))
    assert reason is None if taken else "noise of one entry depends on others" in reason


def test_stages_of_a_step_obey_the_boundary_rule():
    BoundLaw(SAMPLER_LAWS["walls-hold"], SAMPLERS.build("torchsde:method=srk"))()


def test_a_matrix_has_no_diffusion_entry_by_entry():
    with pytest.raises(CompositionError, match=r"is a matrix, not a number for each entry\. Apply it with `diffuse`"):
        Sheared().diffusion(Z, T)


def test_default_noise_is_the_diffusion_times_the_increment():
    class Diagonal(Sheared):
        diffusion = lambda self, z, t: 1 + z**2  # noqa: E731
        diffuse = MatrixSDE.__mro__[1].diffuse

    dw = KeyedNoise(0, range(2)).normal(Z)
    assert torch.equal(Diagonal().diffuse(Z, T, dw), (1 + Z**2) * dw)


KNOWN = """
from dataclasses import dataclass
from sdezoo import Conditional
from sdezoo.conformance.bank.sampler_problems import Sheared

@dataclass(frozen=True)
class Known(Sheared, Conditional):
    \"\"\"Sheared Brownian motion, said to know its score.\"\"\"
"""


def test_a_product_refuses_a_part_whose_noise_is_a_matrix(tmp_path):
    (tmp_path / "known.py").write_text(KNOWN, encoding="utf-8")
    (name,) = load_file(tmp_path / "known.py")
    try:
        with pytest.raises(ParameterError, match="is a matrix, which a product cannot apply"):
            SDES.build(f"product:{name}[a;b],vp[c]")
    finally:
        SDES.remove(name)
