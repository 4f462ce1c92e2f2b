"""Missing values of arrays and data frames, filled by the estimator."""

from pathlib import Path

import numpy as np
import pandas
import polars
import pytest
from pandas.testing import assert_frame_equal, assert_index_equal

from sdezoo import DiffusionModel, impute
from sdezoo.errors import DataError, ParameterError

_RNG = np.random.default_rng(0)
PRICE = np.exp(_RNG.normal(3, 0.5, 60)).round(2)
KINDS = _RNG.choice(["a", "b"], 60)
FRAME = pandas.DataFrame(
    {
        "price": PRICE,
        "weight": 3 * PRICE,
        "kind": KINDS,
        "count": pandas.array(_RNG.integers(0, 5, 60), dtype="Int64"),
        "when": pandas.date_range("2020-01-01", periods=60),
        "id": [f"row {i}" for i in range(60)],
    },
    index=range(100, 160),
)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return DiffusionModel(net="mlp:width=16,depth=1", steps=5, device="cpu").fit(FRAME)


def holes() -> pandas.DataFrame:
    found = FRAME.head(6).copy()
    for row, name in zip(found.index, ("price", "kind", "count", "when", "price"), strict=False):
        found.loc[row, name] = None
    return found


def test_only_what_is_missing_changes(model: DiffusionModel) -> None:
    given = holes()
    made = model.impute(given)
    assert_index_equal(made.index, given.index)
    assert made.dtypes.equals(given.dtypes)
    assert not made.isna().any(axis=None)
    assert_frame_equal(made.mask(given.isna()), given)
    assert (made["price"] > 0).all()
    assert made["price"].iloc[0] == round(made["price"].iloc[0], 2)
    assert set(made["kind"]) <= {"a", "b"}


def test_draws_differ_and_the_first_is_that_of_one_draw(model: DiffusionModel) -> None:
    one, (first, second) = model.impute(holes()), model.impute(holes(), draws=2)
    assert_frame_equal(one, first)
    assert not first.equals(second)
    assert_frame_equal(model.impute(holes(), random_state=1), model.impute(holes(), random_state=1))
    assert not model.impute(holes(), random_state=1).equals(one)


def test_frames_of_polars_and_arrays() -> None:
    frame = polars.from_pandas(FRAME[["price", "kind"]])
    given = frame.head(4).with_columns(kind=polars.Series([None, "a", "b", "a"]))
    made = DiffusionModel(net="mlp:width=16,depth=1", steps=5, device="cpu").fit(frame).impute(given)
    assert made.schema == frame.schema
    assert made["kind"].null_count() == 0
    assert made[1:].equals(given[1:])
    x = np.stack([PRICE, 2 * PRICE], 1)
    rows = np.where([[True, False], [False, False]], np.nan, x[:2])
    filled = DiffusionModel(net="mlp:width=16,depth=1", steps=5, device="cpu").fit(x).impute(rows)
    assert np.array_equal(filled[1], x[1])
    assert filled[0, 1] == x[0, 1]
    assert filled[0, 0] > 0


def test_the_same_values_as_by_the_command(model: DiffusionModel, tmp_path: Path) -> None:
    model.save(tmp_path / "run")
    holes().to_parquet(tmp_path / "holes.parquet")
    impute(tmp_path / "run", tmp_path / "holes.parquet", tmp_path / "filled.parquet")
    assert_frame_equal(pandas.read_parquet(tmp_path / "filled.parquet"), model.impute(holes()))


def test_values_are_missing_together_as_in_the_data() -> None:
    frame = FRAME[["price", "weight", "count"]].astype("float64").assign(other=np.flip(PRICE))
    frame.iloc[::4, :2] = np.nan
    frame.iloc[::5, 2] = np.nan
    model = DiffusionModel(net="mlp:width=16,depth=1", steps=5, device="cpu").fit(frame)
    gaps = model.sample(400).isna()
    assert gaps["price"].equals(gaps["weight"])
    assert not gaps["price"].equals(gaps["count"])
    for name, share in (("price", 1 / 4), ("count", 1 / 5)):
        assert abs(gaps[name].mean() - share) < 4 * (share * (1 - share) / 400) ** 0.5
    assert not gaps["other"].any()
    assert not model.sample(50, given={"weight": 60.0})[["price", "weight"]].isna().any(axis=None)
    filled = model.impute(frame.head(8).assign(weight=50.0))
    assert not filled.isna().any(axis=None)
    assert (filled["weight"] == 50).all()


def test_what_cannot_be_filled(model: DiffusionModel) -> None:
    with pytest.raises(DataError, match="no missing cells"):
        model.impute(FRAME.head(2))
    with pytest.raises(DataError, match="1 of the values are infinite"):
        model.impute(holes().assign(weight=[np.inf, *range(1, 6)]))
    with pytest.raises(ParameterError, match="draws=0 is too small"):
        model.impute(holes(), draws=0)
    with pytest.raises(DataError, match=r"differ in shape or columns|expecting"):
        model.impute(holes()[["price", "kind"]])
