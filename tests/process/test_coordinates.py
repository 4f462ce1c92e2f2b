"""Coordinates of an affine process: what saturates is refused, and what is not element-wise has no ambient equation."""

from dataclasses import dataclass

import pytest
import torch
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    SigmoidTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    constraints,
)

from sdezoo.conformance.bank.problems import Additive, gaussian
from sdezoo.errors import CompositionError, SupportError

BOX = ComposeTransform([SigmoidTransform(), AffineTransform(-2.0, torch.tensor([3.0, 5.0, 0.1]))])


def through(phi):
    @dataclass(frozen=True)
    class Through(Additive):
        @property
        def coordinates(self):
            return phi

    return Through()


@pytest.mark.parametrize(
    ("phi", "last"), [(SigmoidTransform(), 12.0), (TanhTransform(), 8.0), (BOX, 12.0)], ids=["sigmoid", "tanh", "a box a column"]
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_what_saturates_is_an_error_and_no_edge_value(phi, last, sign):
    """Torch rounds the logistic function of 20 in float32 to the last number below 1, in silence."""
    sde = through(phi)
    z = torch.tensor([[0.3, 0.0, -0.2]])
    assert torch.isfinite(sde.decode(sign * last + z)).all()
    beyond = torch.cat([z, torch.tensor([[200.0 * sign, 0.0, 200.0 * sign]])])
    with pytest.raises(SupportError, match=r"2 values are too far out for torch.float32 .*up to 200"):
        sde.decode(beyond)
    torch.testing.assert_close(sde.encode(sde.decode(sign * last + z.double())), sign * last + z.double(), rtol=1e-6, atol=0)


class Clipped(Transform):
    """Numbers below 0 become 0, which is a value like any other."""

    domain, codomain, bijective = constraints.real, constraints.nonnegative, False

    def _call(self, x):
        return x.relu()


def test_the_last_value_of_what_is_no_bijection_is_one_like_any_other():
    assert through(Clipped()).decode(torch.tensor([[-1.0, 2.0]])).tolist() == [[0.0, 2.0]]


def test_rows_have_no_ambient_equation_with_a_brownian_motion_an_entry():
    sde = through(StickBreakingTransform())
    assert sde.state_shape((5, 4)) == (5, 3)
    assert not sde.element_wise
    for ask in (sde.ambient, gaussian(sde).ambient):
        with pytest.raises(CompositionError, match=r"no equation in the data.* on the state\."):
            ask()
    assert through(BOX).element_wise
