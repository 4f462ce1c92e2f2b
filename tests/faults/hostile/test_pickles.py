"""The audit hook of `tests/conftest.py` sees pickles, however they are read, and copies are none."""

import copy
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

PICKLED = pickle.dumps(OrderedDict(a=1))


def _by_torch() -> object:
    buffer = io.BytesIO()
    torch.save(OrderedDict(a=1), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def _by_numpy() -> object:
    buffer = io.BytesIO()
    np.save(buffer, np.array([OrderedDict(a=1)], dtype=object), allow_pickle=True)
    buffer.seek(0)
    return np.load(buffer, allow_pickle=True)


@pytest.mark.parametrize(
    ("read", "reader"),
    [
        (lambda: pickle.loads(PICKLED), __name__),
        (lambda: pickle._loads(PICKLED), __name__),  # pyright: ignore[reportAttributeAccessIssue]
        (lambda: pickle.Unpickler(io.BytesIO(PICKLED)).load(), __name__),
        (_by_torch, "torch"),
        (_by_numpy, "numpy"),
    ],
)
def test_a_pickle_is_seen(no_pickle_is_read: list[str], read: Callable[[], object], reader: str) -> None:
    read()
    assert no_pickle_is_read[0].startswith(reader)
    no_pickle_is_read.clear()


def test_a_copy_is_none(no_pickle_is_read: list[str], tmp_path: Path) -> None:
    copy.deepcopy(OrderedDict(a=torch.nn.Linear(2, 2)))
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.load(tmp_path / "a.npy", allow_pickle=False)
    assert not no_pickle_is_read
