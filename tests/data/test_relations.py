"""What holds between columns holds in final rows, on the lattices of the columns, wherever codes are counted from."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from sdezoo.data.codecs.relations import DifferenceCodec, ShareCodec
from sdezoo.data.conversion import Columns, from_numbers, to_numbers
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError
from sdezoo.zoo.column_options import ColumnOptions

random = np.random.default_rng(0)


def read(**columns: object) -> tuple[Data, Columns]:
    found = to_numbers(pa.table(columns))
    return Data(found.values, found.values[:0], "table", found.names, types=found.types), found


def again(data: Data, encoding: Encoding, x: torch.Tensor) -> dict[str, np.ndarray]:
    """The columns that are written of encoded rows, by an encoding that was recorded."""
    kept = Encoding.from_json(json.loads(json.dumps(encoding.to_json())))
    batch = from_numbers(kept.decode(x), data.columns, data.types)
    return {name: batch[name].to_numpy(zero_copy_only=False) for name in data.columns}


@pytest.mark.parametrize("units", [((1, 10),) * 3, ((1, 1),) * 3, ((5, 1), (1, 10), (1, 10))])
def test_rounded_shares_sum_to_the_constant_and_positive_ones_stay_positive(units: tuple[tuple[int, int], ...]) -> None:
    shares = torch.tensor(random.dirichlet([3, 1, 0.1], 500))
    found = ShareCodec((0, 1, 2), 100.0, units, (False, False, True)).decode(shares.clone())
    step, scale = torch.tensor(units, dtype=torch.float64).T
    counts = found * scale / step
    torch.testing.assert_close(counts, counts.round())
    torch.testing.assert_close(found.sum(1), torch.full((500,), 100.0, dtype=torch.float64))
    assert found.min() >= 0
    assert (found[:, 2] > 0).all(), "each has one unit at least"
    assert ((found - 100 * shares).abs() <= 2 * (step / scale).max()).all(), "values are near those that were rounded"


def test_an_order_on_different_lattices_survives_rounding() -> None:
    low = (random.random(500) * 8).round(2)
    data, _ = read(low=low, high=np.ceil(low).astype(int))
    encoding = Encoding(ColumnOptions.parse("low<=high").codecs(data), data.types)
    rows = torch.stack([torch.tensor(low).float(), torch.zeros(500)], 1)  # a gap of 0 would round `high` down
    found = again(data, encoding, rows)
    assert (found["low"] <= found["high"]).all()
    assert np.array_equal(found["low"], low)


BASE = 1_700_000_000
STARTS = random.permutation(BASE + np.arange(0, 90_000_000, 60_000))


@pytest.mark.parametrize(
    ("low", "gap"),
    [
        (STARTS, random.integers(0, 9_000, 1500)),
        (np.datetime64("2020-01-01T00:00:05") + random.integers(0, 90_000_000, 1500), random.integers(0, 9_000, 1500)),
        (1000 + 0.01 * random.normal(size=1500), 0.001 * random.random(1500)),
    ],
    ids=["integers", "times", "narrow"],
)
def test_columns_that_count_from_elsewhere_are_compared(low: np.ndarray, gap: np.ndarray) -> None:
    """Large integers, times and narrow columns have codes with offsets of their own."""
    data, _ = read(low=low, high=low + gap)
    encoding = Encoding(ColumnOptions.parse("low<=high").codecs(data), data.types)
    x = encoding.encode(data.train)
    assert x[:, 1].min() >= -1e-9
    np.testing.assert_allclose(x[:, 1].double().numpy(), gap.astype(float), rtol=1e-5, atol=8 if gap.dtype == int else 1e-8)
    found = again(data, encoding, x)
    assert (found["low"] <= found["high"]).all()


def test_what_cannot_be_compared_is_told() -> None:
    data, _ = read(a=np.arange(30) * 86_400_000 + np.datetime64("2020-01-01T00:00:00.000"), b=np.arange(30.0))
    with pytest.raises(DataError, match="'b' cannot be compared with 'a'"):
        ColumnOptions.parse("a<=b").codecs(data)


@pytest.mark.parametrize(
    ("values", "within"),
    [
        (10**17 + 1000 * random.integers(0, 10**6, 500), 0),
        (1_580_000_000_000 + random.integers(0, 10**11, 500), 4096),
        (1000 * random.integers(0, 2**23, 500), 0),
    ],
    ids=["a step", "milliseconds", "far multiples"],
)
def test_large_integers_keep_what_float32_can_tell_apart(values: np.ndarray, within: int) -> None:
    data, found = read(x=values)
    back = again(data, Encoding((), found.types), data.train)["x"]
    assert np.abs(back - values).max() <= within


def test_a_record_of_lattices_is_checked() -> None:
    good = ShareCodec((0, 1), 1.0, ((1, 10), (1, 10)), (True, False)).parameters()
    for wrong in ({"units": [[1, 0], [1, 1]]}, {"units": [[1, 1]]}, {"units": [[1.0, 1], [1, 1]]}, {"positive": [1, 0]}):
        with pytest.raises(DataError, match="damaged"):
            ShareCodec.from_parameters({**good, **wrong})
    with pytest.raises(DataError, match="damaged"):
        DifferenceCodec.from_parameters({"columns": [0, 1], "order": [0, 1], "units": [[-1, 1], [1, 1]]})
