"""Laws of `sdezoo.data.codecs.levels`: frequent levels of images have more room, and every level comes back."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import constraints

from sdezoo.data.bounds import nearest_levels
from sdezoo.data.codecs.codec import AffineCodec
from sdezoo.data.codecs.levels import LevelCodec, fit_levels
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError
from sdezoo.training.preprocessing.fitting import fit_encoding

LEVELS = 255


def black(rows: int = 50, channels: int = 1) -> Tensor:
    """Images in 256 levels, three quarters black, and the rest of any level."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, LEVELS + 1, (rows, channels, 8, 8), generator=generator)
    return torch.where(torch.rand(images.shape, generator=generator) < 0.75, 0, images).float() / LEVELS


@pytest.mark.parametrize("levels", [1, 16, LEVELS, 2**16 - 1])
def test_every_level_is_its_own_nearest_and_ends_take_what_is_beyond(levels: int) -> None:
    every = torch.arange(levels + 1).float() / levels
    assert torch.equal(nearest_levels(every, levels), every)
    assert torch.equal(nearest_levels(every + 0.4 / levels, levels), every)
    assert nearest_levels(torch.tensor([-0.3, 1.2]), levels).tolist() == [0, 1]


@given(
    st.lists(st.tuples(st.integers(0, LEVELS), st.floats(1e-3, 0.2)), min_size=1, max_size=4, unique_by=lambda each: each[0]).map(sorted),
    st.lists(st.floats(-0.499, LEVELS + 0.499), min_size=1, max_size=20),
)
def test_any_point_of_a_cell_comes_back_and_the_determinant_is_its_slope(cells: list[tuple[int, float]], points: list[float]) -> None:
    codec = LevelCodec(LEVELS, *map(tuple, zip(*cells, strict=True)))
    raw = torch.tensor(points, dtype=torch.float64)[:, None] / LEVELS
    assert torch.allclose(codec.decode(codec.encode(raw)), raw, rtol=0, atol=1e-12)
    slope = torch.func.vmap(torch.func.grad(lambda x: codec.encode(x).sum()))(raw)
    assert torch.allclose(codec.log_det(raw), slope.log().flatten())
    assert torch.allclose(codec.encode(torch.tensor([-0.5, LEVELS + 0.5]) / LEVELS).double(), torch.tensor([0.0, 1.0]).double(), atol=1e-6)


def test_an_error_smaller_than_half_a_cell_changes_no_frequent_level() -> None:
    images = black()
    codec = fit_levels(images, LEVELS)
    assert codec is not None
    assert codec.frequent == (0,)
    share = float((images == 0).double().mean())
    assert codec.widths[0] == pytest.approx(0.3 * share + (1 - 0.3 * share) / (LEVELS + 1))
    x = codec.encode(images.double())
    for side in (-1, 1):
        wrong = codec.decode(x + side * 0.49 * codec.widths[0])
        assert ((wrong * LEVELS).round()[images == 0] == 0).all()
        assert ((wrong * LEVELS).round()[images > 0.1] != (images * LEVELS).round()[images > 0.1]).all()


@pytest.mark.parametrize("levels", [None, 16])
def test_coarse_or_continuous_images_are_kept(levels: int | None) -> None:
    assert fit_levels((black() * 16).round() / 16, levels) is None
    assert fit_levels(torch.arange(256.0) / 255, LEVELS) is None


@pytest.mark.parametrize(
    ("support", "shift", "ends"),
    [
        (constraints.positive, None, (1.0, 2.0)),
        (constraints.real, None, (-1.0, 1.0)),
        (constraints.unit_interval, None, None),
        (constraints.nonnegative, None, None),
        (constraints.positive, 1.0, None),
    ],
)
def test_it_is_used_where_pixels_are_moved_anyway(
    support: constraints.Constraint, shift: float | None, ends: tuple[float, float] | None
) -> None:
    data = Data(black(), black(9), "image", levels=LEVELS)
    encoding = fit_encoding(data, support, shift)
    assert [type(codec) for codec in encoding.codecs] == ([LevelCodec, AffineCodec] if ends else [AffineCodec])
    x = encoding.encode(data.train)
    assert ends is None or ends[0] < x.min() < x.max() < ends[1]
    assert torch.equal((encoding.decode(x) * LEVELS).round(), (data.train * LEVELS).round())
    again = Encoding.from_json(encoding.to_json())
    assert torch.equal(again.encode(data.train), x)


def test_neither_a_constant_channel_nor_the_ends_of_a_bridge_count() -> None:
    plain = torch.arange(2 * 64 * 9).reshape(9, 2, 8, 8) % (LEVELS + 1) / LEVELS
    opaque = torch.cat([plain, torch.ones(9, 1, 8, 8)], 1)
    assert len(fit_encoding(Data(opaque, opaque[:2], "image", levels=LEVELS), constraints.real).codecs) == 1
    data = Data(black(), black(9), "image", levels=LEVELS)
    assert len(fit_encoding(replace(data, later=(replace(data.snapshots[0], time=1.0),)), constraints.real).codecs) == 1


@pytest.mark.parametrize(
    "record",
    [
        {"levels": 255, "frequent": [256], "widths": [0.1]},
        {"levels": 255, "frequent": [0, 1], "widths": [0.6, 0.5]},
        {"levels": 255, "frequent": [0], "widths": [-0.1]},
        {"levels": 255, "frequent": [0], "widths": ["a"]},
        {"levels": 255, "frequent": [0, 1], "widths": [0.1]},
        {"levels": 10**9, "frequent": [0], "widths": [0.1]},
        {"levels": 1, "frequent": [0, 1], "widths": [0.1, 0.1]},
        {"levels": "255", "frequent": [0], "widths": [0.1]},
    ],
)
def test_a_damaged_record_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(DataError, match="damaged"):
        LevelCodec.from_parameters(record)
