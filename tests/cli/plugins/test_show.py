"""`sdezoo show`: every plugin explains every one of its fields, and without a name all plugins are listed."""

import io
import json
import sys
from collections.abc import Callable

import pytest

from sdezoo.parameters import describe
from sdezoo.zoo.registry import REGISTRIES
from sdezoo_cli.printing import say, say_json

Terminal = Callable[..., tuple[int, str, str]]

BUILT_IN = [
    (kind, name)
    for kind, registry in REGISTRIES.items()
    for name in registry.names()
    if [entry.provider for entry in registry.entries(name)] == ["sdezoo"]
]

each_plugin = pytest.mark.parametrize(("kind", "name"), BUILT_IN)


@each_plugin
def test_every_field_has_a_meaning_a_range_and_a_default(kind: str, name: str) -> None:
    for parameter in describe(REGISTRIES[kind].load(name)):
        assert parameter.meaning.endswith("."), f"{parameter.name}: no sentence below the field says what it means"
        assert parameter.allowed


@each_plugin
def test_fields_are_explained_in_one_way(kind: str, name: str) -> None:
    """By a text below the field, which editors show too, and not by `Args:` in the docstring of the class."""
    cls = REGISTRIES[kind].load(name)
    assert "Args:" not in (cls.__doc__ or "")


def test_the_meanings_are_printed(terminal: Terminal) -> None:
    code, out, _ = terminal("show", "mlp")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ") and line.split()}
    assert lines["depth"].split()[:7] == ["depth", "3", "an", "integer", "at", "least", "1."]
    assert "Number of hidden features; None: 64 below 300 training rows" in lines["width"]
    code, out, _ = terminal("show", "array")
    assert "held out if there is no x_test; the same rows every time. At most 64 MiB and one million rows of a .npy" in out
    assert "required" in out


def test_without_a_name_everything_is_listed(terminal: Terminal) -> None:
    code, out, _ = terminal("show")
    assert code == 0
    assert out.startswith(terminal("list")[1])
    assert "sdezoo show NAME" in out
    assert json.loads(terminal("show", "--json")[1]) == json.loads(terminal("list", "--json")[1])


def test_what_a_terminal_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    say("σ\n")
    say_json({"σ": 1})
    first, second = stream.buffer.getvalue().decode("ascii").splitlines()  # type: ignore[attr-defined]
    assert first == "\\u03c3"
    assert json.loads(second) == {"σ": 1}
