"""Normal scores: an increasing map of a column, its inverse, its derivative, and what it makes of data."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor
from torch.distributions import constraints

from sdezoo import SDES
from sdezoo.data.codecs.cells import Cells
from sdezoo.data.codecs.codec import AffineCodec, CellCodec
from sdezoo.data.codecs.normal_scores import NormalScoreCodec
from sdezoo.data.column_types import ColumnType, column_types
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError
from sdezoo.training.preprocessing.fitting import fit_encoding
from sdezoo.training.preprocessing.normal_scores import fit_normal_scores

N, BOX = 600, (-1.0, 3.0)


def columns() -> tuple[Tensor, list[bool]]:
    """Heavy, of whole numbers, nearly constant, with two peaks, with zeros, in a box with walls; and which of them are on a half-line."""
    g = torch.Generator().manual_seed(0)
    normal, uniform = torch.randn(4, N, generator=g).double(), torch.rand(N, generator=g).double()
    rows = [
        (1.5 * normal[0].abs() ** 1.5).exp(),
        torch.poisson(torch.full((N,), 3.0), generator=g).double(),
        1e6 + 1e-3 * normal[1],
        torch.where(uniform < 0.4, -4 + normal[2], 4 + normal[2]),
        torch.where(uniform < 0.3, 0.0, uniform),
        (5 * torch.rand(N, generator=g).double() - 1.5).clamp(*BOX),
    ]
    return torch.stack(rows, 1), [True, False, False, False, True, False]


def fitted() -> tuple[NormalScoreCodec, Tensor]:
    rows, half = columns()
    (codec,) = fit_normal_scores(rows, range(6), half, boxes=[None] * 5 + [BOX])
    return codec, rows


def coordinates(x: Tensor, half: list[bool]) -> list[Tensor]:
    shares = (x[:, -1] - BOX[0]) / (BOX[1] - BOX[0])
    found = [column[column > 0].log() if log else column for column, log in zip(x.T[:-1], half, strict=False)]
    return [*found, shares[(shares > 0) & (shares < 1)].logit()]


def test_a_mapped_column_is_normal_and_keeps_its_mean_and_its_spread() -> None:
    codec, rows = fitted()
    half = columns()[1]
    for i, (z, raw) in enumerate(zip(coordinates(codec.encode(rows.clone()), half), coordinates(rows, half), strict=True)):
        error = 4 / math.sqrt(len(z))
        assert abs(float((z.mean() - raw.mean()) / raw.std())) < error / 2
        assert float(z.std() / raw.std()) == pytest.approx(1, abs=error)
        if i != 1:  # whole numbers stay on their cells
            assert kstest(((z - raw.mean()) / raw.std()).numpy(), "norm").pvalue > 0.5  # the map is fitted to these very rows


@given(st.lists(st.floats(1e-12, 1e12), min_size=8, max_size=8), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_the_map_increases_and_its_inverse_returns_every_value(values: list[float], column: int) -> None:
    codec, rows = fitted()
    raw = rows[:8].clone()
    raw[:, column] = torch.tensor(sorted(values), dtype=torch.float64)
    x = codec.encode(raw.clone())
    assert (x[:, column].diff() >= 0).all()
    scale = raw.abs().maximum(torch.tensor([0.0 if m.log else abs(m.mean) for m in codec.maps]))
    assert ((codec.decode(x) - raw).abs() <= 1e-9 * scale + 1e-12).all()


def test_the_determinant_is_that_of_the_derivative() -> None:
    codec, rows = fitted()
    far = torch.tensor([[1e9, 50, 1e6 + 1, 100.0, 5.0, 3.0], [1e-9, -50, 1e6 - 1, -100.0, 0.0, 2.999]]).double()
    for row in (*rows[:5], *far):
        jacobian = torch.autograd.functional.jacobian(lambda raw: codec.encode(raw.clone()[None])[0], row)
        assert isinstance(jacobian, Tensor)
        assert float(codec.log_det(row[None])) == pytest.approx(float(jacobian.diagonal().abs().log().sum()), abs=1e-9)


def test_whole_numbers_keep_their_shares() -> None:
    codec, rows = fitted()
    normal = torch.randn(200_000, generator=torch.Generator().manual_seed(1)).double()
    each = codec.maps[1]
    x = rows[:1].expand(len(normal), -1).clone()
    x[:, 1] = each.mean + each.spread * normal
    made = codec.decode(x)[:, 1].round()
    for k in range(1, 7):
        share = float((rows[:, 1] == k).double().mean())
        assert float((made == k).double().mean()) == pytest.approx(share, abs=4 * math.sqrt(share / len(normal)) + 1e-4)


def test_frequent_values_of_a_lattice_keep_their_shares() -> None:
    """Halves and wholes are frequent, tenths rare: the share of a frequent value is not spread over its rare neighbours."""
    g = torch.Generator().manual_seed(3)
    favourites, rare = 55 + torch.randint(0, 9, (1800,), generator=g).double() / 2, 55 + torch.rand(200, generator=g).double() * 4
    column = torch.cat([favourites, (rare * 10).round() / 10])
    (codec,) = fit_normal_scores(column[:, None], [0], [False], [0.1])
    each = codec.maps[0]
    scores = torch.special.ndtri((torch.arange(40_000) + 0.5).double() / 40_000)
    made = (codec.decode(each.mean + each.spread * scores[:, None])[:, 0] * 10).round() / 10
    for value in favourites.unique():
        assert float((made == value).double().mean()) == pytest.approx(float((column == value).double().mean()), abs=2e-3)


def test_values_drawn_within_their_cells_are_normal_and_stay_the_same_values() -> None:
    """Counts, of which zeros and missing ones stay where they are, and decimals of any sign beside them."""
    g = torch.Generator().manual_seed(7)
    raw = torch.stack([torch.poisson(torch.full((4000,), 1.5), generator=g), (5 * torch.randn(4000, generator=g)).round() / 5], 1).double()
    raw[:50, 0], missing = 4.0, torch.arange(4000) < 50
    cell, last = CellCodec((0,)), AffineCodec(torch.tensor([1.0, 2.0]).double(), torch.tensor([0.0, 3.0]).double())
    (scores,) = fit_normal_scores(cell.encode(raw.clone())[50:], [0, 1], [True, False], [1.0, 0.2])
    cells = Cells(lambda rows: cell.encode(rows.nan_to_num(4.0)), scores, last, torch.tensor([1.0, 0.2]).double(), (0, 1))
    x = last.encode(scores.encode(cell.encode(raw.clone())))
    seen = torch.where(missing[:, None] & torch.tensor([True, False]), torch.nan, raw)
    edges, keys = cells.edges(seen), torch.rand(4000, 2, generator=g)
    drawn = cells.draw(x, edges, keys)
    kept = missing | (raw[:, 0] == 0)
    assert torch.equal(drawn[kept, 0], x[kept, 0])
    assert not torch.isclose(drawn[~kept], x[~kept]).all(1).any()
    found = cell.decode(scores.decode(last.decode(drawn.clone())))
    assert torch.allclose((found * 5).round(), (raw * 5).round())
    for column, each, rows in zip(last.decode(drawn.clone()).T, scores.maps, (~kept, slice(None)), strict=True):
        score = ((column[rows].log() if each.log else column[rows]) - each.mean) / each.spread
        assert kstest(score.numpy(), "norm").pvalue > 0.01
    # Evenly spaced, they are normal beyond chance, and still in their cells.
    even = cells.draw(x, edges, cells.evenly(edges, keys))
    assert torch.allclose((cell.decode(scores.decode(last.decode(even.clone()))) * 5).round(), (raw * 5).round())
    for column, each, rows in zip(last.decode(even).T, scores.maps, (~kept, slice(None)), strict=True):
        score = ((column[rows].log() if each.log else column[rows]) - each.mean) / each.spread
        assert kstest(score.numpy(), "norm").pvalue > 0.999


def test_zeros_stay_zeros_and_walls_walls() -> None:
    codec, rows = fitted()
    x = codec.encode(rows.clone())
    for place, value in ((4, 0.0), (5, BOX[0]), (5, BOX[1])):
        assert 0.05 < float((rows[:, place] == value).double().mean()) < 0.4
        assert torch.equal(x[:, place] == value, rows[:, place] == value)
        assert torch.equal(codec.decode(x.clone())[:, place] == value, rows[:, place] == value)


def test_the_map_is_restored_from_its_record() -> None:
    codec, rows = fitted()
    again = NormalScoreCodec.from_parameters(json.loads(json.dumps(codec.parameters())))
    assert torch.equal(again.encode(rows.clone()), codec.encode(rows.clone()))


@pytest.mark.parametrize(
    "change", [{"values": [1.0, 1.0]}, {"scores": [1.0, 0.0]}, {"slopes": [0.0, 1.0]}, {"spread": -1.0}, {"mean": None}, {"box": [1, 1]}]
)
def test_a_damaged_record_is_refused(change: dict[str, object]) -> None:
    record = {"values": [0.0, 1.0], "scores": [0.0, 1.0], "slopes": [1.0, 1.0], "mean": 0.0, "spread": 1.0, "log": False}
    with pytest.raises(DataError, match="record of the encoding"):
        NormalScoreCodec.from_parameters({"places": [0], "maps": [record | change]})


def test_few_rows_and_few_values_are_left_alone() -> None:
    rows = torch.stack([torch.arange(100) % 3, torch.arange(100)], 1).double()
    (codec,) = fit_normal_scores(rows, [0, 1], [False, False])
    assert codec.places == (1,)
    assert fit_normal_scores(rows[:15], [0, 1], [False, False]) == ()


def test_a_wide_table_has_fewer_knots() -> None:
    rows = torch.randn(2000, 3, generator=torch.Generator().manual_seed(2)).double()
    few = fit_normal_scores(rows, [0], [False])[0].maps[0]
    (wide,) = fit_normal_scores(rows.repeat(1, 1000), range(3000), [False] * 3000)
    assert len(wide.maps[0].values) < len(few.values)
    assert sum(len(m.values) for m in wide.maps) <= 2**13


def test_the_encoding_maps_columns_by_the_support_of_their_process_and_skips_missing_values() -> None:
    rows, boxed = columns()[0][:, [0, 3]].float(), columns()[0][:, 4:].float()
    gaps = rows.clone()
    gaps[::3, 1] = math.nan
    data = Data(rows, rows[:0], "table", columns=("a", "b"), types=())
    positive = fit_encoding(Data(rows[:, :1], rows[:0, :1], "table"), constraints.positive, normal_scores=True)
    assert isinstance(positive.codecs[0], NormalScoreCodec)
    assert (positive.encode(rows[:, :1]) > 0).all()
    real = fit_encoding(data, constraints.real, normal_scores=True)
    x = real.encode(rows)
    assert x.mean(0).abs().max() < 1e-5
    assert torch.allclose(x.std(0), torch.ones(2), atol=1e-5)
    assert fit_encoding(data, constraints.real, "none", normal_scores=True).codecs[0].kind == "affine"
    kept = fit_encoding(data, constraints.real, normal_scores=True, keeps_tails=True).codecs[0]
    assert isinstance(kept, NormalScoreCodec)
    assert kept.places == (1,), "a heavy tail stays in the data"
    support = SDES.build("product:zero-inflated[0],(walls:low=-1,high=3)[1]").support
    scores = fit_encoding(Data(boxed, boxed[:0], "table"), support, normal_scores=True).codecs[0]
    assert isinstance(scores, NormalScoreCodec)
    assert [(each.log, each.box) for each in scores.maps] == [(True, None), (False, BOX)]


def test_decoded_whole_numbers_are_exact() -> None:
    rows = (columns()[0][:, 1:2] * 7 + 2000).float()
    types: tuple[ColumnType, ...] = column_types(("int64",))
    encoding = fit_encoding(
        Data(rows, rows[:0], "table", types=types), constraints.positive, rounds_up=torch.tensor([True]), normal_scores=True
    )
    assert [codec.kind for codec in encoding.codecs] == ["cell", "normal-score", "affine"]
    assert torch.equal(encoding.decode(encoding.encode(rows)), rows)
    assert torch.equal(Encoding.from_json(encoding.to_json()).decode(encoding.encode(rows)), rows)


@pytest.mark.parametrize("log", [False, True])
def test_a_column_that_ends_at_a_wall_goes_little_beyond_it(log: bool) -> None:
    """A hundred times as many samples as rows of a uniform distribution go a twentieth of its width beyond it at most."""
    rows = 1 + torch.rand(1000, 1, generator=torch.Generator().manual_seed(0)).double()
    (codec,) = fit_normal_scores(rows, [0], [log])
    made = codec.decode(codec.from_scores(torch.tensor([[-4.0], [4.0]]).double())).flatten()
    assert made[0] > 1 - 0.05
    assert made[1] < 2 + 0.05


@pytest.mark.parametrize(("rows", "most"), [(28, 0.12), (1000, 0.02)])
def test_a_lattice_ends_where_many_rows_lie(rows: int, most: float) -> None:
    """Years of a uniform distribution, as the middles of their cells: what lies beyond falls with the rows, by the rule of succession."""
    years = torch.randint(2015, 2024, (rows, 1), generator=torch.Generator().manual_seed(0)).double() - 0.5
    (codec,) = fit_normal_scores(years, [0], [True])
    each = codec.maps[0]
    scores = torch.special.ndtri((torch.arange(4000) + 0.5).double() / 4000)
    made = codec.decode((each.mean + each.spread * scores[:, None]).exp()).ceil()
    assert ((made < 2015) | (made > 2023)).double().mean() < most


@pytest.mark.parametrize(("rows", "step"), [(200, 0.0), (2000, 0.0), (2000, 0.1)])
def test_a_column_that_ends_where_many_values_are_has_no_samples_beyond(rows: int, step: float) -> None:
    """With scores a tenth too wide, as a network may have them, angles stay within a gap between neighbours; a normal tail goes on."""
    generator = torch.Generator().manual_seed(0)
    angles, normal = 360 * torch.rand(rows, generator=generator), torch.randn(rows, generator=generator)
    column = torch.stack([angles if not step else (angles / step).round() * step, normal], 1).double()
    codec = fit_normal_scores(column, [0, 1], [False, False], [step, 0.0])[0]
    mean, spread = codec._units
    wide = codec.decode(mean + spread * 1.1 * torch.randn(100_000, 2, generator=generator, dtype=torch.float64))
    low, high = column.amin(0), column.amax(0)
    gap = 2 * 360 / rows + step / 2
    assert low[0] - gap <= wide[:, 0].min()
    assert wide[:, 0].max() <= high[0] + gap
    assert wide[:, 1].max() > high[1] + 0.5
    assert torch.allclose(codec.decode(codec.encode(column.clone())), column)
    far = torch.tensor([[-300.0, -9.0], [600.0, 9.0]], dtype=torch.float64)
    assert codec.score(far).abs().max() < 20, "values far beyond the end have moderate scores"
