"""Data frames and files of pandas and polars come back with the dtypes that they had, and with values that these dtypes have."""

from pathlib import Path

import numpy as np
import pandas
import polars
import pytest
from pandas.testing import assert_frame_equal

from sdezoo import DiffusionModel
from sdezoo.data.formats import Samples, TableFormat
from sdezoo.errors import DataError
from sdezoo.runs.impute import impute
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.datasets import find_dataset
from sdezoo.zoo.formats import find_format

COUNT = 60
RNG = np.random.default_rng(0)
NUMBERS = np.exp(RNG.normal(3, 1, COUNT))
TIMES = pandas.Timestamp("2019-12-30") + pandas.to_timedelta(RNG.integers(-(10**6), 10**6, COUNT), unit="min")
GAP = [k % 5 == 0 for k in range(COUNT)]
DAYS = pandas.date_range("2021-01-01", periods=12)
PERIODS = {f"period {freq}": pandas.PeriodIndex(TIMES, freq=freq) for freq in ("M", "Q", "Y", "W", "D", "h", "min", "s")}
COLUMNS = PERIODS | {
    "period with gaps": pandas.PeriodIndex(TIMES.where(~np.array(GAP)), freq="M"),
    "interval": pandas.arrays.IntervalArray.from_arrays(np.floor(NUMBERS), np.floor(NUMBERS) + 0.5),
    "interval with gaps": pandas.arrays.IntervalArray.from_tuples(
        [None if gone else (k % 7, k % 7 + 2) for k, gone in enumerate(GAP)], closed="left"
    ),
    "Int64": pandas.array([None if gone else k for k, gone in enumerate(GAP)], dtype="Int64"),
    "UInt8": pandas.array(np.arange(COUNT) % 50, dtype="UInt8"),
    "Float32": pandas.array(NUMBERS.astype("float32"), dtype="Float32"),
    "boolean": pandas.array([None if gone else k % 2 == 0 for k, gone in enumerate(GAP)], dtype="boolean"),
    "string": pandas.array([None if gone else "ab"[k % 2] for k, gone in enumerate(GAP)], dtype="string"),
    "ordered": pandas.Categorical(RNG.choice(["lo", "hi"], COUNT), ["lo", "mid", "hi"], ordered=True),
    "unused": pandas.Categorical(RNG.choice(["b", "a"], COUNT), ["b", "a", "c"]),
}
IN_MEMORY = {
    "cut": pandas.cut(NUMBERS, [0, 10, 20, 50]),
    "categories of periods": pandas.Categorical(pandas.PeriodIndex(TIMES, freq="Q")),
    "categories of numbers": pandas.Categorical(RNG.choice(np.arange(15) ** 2, COUNT)),
    "categories of days": pandas.Categorical(RNG.choice(DAYS, COUNT)),
    "categories of dates in words": pandas.Categorical(RNG.choice(DAYS.strftime("%Y-%m-%d"), COUNT)),
    "categories of two types": pandas.Categorical([["a", 1, "1"][k % 3] for k in range(COUNT)]),
    "sparse": pandas.arrays.SparseArray(np.where(RNG.random(COUNT) < 0.8, 0, np.arange(COUNT))),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_parquet_of_pandas_is_written_as_it_was_read(tmp_path: Path, name: str) -> None:
    frame = pandas.DataFrame({"x": COLUMNS[name], "y": np.round(NUMBERS).astype("int16")})
    frame.to_parquet(tmp_path / "a.parquet")
    data, form = find_dataset(f"table:path={tmp_path / 'a.parquet'},holdout=0").load(), find_format(tmp_path / "b.parquet", TableFormat)
    assert form is not None
    samples = Samples([data.train], tuple(data.train.shape), "table", data.columns, types=data.types, style=data.style)
    with (tmp_path / "b.parquet").open("wb") as file:
        form.write(samples, file)
    assert_frame_equal(pandas.read_parquet(tmp_path / "b.parquet"), frame)


@pytest.mark.parametrize("name", [*COLUMNS, *IN_MEMORY])
def test_samples_of_a_frame_have_its_dtypes_and_no_further_gaps(name: str) -> None:
    """Samples between two categories of numbers or dates became missing."""
    frame = pandas.DataFrame({"x": (COLUMNS | IN_MEMORY)[name], "y": NUMBERS})
    model = DiffusionModel(steps=1, random_state=0).fit(frame)
    samples = model.sample(50)
    assert list(samples.dtypes) == list(frame.dtypes)
    assert frame["x"].isna().any() or not samples["x"].isna().any()
    if frame["x"].isna().any() and name != "sparse":
        filled = model.impute(frame)
        assert not filled["x"].isna().any()
        assert_frame_equal(filled[~frame["x"].isna()], frame[~frame["x"].isna()])


@pytest.mark.parametrize("name", ["period with gaps", "interval with gaps", "Int64", "boolean", "string"])
def test_missing_cells_of_a_parquet_of_pandas_are_filled(tmp_path: Path, name: str) -> None:
    frame = pandas.DataFrame({"x": COLUMNS[name], "y": NUMBERS})
    frame.to_parquet(tmp_path / "a.parquet")
    train(TrainingConfig(data=f"table:path={tmp_path / 'a.parquet'}", steps=1, out=str(tmp_path / "run")))
    impute(tmp_path / "run", tmp_path / "a.parquet", out=tmp_path / "b.parquet")
    filled = pandas.read_parquet(tmp_path / "b.parquet")
    assert list(filled.dtypes) == list(frame.dtypes)
    assert not filled["x"].isna().any()
    assert_frame_equal(filled[~frame["x"].isna()], frame[~frame["x"].isna()])


def test_what_is_no_number_or_usual_frequency_is_refused_with_what_to_do() -> None:
    frame = pandas.DataFrame({"x": pandas.PeriodIndex(TIMES, freq="B"), "y": NUMBERS})
    with pytest.raises(DataError, match=r"of the frequency B\. Convert them to timestamps: frame\['x'\]\.dt\.to_timestamp\(\)"):
        DiffusionModel(steps=1).fit(frame)
    DiffusionModel(steps=1).fit(frame.assign(x=frame["x"].dt.to_timestamp()))
    frame["x"] = pandas.arrays.IntervalArray.from_arrays(TIMES, TIMES + pandas.Timedelta("1D"))
    with pytest.raises(DataError, match=r"intervals that are not of numbers\. Give texts: frame\['x'\]\.astype\(str\)"):
        DiffusionModel(steps=1).fit(frame)
    DiffusionModel(steps=1).fit(frame.assign(x=frame["x"].astype(str)))


def test_ordered_categories_of_more_rows_than_are_read_at_a_time(tmp_path: Path) -> None:
    pandas.DataFrame({"x": pandas.Categorical(["lo", "hi"] * 40_000, ["lo", "mid", "hi"], ordered=True)}).to_parquet(tmp_path / "a.parquet")
    assert len(find_dataset(f"table:path={tmp_path / 'a.parquet'},holdout=0").load().train) == 80_000


def test_polars_has_integers_of_128_bits() -> None:
    frame = polars.DataFrame({"x": polars.Series([k % 50 for k in range(COUNT)], dtype=polars.Int128), "y": NUMBERS})
    assert DiffusionModel(steps=1).fit(frame).sample(3).dtypes == frame.dtypes
    with pytest.raises(DataError, match="'x' holds integers beyond 64 bits"):
        DiffusionModel(steps=1).fit(polars.DataFrame({"x": polars.Series([2**90 + k for k in range(COUNT)], dtype=polars.Int128)}))
