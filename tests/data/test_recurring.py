"""Columns of numbers whose values recur: samples have values of the data."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from torch import Tensor

from sdezoo import DiffusionModel
from sdezoo.data.codecs.recurring import RecurringCodec
from sdezoo.data.column_types import ColumnType, NumberType
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo.training.preprocessing.codecs import recurring_codecs

CODEC = RecurringCodec((1, 2), ((0.5, 1.25, 4.0), (-1.0, 2.0)))


def test_samples_take_the_nearest_value() -> None:
    encoding = Encoding.from_json(json.loads(json.dumps(Encoding((CODEC,)).to_json())))
    raw = torch.tensor([[0.3, 0.5, 2.0], [7.1, 4.0, -1.0], [0.0, math.nan, 2.0]])
    assert torch.equal(encoding.encode(raw).nan_to_num(9), raw.nan_to_num(9))
    assert encoding.recurring == {1: (0.5, 1.25, 4.0), 2: (-1.0, 2.0)}
    assert encoding.log_det(raw).tolist() == [0, 0, 0]
    x = torch.tensor([[0.3, 0.87, 0.51], [7.1, 0.88, 0.49], [1.0, 7.0, -3.9], [1.0, 7.6, 5.1], [1.0, math.nan, 2.0]])
    found = encoding.decode(x)
    assert found[:3].tolist() == torch.tensor([[0.3, 0.5, 2.0], [7.1, 1.25, -1.0], [1.0, 4.0, -1.0]]).tolist()
    # Beyond the ends by more than the range, and missing.
    assert torch.equal(found[3:].nan_to_num(9), x[3:].nan_to_num(9))


@pytest.mark.parametrize(
    "values", [None, [[0.5, 1.0]], [[0.5], [1.0, 2.0]], [[1.0, 0.5], [1.0, 2.0]], [["a", "b"], [1.0, 2.0]], [[0, True], [0, 1]]]
)
def test_a_damaged_record_is_refused(values: object) -> None:
    with pytest.raises(DataError, match="damaged"):
        RecurringCodec.from_parameters({"places": [1, 2], "values": values})


def found(*columns: Tensor, types: Sequence[ColumnType] = ()) -> list[int]:
    """The columns whose values recur, of a table of which the last tenth is held out."""
    rows = torch.stack([column.float() for column in columns], 1)
    names = tuple("abcdefgh"[: len(columns)])
    cut = len(rows) * 9 // 10
    data = Data(rows[:cut], rows[cut:], "table", columns=names, types=tuple(types))
    return [place for codec in recurring_codecs(data) for place in codec.places]


def test_which_values_recur() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    price = torch.from_numpy(rng.choice([9.99, 14.5, 24.9, 25.0, 99.0], n))
    celsius = torch.from_numpy(((rng.normal(60, 10, n).round() - 32) / 1.8).round(1))
    school = torch.from_numpy(rng.choice([9, 12, 14, 16], n))
    count, continuous = torch.from_numpy(rng.geometric(0.2, n)), torch.from_numpy(rng.normal(size=n))
    own = torch.where(torch.arange(n) % 20 == 0, continuous, price)  # a twentieth of the rows has a value of its own
    types = [
        NumberType("float64", 1, 2),
        NumberType("float64", 1, 1),
        NumberType("int64"),
        NumberType("int64"),
        *[NumberType("float64")] * 2,
    ]
    assert found(price, celsius, school, count, continuous, own, types=types) == [0, 1, 2]
    assert found(price[:20], celsius[:20]) == []


def test_users_are_told_and_other_values_are_not_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    price = rng.choice([4.99, 9.99, 14.5, 24.9, 25.0, 31.7, 42.0, 64.0, 99.0, 120.0, 140.0], 300)
    pandas.DataFrame({"price": price, "weight": rng.lognormal(0, 1, 300)}).to_csv(tmp_path / "table.csv", index=False)
    run = tmp_path / "run"
    result = train(TrainingConfig.build({"data": str(tmp_path / "table.csv"), "out": str(run), "steps": 2}))
    assert "values of the data for 'price': few, and they recur" in result.reasons
    for name, share in (("few", 0.01), ("many", 0.5)):
        prices = np.where(rng.random(300) < share, 12.5, price)
        pandas.DataFrame({"price": prices, "weight": rng.lognormal(0, 1, 300)}).to_csv(tmp_path / f"{name}.csv", index=False)
    further = {"origin": str(run), "steps": 2}
    train(TrainingConfig.build({**further, "data": str(tmp_path / "few.csv"), "out": str(tmp_path / "on")}))
    with pytest.raises(DataError, match="values of 'price' are none of the 11 that samples"):
        train(TrainingConfig.build({**further, "data": str(tmp_path / "many.csv"), "out": str(tmp_path / "other")}))
    assert not (tmp_path / "other").exists()


def test_samples_have_values_of_the_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.lognormal(0, 1, 400).round(3)
    price = np.array([4.99, 9.99, 14.5, 24.9, 25.0, 31.7, 42.0, 64.0, 99.0, 120.0, 140.0, 199.0, 250.0])
    frame = pandas.DataFrame({"price": price[np.minimum((3 * weight).astype(int), 12)], "weight": weight})
    model = DiffusionModel(steps=20, net="mlp:width=16,depth=1", device="cpu").fit(frame)
    made = model.sample(500)
    assert set(made["price"]) <= set(price)
    assert len(set(made["price"])) > 8
    assert not set(made["weight"]) <= set(weight)
    model.save(tmp_path / "run")
    assert DiffusionModel.load(tmp_path / "run").sample(500).equals(made)
