"""Settings shared by all tests: one thread (the tensors are small), examples that are the same in every run, and no pickles.

Python tells an audit hook of every class that a pickle names, whoever reads it and however. A test in whose course our process reads
one fails, our libraries' reading included.
"""

import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("sdezoo", deadline=None, derandomize=True)
settings.load_profile("sdezoo")

_found: list[str] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "pickle.find_class":
        _found.append(f"{_reader()} read a pickle that names {arguments[0]}.{arguments[1]}")


def _reader() -> str:
    """The module that asked for the reading: the innermost but for those that read pickles."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__", "") in ("pickle", "_pickle", "_compat_pickle"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "an unknown module"))


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def no_pickle_is_read() -> Iterator[list[str]]:
    """Fails the test in whose course one is read; gives what was found, which a test may take out."""
    _found.clear()
    yield _found
    assert not _found, _found
