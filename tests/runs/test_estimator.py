"""The estimator keeps scikit-learn's conventions, and is the same model as that of the command line."""

from pathlib import Path

import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sdezoo import DiffusionModel
from sdezoo.errors import DataError, ParameterError, RunError, SdezooError
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


def test_a_frame_keeps_its_columns_and_types() -> None:
    model = small().fit(FRAME)
    made = model.sample(10)
    assert list(made.columns) == list(FRAME.columns) == list(model.feature_names_in_)
    assert (made.dtypes == FRAME.dtypes).all()
    assert np.isfinite(model.score_samples(FRAME)).all()
    with pytest.raises(DataError, match="differ in shape or columns"):
        model.score_samples(FRAME[["count", "price", "weight"]])
    with pytest.raises(DataError, match="not numbers: name"):
        small().fit(FRAME.assign(name="a"))


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
    own = {"sampler", "sampling_steps", "random_state"}
    assert set(DiffusionModel().get_params()) - own <= set(TrainingConfig.model_fields)
    for name in set(DiffusionModel().get_params()) - own:
        assert DiffusionModel().get_params()[name] == TrainingConfig.model_fields[name].default, name


def test_settings_out_of_range_are_told() -> None:
    with pytest.raises(ParameterError, match="ema"):
        small(ema_half_life_images=-1).fit(X)
