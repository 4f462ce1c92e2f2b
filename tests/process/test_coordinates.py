"""Coordinates of an affine process: what saturates is refused, and what is not element-wise has no ambient equation."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
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


class BoxCox(Transform):  # noqa: PLW1641  # no transform of torch's can be hashed
    """`x = (1 + λ z)^{1/λ}` from the inverse of Box and Cox's map, which has no value below `z = −1/λ`."""

    codomain = constraints.positive
    bijective = True

    def __init__(self, power: float, *, declares: bool = False) -> None:
        super().__init__()
        self.power = power
        self.domain = constraints.greater_than(-1 / power) if declares else constraints.real

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoxCox) and other.power == self.power

    def _call(self, x):
        return (1 + self.power * x) ** (1 / self.power)

    def _inverse(self, y):
        return (y**self.power - 1) / self.power

    def log_abs_det_jacobian(self, x, y):
        return (1 - self.power) * y.log()


@pytest.mark.parametrize(
    ("power", "declares"),
    [(0.5, True), (1 / 3, False), (1 / 3, True), (2.0, False), (2.0, True)],
    ids=["even power, declared", "odd power", "odd power, declared", "root", "root, declared"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_map_that_is_not_defined_on_the_whole_line_is_told_so(power, declares, dtype):
    """Below `−1/λ` an odd power gives negative numbers, a root none, and an even power positive ones again, which the domain tells."""
    sde = through(BoxCox(power, declares=declares))
    edge = -1 / power
    good = torch.tensor([[0.0, 0.9 * edge], [3.0, 1.0]], dtype=dtype)
    torch.testing.assert_close(sde.encode(sde.decode(good)), good)
    with pytest.raises(SupportError, match=r"not defined on the whole line.* at 1 of 6 states, such as -") as refusal:
        sde.decode(torch.cat([good, torch.tensor([[2 * edge, 0.5]], dtype=dtype)]))
    assert "float64" not in str(refusal.value)
    assert "onto the support" in refusal.value.remedy


@pytest.mark.parametrize("phi", [SigmoidTransform(), TanhTransform(), ExpTransform(), BOX, BoxCox(2.0)])
@pytest.mark.parametrize("far", [1e30, math.inf, math.nan])
def test_what_is_too_far_out_is_told_so(phi, far):
    """Overflow, saturation and NaN in the state itself are no fault of the map."""
    with pytest.raises(SupportError, match="too far out"):
        through(phi).decode(torch.tensor([[0.1, 0.2, far]]) * (1e30 if far == 1e30 else 1))


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
