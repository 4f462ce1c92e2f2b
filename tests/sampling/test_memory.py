"""What a sampler needs of a process, and what it remembers, are its type arguments."""

import pytest
import torch

from sdezoo.process.affine import AffineSDE
from sdezoo.process.sde import ForwardSDE
from sdezoo.sampling.sampler import Sampler
from sdezoo_plugins.sdes.affine.vp import VP


class Plain(Sampler[ForwardSDE]):
    """It remembers nothing."""


class Keeps(Sampler[AffineSDE, tuple[torch.Tensor, int]]):
    """It remembers a tensor and a number."""


class KeepsAProcess(Sampler[AffineSDE, VP]):
    """What is remembered is no requirement, even where it is a process."""


@pytest.mark.parametrize(("sampler", "needs"), [(Plain, ForwardSDE), (Keeps, AffineSDE), (KeepsAProcess, AffineSDE)])
def test_what_a_sampler_needs_is_its_first_argument(sampler, needs):
    assert sampler.requires is needs
