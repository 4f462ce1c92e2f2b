"""The table of renamed things in the changelog: what it calls new exists, and what it calls old does not."""

import inspect
import re
from importlib import util
from pathlib import Path
from pkgutil import resolve_name

import pytest

import sdezoo
from sdezoo import Conditional, ForwardSDE, Model, Plugin, Process, ScoreLoss, ScoreModel, Stationary, TrainingConfig
from sdezoo.learning.prior import Moments
from sdezoo.losses import MultDSM
from sdezoo.parameters import describe
from sdezoo.process.interpolant import Interpolant
from sdezoo.samplers import Multiplicative
from sdezoo.store.checkpoint import State
from sdezoo.store.restoring import Trained
from sdezoo.store.shards import Shards
from sdezoo.training.loop import Result, Training
from sdezoo.verification.verify import verify

TEXT = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
RENAMED = re.findall(r"^\| (\w+) \| `([^`]+)` \| `([^`]+)` \|$", TEXT, re.MULTILINE)
CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        *(Conditional, ForwardSDE, Model, Process, ScoreLoss, ScoreModel, Stationary),
        *(Interpolant, Moments, Result, Shards, State, Trained, Training),
    )
}


def exists(kind: str, name: str) -> bool:
    """Whether the thing of this kind and name exists."""
    match kind:
        case "option" | "setting":
            return name.removeprefix("--").replace("-", "_") in TrainingConfig.model_fields
        case "spec":
            key, _, value = name.partition("=")
            return any(value in choices(plugin, key) for plugin in (MultDSM, Multiplicative))
        case "member":
            cls, _, member = name.partition(".")
            return member in {*dir(CLASSES[cls]), *inspect.get_annotations(CLASSES[cls])}
        case "argument":
            function, _, argument = name.removesuffix("=)").partition("(")
            cls, _, method = function.rpartition(".")
            owner = CLASSES[cls] if cls else sdezoo
            return argument in inspect.signature(verify if function == "verify" else getattr(owner, method)).parameters
        case "name":
            return is_found(name)
        case _:
            return util.find_spec(name) is not None


def is_found(name: str) -> bool:
    """Whether a dotted name leads to something."""
    try:
        return resolve_name(name) is not None
    except (ImportError, AttributeError):
        return False


def choices(plugin: type[Plugin], key: str) -> list[str]:
    return [word.strip(",") for parameter in describe(plugin) if parameter.name == key for word in parameter.allowed.split()]


@pytest.mark.parametrize(("kind", "old", "new"), RENAMED, ids=[f"{kind}-{old}" for kind, old, _ in RENAMED])
def test_what_was_renamed_exists_under_its_new_name_alone(kind: str, old: str, new: str) -> None:
    assert exists(kind, new)
    assert not exists(kind, old)


def test_every_row_of_the_table_is_read() -> None:
    rows = [line for line in TEXT.partition("### Renamed")[2].splitlines() if line.startswith("| ")]
    assert len(RENAMED) == len(rows) - 2
    assert {kind for kind, _, _ in RENAMED} == {"option", "setting", "spec", "member", "argument", "name", "module"}
