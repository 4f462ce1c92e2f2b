"""The product: coordinates and equations are those of its parts, whatever the order of the columns."""

import copy

import pytest
import torch

from sdezoo.conformance.bank.problems import Mixture
from sdezoo.errors import DataError, ParameterError
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.zoo.registry import SAMPLERS, SDES


def rows(count: int = 200) -> torch.Tensor:
    """Positive, real, share, positive."""
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 0], x[:, 2], x[:, 3] = x[:, 0].exp(), torch.sigmoid(x[:, 2]), (0.1 * x[:, 3] + 7).exp()
    return x


def test_affine_parts_make_an_affine_process() -> None:
    x = rows()
    sde = SDES.build("product:gbm[3;0],vp[1],(lift:transform=sigmoid,base=ve)[2]").adapted(x)
    assert isinstance(sde, AffineSDE)
    assert sde.element_wise
    z = sde.encode(x)
    for columns, spec in (([3, 0], "gbm"), ([2], "lift:transform=sigmoid")):
        own = SDES.build(spec).adapted(x[:, columns]).encode(x[:, columns])
        torch.testing.assert_close(z[:, columns], own)
    torch.testing.assert_close(z[:, 1], x[:, 1])
    torch.testing.assert_close(sde.decode(z), x)
    again = SDES.build(sde.full_spec)
    assert again == sde
    torch.testing.assert_close(again.encode(x), z)


def test_its_density_is_the_product_of_densities() -> None:
    """`log |det|` is the sum of those of the parts, with doubled states of a part elsewhere too."""
    x = rows()
    sde = SDES.build("product:vp[1],gbm[0;3],lift:transform=sigmoid[2]").adapted(x)
    z = sde.encode(x)
    parts = [SDES.build(spec).adapted(x[:, c]) for spec, c in (("gbm", [0, 3]), ("lift:transform=sigmoid", [2]))]
    expected = sum(p.log_abs_det(p.encode(x[:, c]), x[:, c]) for p, c in zip(parts, ([0, 3], [2]), strict=True))
    torch.testing.assert_close(sde.log_abs_det(z, x), expected)


def test_a_part_with_marks() -> None:
    x = rows()
    x[:60, 3] = 0
    sde = SDES.build("product:gbm[0],zero-inflated[3],vp[1;2]").adapted(x)
    assert sde.state_shape((7, 4)) == (7, 5)
    torch.testing.assert_close(sde.decode(sde.encode(x)), x)
    assert sde.rounds_up((4,)).tolist() == [True, False, False, True]


def test_other_parts_split_the_state() -> None:
    """Drift, diffusion and score of each part are its own."""
    x, t = rows().clamp(max=1e4), torch.tensor(0.3, dtype=torch.float64)
    sde = SDES.build("product:gbm[0;3],jacobi[2],vp[1]").adapted(x)
    assert not isinstance(sde, AffineSDE)
    jacobi, affine = SDES.build("jacobi"), sde.merged[0].process
    z = sde.perturb(x, t, Noise.seeded(1))
    first, last = z[:, :3], z[:, 3:]
    for method in ("drift", "diffusion", "divergence"):
        found = getattr(sde, method)(z, t)
        torch.testing.assert_close(found[:, 3:], getattr(jacobi, method)(last, t))
        torch.testing.assert_close(found[:, :3], getattr(affine, method)(first, t).expand_as(first))
    score = sde.score(z, x, t)
    torch.testing.assert_close(score[:, 3:], jacobi.score(last, x[:, 2:3], t))
    torch.testing.assert_close(score[:, :3], affine.score(first, x[:, [0, 3, 1]], t))
    torch.testing.assert_close(sde.decode(sde.encode(x, Noise.seeded(0))), x)
    assert SDES.build(sde.full_spec) == sde
    assert copy.deepcopy(sde) == sde, "training copies the model for the moving average"


def test_names_are_looked_up_and_left_out_columns_are_not_missed() -> None:
    sde = SDES.build("product:gbm[price;rate],vp[x]").for_columns(["x", "rate", "price"], [0, 2])
    assert [(p.process.name, p.numbers) for p in sde.given] == [("gbm", [1]), ("vp", [0])]


@pytest.mark.parametrize(
    ("spec", "error", "problem"),
    [
        ("product:gbm[a],vp[b]", DataError, "column 'c' is in no part"),
        ("product:gbm[a;c],vp[b;d]", DataError, "no column 'd'"),
        ("product:gbm[a;b],vp[b;c]", ParameterError, "column 'b' is in two parts"),
        ("product:gbm[a;b],student-t[c]", ParameterError, "not an SDE"),
        ("product:gbm", ParameterError, "not of the form"),
        ("gbm:vp[a]", ParameterError, "not of the form"),
    ],
)
def test_mistakes(spec: str, error: type, problem: str) -> None:
    with pytest.raises(error, match=problem):
        SDES.build(spec).for_columns(["a", "b", "c"], [0, 1, 2])


@pytest.mark.parametrize("name", ["dpmpp-2m", "dpmpp-3m", "unipc", "deis"])
def test_twenty_evaluations_are_worth_two_hundred(name: str) -> None:
    """On a correlated mixture of known score, the difference is below the sampling error of 2000 rows."""
    count, x = 2000, rows(2000)[:, [0, 1, 3]]
    sde = SDES.build("product:gbm[0;2],vp[1]").adapted(x)
    z = sde.encode(x)
    mean, std = z.mean(0), z.std(0)
    centres = torch.tensor([[-1.2, -1.0, 0.8], [0.3, 0.6, -1.0], [1.3, 0.9, 1.1]], dtype=torch.float64)
    widths = torch.tensor([[0.3, 0.5, 0.4], [0.5, 0.2, 0.6], [0.4, 0.6, 0.3]], dtype=torch.float64)
    model = Mixture(sde, mean + std * centres, std * widths, torch.tensor([0.5, 0.3, 0.2]))
    few, many = (
        sde.encode(SAMPLERS.build(name).sample(model, (count, 3), steps, seed=3, like=torch.empty((), dtype=torch.float64)))
        for steps in (20, 200)
    )
    assert ((few.mean(0) - many.mean(0)).abs() < std / count**0.5).all()
    assert ((few.std(0) / many.std(0) - 1).abs() < (2 * count) ** -0.5).all()
