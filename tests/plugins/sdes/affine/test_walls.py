"""Values on the walls of a box are exact, and those inside have the coordinates of a logistic lift."""

import pytest
import torch

from sdezoo.errors import ParameterError
from sdezoo.zoo.registry import SDES


def shares() -> torch.Tensor:
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:50, 0], x[50:80, 0] = 0.0, 1.0
    x[:, 1] = x[:, 1].round()
    return x


def test_walls_and_values_come_back() -> None:
    x = shares()
    sde = SDES.build("walls").adapted(x)
    z = sde.encode(x)
    torch.testing.assert_close(sde.decode(z), x, rtol=1e-12, atol=1e-12)
    values, marks = z.chunk(2, 1)
    assert sorted(marks.unique().tolist()) == [-2, 0, 2]
    inside = x[80:, 0]
    own = SDES.build("lift:transform=sigmoid").adapted(inside.unsqueeze(1))
    torch.testing.assert_close(values[80:, :1], own.encode(inside.unsqueeze(1)))
    assert SDES.build(sde.full_spec) == sde


def test_whatever_the_state_a_column_without_values_inside_has_none() -> None:
    sde = SDES.build("walls").adapted(shares())
    x = sde.decode(torch.randn(5000, 6, generator=torch.Generator().manual_seed(1)))
    assert sorted(x[:, 1].unique().tolist()) == [0, 1]
    assert ((x >= 0) & (x <= 1)).all()
    assert ((x[:, 0] > 0) & (x[:, 0] < 1)).any()


def test_another_box() -> None:
    x = 10 + 5 * shares()
    sde = SDES.build("walls:low=10,high=15").adapted(x)
    torch.testing.assert_close(sde.decode(sde.encode(x)), x)
    with pytest.raises(ParameterError, match="low"):
        SDES.build("walls:low=2,high=1")


def test_walls_are_found_and_written_as_data_hold_them() -> None:
    x = (0.1 + 0.6 * shares()[:, 0]).round(decimals=3).float()
    fit = SDES.load("walls").column_fit(x.double())
    assert fit is not None
    assert fit.spec == "walls:low=0.1,high=0.7"
    sde = SDES.build(fit.spec).adapted(x.unsqueeze(1))
    marks = sde.encode(x.unsqueeze(1))[:, 1]
    assert torch.equal(marks != 0, (x == x.min()) | (x == x.max()))
    assert torch.equal(sde.decode(sde.encode(x.unsqueeze(1)))[:80, 0], x[:80])
    assert sde.support.check(x.double()).all()


def test_percentages_are_between_0_and_100() -> None:
    """Also if few are exactly 100, and none is 0, or there are few different ones; larger numbers are none, nor are counts of which one
    happens to be 100."""
    x, box = torch.linspace(20, 99.5, 500).double(), "walls:low=0.0,high=100.0"
    eighths = SDES.load("walls").column_fit((x / 12.5).round().double() * 12.5)
    assert eighths is not None
    assert eighths.spec == box
    for last, whole, spec in (([100.0], False, box), ([100.0] * 3, True, box), ([100.0], True, None), ([101.0] * 3, False, None)):
        fit = SDES.load("walls").column_fit(torch.cat([x.floor() if whole else x, torch.tensor(last).double()]))
        assert (fit.spec if fit else None) == spec


def test_a_pile_at_the_least_value_is_the_lower_wall() -> None:
    """Of shares that go up to 1, and of percentages that reach 100."""
    x = torch.linspace(0.06, 0.97, 500).double()
    for pile, scale, last, spec in (
        (20, 1, 0.97, "low=0.05,high=1.0"),
        (20, 100, 1.0, "low=5.0,high=100.0"),
        (2, 100, 1.0, "low=0.0,high=100.0"),
    ):
        fit = SDES.load("walls").column_fit(scale * torch.cat([torch.full((pile,), 0.05), x, torch.tensor([last])]).double())
        assert fit is not None
        assert fit.spec == f"walls:{spec}"
