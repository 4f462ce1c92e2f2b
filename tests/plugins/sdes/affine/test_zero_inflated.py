"""An atom at zero: exact zeros in, exact zeros out, as often and as much together as in the data."""

import math
from collections import Counter

import pytest
import torch

from sdezoo.conformance.bank.problems import Atoms
from sdezoo.errors import CompositionError, DataError, ParameterError, SupportError
from sdezoo.process.noise import Noise
from sdezoo.sampling.likelihood import encoded
from sdezoo.training.preprocessing.fitting import fit_encoding
from sdezoo.zoo.registry import DATASETS, SAMPLERS, SDES
from tests.analytic import SIGMAS, at

RAIN = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0], [1.0, 8.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zeros_and_values_come_back_exactly(dtype):
    sde, x = SDES.build("zero-inflated").adapted(RAIN), RAIN.to(dtype)
    z = sde.encode(x)
    assert z.shape == (4, 6)
    assert ((z[:, 3:] > 0) == (x > 0)).all()
    assert torch.equal(sde.decode(z) == 0, x == 0)
    torch.testing.assert_close(sde.decode(z), x)
    assert torch.equal(sde.perturb(x, at(0.0), Noise.seeded(0)), z)
    assert torch.equal(sde.decode(z - 1e-3), torch.where(x > 0, sde.decode(z - 1e-3), 0))


def test_what_is_measured():
    sde = SDES.build("zero-inflated").adapted(RAIN)
    assert sde.unit == pytest.approx((math.sqrt(3), 4, 1))
    assert sde.spread == pytest.approx((math.log(3) / math.sqrt(2), math.log(4) / math.sqrt(2), 0))
    logs = [
        math.log(x / u) / s for x, u, s in zip((3, 1, 2, 8), (3**0.5, 3**0.5, 4, 4), [sde.spread[i] for i in (0, 0, 1, 1)], strict=True)
    ]
    assert sde.mark == pytest.approx(2 * math.sqrt(sum(log**2 for log in logs) / 4))
    assert not sde.encode(RAIN)[:, :3][RAIN == 0].any()  # a zero sits in the middle of its column
    assert sde.adapted(RAIN) == sde
    assert SDES.build("zero-inflated:mark=2,unit=(5),spread=(1)").adapted(RAIN).encode(RAIN)[0].tolist() == pytest.approx(
        [0, math.log(2 / 5), 0, -2, 2, -2]
    )
    assert SDES.build("zero-inflated").adapted((RAIN > 0).double()).mark == 1  # no spread to go by


def test_images_have_one_unit_and_twice_the_channels():
    x = torch.rand(6, 2, 4, 4, generator=torch.Generator().manual_seed(0)).sub(0.5).clamp_min(0)
    sde = SDES.build("zero-inflated").adapted(x)
    assert len(sde.unit) == 1
    assert sde.network_input_shape((2, 4, 4)) == (4, 4, 4)
    torch.testing.assert_close(sde.decode(sde.encode(x)), x)


@pytest.mark.parametrize(("sampler", "steps"), [("dpmpp-2m", 20), ("ancestral", 60)])
def test_zeros_are_as_frequent_and_as_much_together_as_in_the_data(sampler, steps):
    """With the exact score: each pattern of zeros within its binomial interval, none that the data do not have, values where they were."""
    sde = SDES.build("zero-inflated").adapted(RAIN)
    weights, count = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), 4000
    model = Atoms(sde, RAIN, weights)
    x = SAMPLERS.build(sampler).sample(model, (count, 3), steps, like=RAIN)
    found = Counter(tuple(row) for row in (x > 0).tolist())
    assert set(found) == {tuple(row) for row in (RAIN > 0).tolist()}
    for row, p in zip((RAIN > 0).tolist(), weights.tolist(), strict=True):
        assert found[tuple(row)] / count == pytest.approx(p, abs=SIGMAS * math.sqrt(p * (1 - p) / count))
    assert (x[x > 0].log()[:, None] - RAIN[RAIN > 0].log()).abs().amin(1).max() < 0.02


def test_real_data_with_zeros_need_no_shift():
    data = DATASETS.build("breast-cancer").load()
    sde = SDES.build("zero-inflated")
    assert torch.equal(fit_encoding(data, sde.support).encode(data.train), data.train)
    with pytest.raises(DataError, match="zero or negative"):
        fit_encoding(data, SDES.build("gbm").support)
    adapted = sde.adapted(data.train)
    assert torch.equal(adapted.decode(adapted.encode(data.train)) == 0, data.train == 0)
    data.train[0, 0] = -1
    with pytest.raises(DataError, match="negative"):
        fit_encoding(data, sde.support)


def test_a_value_too_small_is_no_zero():
    sde = SDES.build("zero-inflated")
    assert sde.decode(torch.tensor([[-200.0, -1.0]])).item() == 0
    with pytest.raises(SupportError, match="too small"):
        sde.decode(torch.tensor([[-200.0, 1.0]]))
    with pytest.raises(SupportError, match="too far out"):
        sde.decode(torch.tensor([[200.0, 1.0]]))


def test_there_is_no_density_and_no_equation_of_the_data():
    sde = SDES.build("zero-inflated").adapted(RAIN)
    with pytest.raises(CompositionError, match="Several states"):
        encoded(sde, RAIN)
    with pytest.raises(CompositionError):
        sde.ambient()


def test_columns_that_are_0_in_the_same_rows_share_a_mark():
    """One mark for each pattern of zeros: no state has a zero in some of the columns alone; what is measured comes with the columns."""
    x = torch.tensor([[0.0, 2.0, 5.0, 0.0], [3.0, 0.0, 1.0, 4.0], [1.0, 8.0, 2.0, 0.5], [0.0, 0.0, 3.0, 0.0]], dtype=torch.float64)
    sde = SDES.build("zero-inflated").adapted(x)
    assert sde.together == ("0+3",)
    z = sde.encode(x)
    assert z.shape == sde.state_shape((4, 4)) == (4, 7)
    torch.testing.assert_close(sde.decode(z), x)
    random = torch.randn(500, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zeros = sde.decode(random) == 0
    assert torch.equal(zeros[:, 0], zeros[:, 3])
    assert (zeros[:, 0] != zeros[:, 1]).any()
    assert torch.equal(zeros[:, :3], random[:, 4:] <= 0)
    assert sde.findings(["a", "b", "c", "d"])[0].startswith("'a', 'd' are 0 in the same rows")
    known = torch.tensor([[False, False, True, True], [False, True, False, False]])
    assert sde.known_entries(known).int().tolist() == [[0, 0, 1, 1, 1, 0, 1], [0, 1, 0, 0, 0, 1, 0]]
    own = SDES.build("zero-inflated:together=()").adapted(x)
    assert own.together == ()
    assert own.encode(x).shape == (4, 8)
    assert SDES.build("zero-inflated").adapted(RAIN.clamp_min(1)).together == ()
    again = SDES.build(sde.full_spec)
    assert again == sde
    inside = SDES.build(f"product:({sde.full_spec})[0;1;2;3],vp[4]")
    assert inside.state_shape((1, 5)) == (1, 8)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("zero-inflated:together=(0+1,1+2)", "in two groups"),
        ("zero-inflated:together=(a+b)", "are no groups of columns"),
        ("zero-inflated:together=(1)", "are no groups of columns"),
    ],
)
def test_groups_that_are_none_are_refused(spec, says):
    with pytest.raises(ParameterError, match=says):
        SDES.build(spec)
