"""Resuming compares processes, not how a record spells them."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdezoo.errors import RunError
from sdezoo.store.checkpoint import State
from sdezoo.training.resumption import refuse_other_model

HERE = Path("runs/r/checkpoints/step-1")


def state(sde: str) -> Any:
    return SimpleNamespace(**{field.name: None for field in fields(State)} | {"sde": sde, "net": "mlp:width=8"})


def test_a_field_that_the_record_does_not_know_has_its_default():
    now = state("gbm:sigma=1.0,sigma_end=2.0,mu=none,center=none,spread=none")
    refuse_other_model(HERE, state("gbm:sigma=1.0,sigma_end=2.0,mu=none"), now)
    with pytest.raises(RunError, match=r"has sde=gbm:sigma=1\.0,.*, not gbm:sigma=1\.0,sigma_end=2\.0,mu=none,center=none,spread=none"):
        refuse_other_model(HERE, state("gbm:sigma=1.0,sigma_end=3.0,mu=none"), now)


def test_a_long_spec_string_is_cut():
    now = state(f"gbm:sigma=1.0,spread=({','.join(['1.0'] * 500)})")
    with pytest.raises(RunError) as error:
        refuse_other_model(HERE, state("gbm:sigma=1.0"), now)
    assert len(str(error.value)) < 700
