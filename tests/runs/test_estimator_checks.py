"""scikit-learn's own checks of estimators, with few steps, since they fit a model each."""

import warnings
from collections.abc import Callable

import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.utils.estimator_checks import parametrize_with_checks

from sdezoo import DiffusionModel

EXPECTED = {"check_dtype_object": "A dict among the numbers is a DataError, which is a ValueError and no TypeError."}


def tiny() -> DiffusionModel:
    return DiffusionModel(net="mlp:width=8,depth=1", steps=2, sampling_steps=2, device="cpu")


@parametrize_with_checks([tiny()], expected_failed_checks=lambda _: EXPECTED)
def test_conventions_of_scikit_learn(
    estimator: DiffusionModel, check: Callable[[DiffusionModel], None], no_pickle_is_read: list[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)
    no_pickle_is_read[:] = [found for found in no_pickle_is_read if not found.startswith(("sklearn.utils.estimator_checks ", "joblib."))]


def test_the_exception_is_still_needed() -> None:
    """A dict is refused in one sentence."""
    with pytest.raises(ValueError, match="not an array of numbers"):
        tiny().fit([[{"a": 1}, 2], [3, 4]])
