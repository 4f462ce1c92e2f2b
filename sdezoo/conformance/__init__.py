"""Laws that every plugin must obey, as tests for plugin authors.

Each function takes a plugin, as an object or as a spec string, and returns the laws that apply to it as named tests::

    @pytest.mark.parametrize("law", sde_laws(MyProcess()))
    def test_law(law):
        law()

A broken law raises `sdezoo.conformance.law.LawError`, an `AssertionError`, with the smallest falsifying example found.
`sdezoo check` tries the same laws.
"""

from __future__ import annotations

from sdezoo.conformance.law import BoundLaw
from sdezoo.conformance.laws.loss_laws import LOSS_LAWS
from sdezoo.conformance.laws.sampler_laws import SAMPLER_LAWS
from sdezoo.conformance.laws.sde_laws import SDE_LAWS
from sdezoo.conformance.steering.architecture_laws import ARCHITECTURE_LAWS
from sdezoo.conformance.steering.guide_laws import GUIDE_LAWS
from sdezoo.conformance.steering.optimizer_laws import OPTIMIZER_LAWS
from sdezoo.learning.loss import ScoreLoss
from sdezoo.learning.network import Network
from sdezoo.learning.optimizer import Optimizer
from sdezoo.process.process import Process
from sdezoo.sampling.guide import Guide
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.registry import GUIDES, LOSSES, NETWORKS, OPTIMIZERS, SAMPLERS, SDES

__all__ = ["guide_laws", "loss_laws", "network_laws", "optimizer_laws", "sampler_laws", "sde_laws"]


def sde_laws(sde: Process | str) -> list[BoundLaw[Process]]:
    """Laws that apply to a process.

    Args:
        sde: The process, or its spec string.
    """
    return SDE_LAWS.bind(SDES.build(sde) if isinstance(sde, str) else sde)


def loss_laws(loss: ScoreLoss | str) -> list[BoundLaw[ScoreLoss]]:
    """Laws that apply to a loss.

    Args:
        loss: The loss, or its spec string.
    """
    return LOSS_LAWS.bind(LOSSES.build(loss) if isinstance(loss, str) else loss)


def sampler_laws(sampler: Sampler | str) -> list[BoundLaw[Sampler]]:
    """Laws that apply to a sampler.

    Args:
        sampler: The sampler, or its spec string.
    """
    return SAMPLER_LAWS.bind(SAMPLERS.build(sampler) if isinstance(sampler, str) else sampler)


def guide_laws(guide: Guide | str) -> list[BoundLaw[Guide]]:
    """Laws that apply to a guide.

    Args:
        guide: The guide, or its spec string.
    """
    return GUIDE_LAWS.bind(GUIDES.build(guide) if isinstance(guide, str) else guide)


def optimizer_laws(optimizer: Optimizer | str) -> list[BoundLaw[Optimizer]]:
    """Laws that apply to an optimizer.

    Args:
        optimizer: The optimizer, or its spec string.
    """
    return OPTIMIZER_LAWS.bind(OPTIMIZERS.build(optimizer) if isinstance(optimizer, str) else optimizer)


def network_laws(network: Network | str) -> list[BoundLaw[Network]]:
    """Laws that apply to a network.

    Args:
        network: The network, or its spec string.
    """
    return ARCHITECTURE_LAWS.bind(NETWORKS.build(network) if isinstance(network, str) else network)
