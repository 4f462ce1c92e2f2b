"""Refusals say why, and what would fit."""

from functools import partial

import pytest
import torch

from sdezoo.errors import CompositionError
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.zoo.composition import check_fit, check_network, check_output, defaults, fitting, preferred_network, support_in_words
from sdezoo.zoo.registry import LOSSES, NETWORKS, SAMPLERS, SDES
from tests.process.edges import BetweenWalls, Kinetic, Stable

PARTS = [(registry, name) for registry in (LOSSES, SAMPLERS) for name, _ in defaults(registry)]
REFUSED = [(r, name, sde) for r, name in PARTS for sde, process in defaults(SDES) if r.build(name).refuses(process)]


@pytest.mark.parametrize(("registry", "part", "sde"), REFUSED, ids=[f"{part}-{sde}" for _, part, sde in REFUSED])
def test_every_refusal_names_what_fits_both(registry, part, sde):
    process = SDES.build(sde)
    with pytest.raises(CompositionError) as error:
        check_fit(process, registry.build(part))
    assert error.value.problem.startswith(f"{registry.kind} '{part}' needs ")
    assert f"'{sde}' lives on {support_in_words(process.support)}." in error.value.problem
    of_sde, of_part = error.value.remedy.split(".   ")
    assert of_sde == f"Fits '{sde}': " + (", ".join(fitting(process, registry)) or "no installed plugin")
    named = of_part.removeprefix(f"Fits '{part}': --sde ").removesuffix(".").split(", ")
    assert sde not in named
    for other in named:
        check_fit(SDES.build(other), registry.build(part))


def test_the_refusal_of_the_design():
    with pytest.raises(CompositionError) as error:
        check_fit(SDES.build("ve"), SAMPLERS.build("dale-langevin"))
    assert error.value.problem == (
        "sampler 'dale-langevin' needs an SDE on positive data with multiplicative noise; 've' lives on the real line."
    )
    fits = ", ".join(fitting(SDES.build("ve"), SAMPLERS))
    assert "euler-maruyama, heun, pc" in fits
    positive = ", ".join(name for name, sde in defaults(SDES) if SAMPLERS.build("dale-langevin").refuses(sde) is None)
    assert "gbm" in positive
    assert error.value.remedy == f"Fits 've': {fits}.   Fits 'dale-langevin': --sde {positive}."


def test_what_composes():
    affine, multiplicative = {"ancestral", "ddim", "dpmpp-2m", "heun", "pf-ode", "unipc"}, {"dale-langevin", "multiplicative"}
    assert affine | multiplicative <= set(fitting(SDES.build("gbm"), SAMPLERS))
    for name in ("vp", "ve", "subvp"):
        assert affine <= set(fitting(SDES.build(name), SAMPLERS))
        assert multiplicative.isdisjoint(fitting(SDES.build(name), SAMPLERS))
        assert {"dsm", "sliced-sm"} <= set(fitting(SDES.build(name), LOSSES))
        assert {"mult-dsm", "nonneg-sm"}.isdisjoint(fitting(SDES.build(name), LOSSES))
    assert {"dsm", "mult-dsm", "nonneg-sm", "sliced-sm"} <= set(fitting(SDES.build("gbm"), LOSSES))


def test_capabilities_in_words():
    for sde, part, words in (
        (Stable(), SAMPLERS.build("heun"), "needs an SDE (a drift and a diffusion)"),
        (BetweenWalls(), SAMPLERS.build("ddim"), "needs an affine SDE (Gaussian in its coordinates)"),
        (Kinetic(), SAMPLERS.build("torchsde"), "needs an SDE with one Brownian motion for every entry of its state"),
    ):
        with pytest.raises(CompositionError) as error:
            check_fit(sde, part)
        assert words in error.value.problem
    assert support_in_words(BetweenWalls().support) == "the unit interval"
    assert support_in_words(SDES.build("gbm").support) == "the positive numbers"


def test_outputs_that_do_not_fit_are_refused_with_those_that_do():
    for sde, output, fits in (
        ("vp", "hyvarinen", "score, epsilon, denoiser, v, edm"),
        ("gbm", "nope", "score, hyvarinen, epsilon, denoiser, v, edm"),
    ):
        with pytest.raises(CompositionError, match=f"output '{output}'") as error:
            check_output(SDES.build(sde), output)
        assert error.value.remedy == f"Fits '{sde}': {fits}."
    check_output(SDES.build("gbm"), "hyvarinen")


def test_registered_sdes_state_their_support():
    for _, sde in defaults(SDES):
        if isinstance(sde, AffineSDE):
            assert sde.support is sde.coordinates.codomain
        assert sde.support.check(sde.decode(sde.encode(torch.full((1, 2), 1.0 if sde.support.is_discrete else 0.5), Noise.seeded(0)))).all()


def test_images_that_no_network_takes_are_called_points():
    for refuse in (partial(check_network, NETWORKS.build("unet")), preferred_network):
        with pytest.raises(CompositionError) as error:
            refuse((3, 1, 1))
        assert error.value.remedy == "Give them as points (N, 3), which mlp takes."
