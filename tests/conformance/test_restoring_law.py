"""The law of restoring runs through the real files and registries, and leaves both as they were."""

import contextlib
from dataclasses import dataclass

import pytest
import torch

from sdezoo import ForwardSDE
from sdezoo.conformance.law import LawError
from sdezoo.conformance.laws.restoring_laws import restored
from sdezoo.zoo.registry import NETWORKS, SDES
from tests.process.edges import BetweenWalls

SPREADS = torch.tensor([2.0])


@dataclass(frozen=True)
class SeenOverSpreads(ForwardSDE):
    """Ornstein–Uhlenbeck, whose network sees the state over a tensor that the module made when it was imported."""

    def drift(self, z, t):
        return -3 * z

    def diffusion(self, z, t):
        return torch.full_like(z, 6**0.5)

    def prior(self, shape, noise, like):
        return noise.normal(like, shape)

    def network_input(self, z, t):
        return z / SPREADS.to(z.dtype)


@dataclass(frozen=True)
class Forgetful(BetweenWalls):
    """Its record lacks a field."""

    @property
    def full_spec(self):
        return self.title()


@dataclass(frozen=True)
class Unready(BetweenWalls):
    """It shows a network nothing of data that are all zero, as those of `network_input_shape` are."""

    def network_input(self, z, t):
        if not z.any():
            raise RuntimeError("the moon is in the way")
        return z


def test_a_tensor_made_at_import_is_no_reason_to_fail():
    restored.check(SeenOverSpreads())


def test_a_record_that_lacks_a_field_is_found():
    restored.check(Forgetful())
    with pytest.raises(LawError, match="The restored process is forgetful-under-the-laws"):
        restored.check(Forgetful(sigma=0.7))


def test_the_words_of_a_plugin_that_fails_are_passed_on():
    with pytest.raises(RuntimeError, match="the moon is in the way"):
        restored.check(Unready())


@pytest.mark.parametrize("sde", [SeenOverSpreads(), Forgetful(sigma=0.7)])
def test_the_registries_are_left_as_they_were(sde):
    before = SDES.names(), NETWORKS.names(), sde.spec
    with contextlib.suppress(LawError):
        restored.check(sde)
    assert (SDES.names(), NETWORKS.names(), sde.spec) == before
