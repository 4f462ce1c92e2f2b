"""What columns are for `--sde auto`: categories, missing values and identifiers, the whole way with no option but the steps."""

import datetime
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, parquet

from sdezoo import DiffusionModel
from sdezoo.data.codecs.codec import AffineCodec
from sdezoo.data.codecs.normal_scores import NormalScoreCodec
from sdezoo.errors import DataError, SdezooError
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.column_options import ColumnOptions
from sdezoo.zoo.column_roles import find_roles
from sdezoo.zoo.datasets import find_dataset

N = 400


def table() -> pandas.DataFrame:
    r = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "id": [f"P{k:04d}" for k in range(N)],
            "row": np.arange(N) + 7,
            "sex": r.choice(["f", "m"], N, p=[0.7, 0.3]),
            "island": r.choice(["A", "B", "C"], N, p=[0.5, 0.45, 0.05]),
            "member": r.random(N) < 0.1,
            "grade": r.choice([1, 2, 3, 4], N, p=[0.5, 0.3, 0.15, 0.05]),
            "visits": r.poisson(3, N),
            "price": np.round(np.exp(r.normal(3, 1, N)), 2),
            "day": [datetime.date(2020, 1, 1) + datetime.timedelta(days=int(k)) for k in r.integers(0, 900, N)],
            "unit": ["kg"] * N,
        }
    )
    frame["count"] = pandas.array(r.poisson(40, N), dtype="Int64")
    frame.loc[r.random(N) < 0.1, "count"] = pandas.NA
    frame.loc[r.random(N) < 0.1, "sex"] = None
    return frame


def config(tmp_path: Path, **values: object) -> TrainingConfig:
    small = {"net": "mlp:width=32,depth=1", "steps": 20, "batch_size": 64, "device": "cpu", "out": str(tmp_path / "run")}
    return TrainingConfig.build({**small, **values})


@pytest.fixture
def path(tmp_path: Path) -> str:
    table().to_csv(tmp_path / "t.csv", index=False)
    return str(tmp_path / "t.csv")


def test_roles(path: str) -> None:
    options, reasons = find_roles(find_dataset(path).load(), ColumnOptions())
    assert options.dropped == ("id", "row")
    assert options.categories == ("sex", "island", "member", "grade", "unit")
    assert "'id' left out: a different string in every row. To keep it, give --column 'id=category'" in reasons
    assert ColumnOptions.parse(options.others) == options
    kept, _ = find_roles(find_dataset(path).load(), ColumnOptions.parse("row=vp,grade=gbm,visits=category,price=drop"))
    assert kept.dropped == ("price", "id")
    assert kept.categories == ("visits", "sex", "island", "member", "unit")


def test_texts_that_most_rows_have_alone_are_left_out(tmp_path: Path) -> None:
    """A model would learn the names of people by heart. A place that many share is a category."""
    rows = "".join(f"{0.5 * k},{'Ann' if k < 9 else f'person {k}'},{'here' if k < 10 else f'place {k}'}\n" for k in range(20))
    (tmp_path / "t.csv").write_text("x,name,place\n" + rows)
    options, reasons = find_roles(find_dataset(str(tmp_path / "t.csv")).load(), ColumnOptions())
    assert (options.dropped, options.categories) == (("name",), ("place",))
    assert "'name' left out: a string that no other row has in 11 of 20 rows." in reasons[0]


def test_the_whole_way(tmp_path: Path, path: str) -> None:
    result = train(config(tmp_path, data=path))
    reasons = " ".join(result.reasons)
    assert "vp for 'sex', 'island', 'member', 'grade', 'day', 'count is missing': categories; real; marks of missing values" in reasons
    assert "no process for 'unit': constant, restored exactly" in reasons
    for ending in ("csv", "parquet"):
        sample(result.run, tmp_path / f"x.{ending}", n=300, steps=5)
    written, other = csv.read_csv(tmp_path / "x.csv"), parquet.read_table(tmp_path / "x.parquet")
    data = table()
    assert written.column_names == other.column_names == [name for name in data if name not in ("id", "row")]
    x = other.to_pandas()
    assert set(x["sex"].dropna()) == {"f", "m"}
    assert set(x["island"]) <= {"A", "B", "C"}
    assert x["member"].dtype == bool
    assert set(x["grade"]) <= {1, 2, 3, 4}
    assert (x["unit"] == "kg").all()
    assert (x["visits"] >= 0).all()
    assert (x["price"] > 0).all()
    assert (x["price"] == x["price"].round(2)).all()
    assert other.schema.field("day").type == pa.date32()
    for name in ("sex", "count"):
        assert abs(x[name].isna().mean() - data[name].isna().mean()) < 0.08
    again = TrainingConfig.read(result.run / "config.yaml")
    assert again["missing"] == "keep"
    assert train(TrainingConfig.build(again | {"steps": 21}), resume=True).steps == 21
    found = evaluate(result.run, samples=tmp_path / "x.parquet")
    assert found.facts["outside_support"] == 0
    assert {one["name"] for one in found.facts["shares"]} == {"sex", "island", "member", "grade", "count is missing"}
    assert {"visits", "price", "day", "count"} <= {one["name"] for one in found.facts["columns"]}


def test_missing_values_dropped_or_refused(tmp_path: Path, path: str) -> None:
    result = train(config(tmp_path, data=path, missing="drop"))
    gaps = int(table().isna().any(axis=1).sum())
    assert f"{gaps} of {N} rows left out, since values are missing in them" in result.reasons
    assert len(result.data.train) + len(result.data.test) == N - gaps
    for values in ({"missing": "refuse"}, {"sde": "vp"}):
        with pytest.raises(DataError, match=r"missing \(NaN\) values, the first in row") as raised:
            train(config(tmp_path, data=path, out=str(tmp_path / "other"), **values))
        assert "--missing drop" in raised.value.remedy


@pytest.mark.parametrize(
    ("columns", "problem", "remedy"),
    [
        ({"a": [1.5, 2.5] * 15, "b": [None] * 30}, "column 'b' has no values at all", "b=drop"),
        ({"a": [None] * 30, "b": [None] * 30}, "table has no values at all", "values"),
        ({"a": [f"{k}x" for k in range(30)], "b": [f"{k}y" for k in range(30)]}, "Every column of the table is an identifier", "others"),
        ({"a": [f"{k // 2}x" for k in range(2400)], "b": [1.5, 2.5] * 1200}, "'a' has 1200 categories, more than the 500", "a=drop"),
    ],
)
def test_tables_that_cannot_be_learned(tmp_path: Path, columns: dict[str, list], problem: str, remedy: str) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(SdezooError, match=problem) as raised:
        train(config(tmp_path, data=str(tmp_path / "t.parquet")))
    assert remedy in raised.value.remedy
    assert not (tmp_path / "run").exists()


def test_the_estimator_gives_back_the_types_of_a_frame() -> None:
    data = table().astype({"island": "category", "day": "datetime64[s]"})
    model = DiffusionModel(net="mlp:width=16,depth=1", steps=5, sampling_steps=4, device="cpu").fit(data)
    made = model.sample(50)
    expected = data.drop(columns=["id", "row"])
    assert list(made.columns) == list(expected.columns)
    for name in ("member", "grade", "visits", "price", "day", "count", "island"):
        assert made[name].dtype == expected[name].dtype, name
    assert set(made["sex"].dropna()) <= {"f", "m"}


def test_numbers_alone_have_normal_scores_and_an_affine_codec(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(100, 2))
    pandas.DataFrame(x, columns=["a", "b"]).to_csv(tmp_path / "t.csv", index=False)
    result = train(config(tmp_path, data=str(tmp_path / "t.csv"), steps=1))
    scores, codec = restore(result.run).encoding.codecs
    assert isinstance(scores, NormalScoreCodec)
    assert isinstance(codec, AffineCodec)
    assert torch.allclose(codec.shift / codec.scale, -scores.encode(result.data.train.double()).mean(0))
