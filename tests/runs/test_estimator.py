"""The estimator keeps scikit-learn's conventions, and is the same model as that of the command line."""

import copy
from datetime import date
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sdezoo import DiffusionModel
from sdezoo.errors import DataError, ParameterError, RunError, SdezooError
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig

X = np.exp(np.random.default_rng(0).standard_normal((60, 3))).astype(np.float32)
FRAME = pandas.DataFrame({"price": X[:, 0].astype(np.float64), "count": (10 * X[:, 1]).astype(int) + 1, "weight": X[:, 2]})


def small(**values: object) -> DiffusionModel:
    return DiffusionModel(**{"net": "mlp:width=16,depth=1", "steps": 5, "sampling_steps": 4, "device": "cpu", **values})  # type: ignore[arg-type]


def test_parameters_are_kept_as_given_and_cloned() -> None:
    model = small(sde="vp", shift="auto")
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(steps=7).steps == 7
    with pytest.raises(NotFittedError):
        model.sample(1)


def test_an_array_comes_back_as_an_array() -> None:
    model = small().fit(X)
    made = model.sample(10)
    assert made.shape == (10, 3)
    assert made.dtype == np.float32
    assert (made > 0).all()
    assert model.n_features_in_ == 3
    assert np.array_equal(made[:4], model.sample(4))
    assert not np.array_equal(made, model.sample(10, random_state=1))
    assert model.score_samples(X).shape == (60,)
    assert model.score(X) == pytest.approx(model.score_samples(X).mean())
    with pytest.raises(DataError, match=r"The given data have 1 missing \(NaN\) value, the first in row 1, column 0"):
        model.score([[1, 1, 1], [np.nan, 1, 1]])


def test_what_the_caller_set_in_torch_changes_nothing(tmp_path: Path) -> None:
    wanted = small().fit(X).sample(3)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        with torch.inference_mode():
            model = small().fit(X)
            model.save(tmp_path / "run")
            assert np.array_equal(model.sample(3), wanted)
            assert np.array_equal(DiffusionModel.load(tmp_path / "run").set_params(sampling_steps=4).sample(3), wanted)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device("cpu")
    half = torch.tensor(X, requires_grad=True).bfloat16()
    assert np.array_equal(small().fit(half).sample(3), small().fit(half.detach().float().numpy()).sample(3))
    with pytest.raises(ParameterError, match=r"100000000000 samples take .* GiB of memory"):
        model.sample(10**11)
    with pytest.raises(DataError, match="have their channels last"):
        small().fit(np.zeros((4, 8, 8, 3)))


def test_a_frame_keeps_its_columns_and_types() -> None:
    model = small().fit(FRAME)
    made = model.sample(10)
    assert list(made.columns) == list(FRAME.columns) == list(model.feature_names_in_)
    assert (made.dtypes == FRAME.dtypes).all()
    assert np.isfinite(model.score_samples(FRAME)).all()
    with pytest.raises(DataError, match="differ in shape or columns"):
        model.score_samples(FRAME[["count", "price", "weight"]])
    with pytest.raises(DataError, match=r"'name' mixes types: 1 of 60 values are no str, the first is 3 in row 7"):
        small().fit(FRAME.assign(name=pandas.Series(["a"] * 7 + [3] + ["b"] * 52, dtype=object)))


def test_labels_and_images() -> None:
    images = np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32)
    model = small(net="unet:width=8", condition="labels", batch_size=8).fit(images, np.arange(20) % 2)
    assert model.trained_.state.classes == 2
    assert model.sample(2).shape == (2, 1, 8, 8)


def test_the_same_seed_is_the_same_model() -> None:
    a, b, c = (small(random_state=seed).fit(X).sample(5, random_state=0) for seed in (3, 3, 4))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_saved_is_a_run_folder(tmp_path: Path) -> None:
    model = small().fit(FRAME)
    model.save(tmp_path / "model")
    loaded = DiffusionModel.load(tmp_path / "model")
    assert loaded.get_params() | {"sampling_steps": 4} == model.get_params()
    loaded.sampling_steps = 4
    pandas.testing.assert_frame_equal(loaded.sample(5), model.sample(5))
    assert restore(tmp_path / "model").state == model.trained_.state
    with pytest.raises(RunError, match="not empty"):
        model.save(tmp_path / "model")


def test_it_loads_what_the_command_line_trained(tmp_path: Path) -> None:
    train(TrainingConfig(data="wine", net="mlp:width=16,depth=1", steps=2, device="cpu", out=str(tmp_path / "run")))
    model = DiffusionModel.load(tmp_path / "run")
    assert "alcohol" in model.sample(3).columns
    assert model.steps == 2


def test_guides_are_those_of_the_command_line(tmp_path: Path) -> None:
    train(TrainingConfig(data="spirals", net="mlp:width=16,depth=1", steps=2, condition="labels", device="cpu", out=str(tmp_path / "run")))
    guides = ["ipm:weight=1,count=8", "cfg:weight=2"]
    sample(tmp_path / "run", tmp_path / "a.npy", n=5, steps=4, label="1", guides=guides)
    model = DiffusionModel.load(tmp_path / "run")
    model.sampling_steps = 4
    made = model.sample(5, condition=1, guide=guides)
    assert np.array_equal(np.load(tmp_path / "a.npy"), made)
    assert not np.array_equal(made, model.sample(5, condition=1, guide="cfg:weight=2"))
    with pytest.raises(ParameterError, match="no label to guide to"):
        model.sample(5, guide="cfg")
    with pytest.raises(ParameterError, match="is no guide"):
        model.sample(5, guide={"cfg": 2})  # type: ignore[arg-type]


def test_guides_have_the_rows_and_what_was_observed() -> None:
    model = small(sde="vp").fit(X)
    known = np.where([True, False, False], X[:4], np.nan)
    made = model.sample(4, guide="inpaint", observed={"x": known})
    assert np.array_equal(made, model.sample(4, guide="inpaint", observed={"x": X[:4], "mask": ~np.isnan(known)}))
    assert not np.array_equal(made, model.sample(4))
    assert not np.array_equal(model.sample(4), model.sample(4, guide="ipm:count=8"))
    pickled = copy.copy(model)  # by the state that is pickled
    assert np.array_equal(pickled.sample(4), model.sample(4))
    with pytest.raises(ParameterError, match="needs the training rows"):
        pickled.sample(4, guide="ipm:count=8")
    with pytest.raises(ParameterError, match="not a dictionary of arrays"):
        model.sample(4, guide="inpaint", observed=known)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="observed holds no numbers"):
        model.sample(4, guide="inpaint", observed={"x": X[:4].astype(str)})


def test_it_ends_a_pipeline() -> None:
    pipeline = make_pipeline(FunctionTransformer(np.exp), small()).fit(np.log(X))
    assert pipeline.score_samples(np.log(X)).shape == (60,)


@pytest.mark.parametrize(
    ("values", "data", "message"),
    [
        ({}, [[1.0, 2.0], [1.0]], "not an array of numbers"),
        ({}, np.ones(5), "have shape"),
        ({"sde": "gbm"}, -X, "negative"),
        ({"steps": 0}, X, "steps"),
        ({"sde": "gmb"}, X, "gbm"),
        ({"batch_size": 100}, X, "larger than the data"),
    ],
)
def test_mistakes_are_told_in_fit(values: dict, data: object, message: str) -> None:
    model = small(**values)
    with pytest.raises(SdezooError, match=message):
        model.fit(data)


def test_settings_are_those_of_a_training() -> None:
    """A parameter that training does not know would only be found out in `fit`."""
    own = {"sampler", "sampling_steps", "random_state", "verbose"}
    assert set(DiffusionModel().get_params()) - own <= set(TrainingConfig.model_fields)
    for name in set(DiffusionModel().get_params()) - own:
        assert DiffusionModel().get_params()[name] == TrainingConfig.model_fields[name].default, name


def test_settings_out_of_range_are_told() -> None:
    with pytest.raises(ParameterError, match="ema"):
        small(ema_half_life_images=-1).fit(X)


def test_polars_comes_back_as_polars() -> None:
    polars = pytest.importorskip("polars")
    made = small().fit(polars.from_pandas(FRAME)).sample(5)
    assert isinstance(made, polars.DataFrame)
    assert made.schema == polars.from_pandas(FRAME).schema
    assert np.array_equal(made.to_numpy(), small().fit(FRAME).sample(5).to_numpy())


def test_frames_of_polars_keep_words_dates_and_missing_values() -> None:
    polars = pytest.importorskip("polars")
    days = [date(2024, 1, 1 + i % 28) for i in range(60)]
    columns = {"price": X[:, 0].astype(np.float64), "kind": ["a", "b", None] * 20, "true": [True, False] * 30, "day": days}
    frame = polars.DataFrame({**columns, "n": [None, *range(9)] * 6, "level": polars.Series(["x", "y"] * 30, dtype=polars.Categorical)})
    compact = polars.Series([20231228 + i % 4 if i % 8 < 4 else 20240101 + i % 4 for i in range(60)], dtype=polars.Int32)
    frame = frame.with_columns(compact=compact, cents=frame["price"].cast(polars.Decimal(12, 2)))
    made = small().fit(frame).sample(40)
    assert made.schema == frame.schema
    assert made["compact"].cast(polars.String).str.to_date("%Y%m%d", strict=False).null_count() == 0
    assert set(made["kind"].drop_nulls()) <= {"a", "b"}
    assert 0 < made["kind"].null_count() < 40


def test_a_column_that_training_leaves_out_may_be_given_for_scores() -> None:
    frame = FRAME.assign(id=[f"N{i}" for i in range(60)])[["price", "id", "weight"]]
    model = small().fit(frame)
    assert model.sample(2).columns.tolist() == ["price", "weight"]
    assert np.array_equal(model.score_samples(frame), model.score_samples(frame[["price", "weight"]]))
    with pytest.raises(DataError, match="differ in shape or columns"):
        model.score_samples(frame[["price", "id"]])


@pytest.mark.parametrize("names", [[0, 1, 2], [("a", 1), ("a", 2), ("b", 1)], ["x", 1, ("c", 2)]])
def test_names_of_columns_are_kept_whatever_they_are(names: list) -> None:
    frame = FRAME.set_axis(pandas.MultiIndex.from_tuples(names) if names[0] == ("a", 1) else names, axis=1)
    model = small().fit(frame)
    made = model.sample(3)
    assert made.columns.equals(frame.columns)
    assert not hasattr(model, "feature_names_in_")
    assert np.isfinite(model.score_samples(frame)).all()
    assert model.fit(FRAME).feature_names_in_.tolist() == FRAME.columns.tolist()
    with pytest.raises(DataError, match="more than one column named '1'"):
        small().fit(FRAME.set_axis([1, "1", 2], axis=1))


def test_seeds_of_numpy() -> None:
    same = [small(random_state=seed).fit(X).sample(2, random_state=np.int64(5)) for seed in (3, np.int64(3), np.uint8(3))]
    assert all(np.array_equal(same[0], other) for other in same)
    for kind in (np.random.RandomState, np.random.default_rng):
        a, b = (small(random_state=kind(3)).fit(X) for _ in range(2))
        first, second = a.sample(2), a.sample(2)
        assert np.array_equal(first, b.sample(2))
        assert not np.array_equal(first, second), "a generator moves on"
    assert small(random_state=None).fit(X).sample(1).shape == (1, 3)
    with pytest.raises(ParameterError, match="random_state=x is no seed"):
        small(random_state="x").fit(X)


@pytest.mark.parametrize(
    ("y", "classes"),
    [(np.array(["b", "a"] * 30), ["a", "b"]), ([7, 3] * 30, [3, 7]), (np.array([1.0, 0.0] * 30)[:, None], [0, 1])],
)
def test_classes_are_drawn_by_their_labels(y: object, classes: list) -> None:
    model = small(condition="labels").fit(X, y)
    assert model.classes_.tolist() == classes
    a, b = (model.sample(3, condition=label) for label in classes)
    assert not np.array_equal(a, b)
    with pytest.raises(ParameterError, match=r"no class 'z'.*Give one of"):
        model.sample(3, condition="z")
    with pytest.raises(SdezooError, match="unconditional"):
        small().fit(X, y).sample(3, condition=classes[0])


@pytest.mark.parametrize(
    ("y", "says"),
    [([0.2, 1.9] * 30, "fractions, such as 0.2 in row 0"), ([0, 1], "y has shape"), (["a", None] * 30, "row 1 .* missing")],
)
def test_labels_that_are_none(y: list, says: str) -> None:
    with pytest.raises(DataError, match=says):
        small(condition="labels").fit(X, y)
    assert small().fit(X, y).sample(1).shape == (1, 3), "labels that are not used are not looked at"


def test_missing_values_of_nullable_integers_are_kept_unless_they_are_refused() -> None:
    frame = FRAME.assign(n=pandas.array([1, None] * 30, dtype="Int64"))
    with pytest.raises(DataError, match=r"30 missing .* row 1, column 'n'"):
        small(missing="refuse").fit(frame)
    assert small().fit(frame).sample(3)["n"].dtype == "Int64"
    made = small().fit(FRAME.assign(n=pandas.array([*range(1, 11)] * 6, dtype="Int64"))).sample(3)
    assert made["n"].dtype == "Int64"


def test_other_forms_of_data_are_refused() -> None:
    for data, says in (
        (csr_array(X), "Sparse data"),
        (X * 1j, "Complex data"),
        (X[:1], "1 sample"),
        (X[:, :0], r"0 feature\(s\)"),
        (FRAME.assign(a=[1, "x"] * 30), "'a' mixes types: 30 of 60"),
    ):
        with pytest.raises(DataError, match=says):
            small().fit(data)
    with pytest.raises(DataError, match="X has 2 features, but DiffusionModel is expecting 3 features"):
        small().fit(X).score(X[:, :2])


def test_training_is_told_and_remembered(capsys) -> None:
    rows = np.random.default_rng(0).lognormal(size=(60, 2))
    model = DiffusionModel(sde="gbm", net="mlp:width=8,depth=1", steps=60, batch_size=8, verbose=1)
    assert "fitted" not in repr(model)
    model.fit(rows)
    assert capsys.readouterr().err.splitlines()[-1].startswith("training 60/60  loss ")
    assert model.history_["step"] == [50, 60]
    assert len(model.history_["loss"]) == len(model.history_["validation_loss"]) == 2
    assert f"fitted: {model.trained_.model.sde.spec}" in repr(model)
    DiffusionModel(sde="gbm", net="mlp:width=8,depth=1", steps=2, batch_size=8).fit(rows)
    assert capsys.readouterr().err == ""


def test_series_start_at_one_and_continue_what_is_given() -> None:
    rng = np.random.default_rng(0)
    prices = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal((80, 8, 2)), 1)).astype(np.float32)
    model = DiffusionModel(net="unet1d:width=8", steps=5, batch_size=16).fit(prices)
    made = model.sample(3)
    assert made.shape == (3, 8, 2)
    assert (made[:, 0] == 1).all()
    given = prices[:2, :3]
    continued = model.sample(4, given=given)
    np.testing.assert_array_equal(continued[:, :3], np.tile(given, (2, 1, 1)))
    real = DiffusionModel(net="unet1d:width=8", steps=5, batch_size=16).fit(np.log(prices / 100))
    assert real.trained_.state.sde.startswith("vp")
    with pytest.raises(DataError, match="one step"):
        DiffusionModel().fit(prices[:, :1])
    with pytest.raises(ParameterError, match="does not leave"):
        model.sample(2, given=prices[:2])


def test_columns_keep_the_dtypes_of_pandas() -> None:
    """Categories that no sample has, their order, and types for missing values."""
    kind = pandas.CategoricalDtype(["low", "middle", "high"], ordered=True)
    frame = FRAME.assign(
        level=pandas.Series(["low", "high"] * 30, dtype=kind),
        code=pandas.Series([10, 20] * 30, dtype="category"),
        truth=pandas.array([True, None] * 30, dtype="boolean"),
        part=pandas.array([1.5, None] * 30, dtype="Float64"),
        small=pandas.array([1, None, 5] * 20, dtype="Int8"),
        thin=pandas.arrays.SparseArray([0.0, 1.5] * 30),
    )
    made = small().fit(frame).sample(20)
    same = [name for name in frame.columns if name != "thin"]
    assert (made.dtypes[same] == frame.dtypes[same]).all()
    assert made["level"].cat.ordered


@pytest.mark.parametrize("given", [FRAME.iloc[0], FRAME.head(1), "price=1", ["price=1"]])
def test_conditions_in_another_form_are_not_ignored(given: object) -> None:
    with pytest.raises(ParameterError, match="dictionary"):
        small().fit(FRAME).sample(1, given=given)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [2.7, "3", True])
def test_a_number_of_samples_is_whole(number: object) -> None:
    with pytest.raises(ParameterError, match="n_samples"):
        small().fit(X).sample(number)  # type: ignore[arg-type]


def test_integers_too_large_are_refused() -> None:
    with pytest.raises(DataError, match="beyond 64 bits"):
        small().fit(FRAME.assign(id=pandas.Series([10**30 + k for k in range(60)], dtype=object)))


def test_errors_name_the_parameters_of_the_estimator() -> None:
    """Not the options of the command line, which say the same there."""
    model = small().fit(FRAME)
    holes, negative = FRAME.assign(weight=np.nan), FRAME - 5
    for refused, remedy in (
        (
            lambda: small(sde="gbm").fit(negative),
            'Omit sde (each column then gets a process that fits), choose another SDE, or give shift="auto"',
        ),
        (lambda: small(column="price=gbm").fit(negative), "column='price=vp'"),
        (lambda: small(column="price=gbm", sde="vp").fit(FRAME), "column gives columns a process, and so does sde. Leave out sde."),
        (lambda: small(missing="drop").fit(holes), 'Give missing="keep", or'),
        (lambda: small(batch_size=61).fit(FRAME), "Give batch_size at most 60."),
        (lambda: small(sde="vp", loss="mult-dsm").fit(X), 'Fits \'mult-dsm\': sde="exp-ou", "gbm", "lift".'),
        (lambda: model.sample(start=FRAME[:3], given={"price": 1.0}), "Leave out start, or given."),
        (lambda: model.sample(guide="cfg"), 'Train one with condition="labels", or leave out guide.'),
        (lambda: model.sample(guide="inpaint"), "Give it: observed."),
    ):
        with pytest.raises(SdezooError) as error:
            refused()
        assert remedy in str(error.value)
        assert "--" not in str(error.value)
