"""The contents of `state.json`: everything but tensors that sampling and resuming need.

The file may come from somebody else. `State.read` is the only validation: it checks each entry, and the entries against each other. What it
returns can be used without further checks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from pydantic import TypeAdapter

from sdezoo.data.bounds import Bounds
from sdezoo.data.column_types import CategoryType, ColumnType, NumberType, TimeType
from sdezoo.data.dataset import LABEL, Kind
from sdezoo.data.encoding import Encoding
from sdezoo.data.text_style import TextStyle

FORMAT = 4
_AXES: dict[Kind, int] = {"image": 3, "table": 1, "points": 1, "paths": 2, "series": 2}
_WHOLE = 2**62  # integers beyond may overflow int64
_CLASSES = 2**16
_DIGITS = 18
_SCALING = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
"""Entries of the state of torch's gradient scaler."""


@dataclass(frozen=True)
class State:
    """The contents of `state.json`."""

    step: int
    """Optimizer steps taken."""
    sde: str
    """Full spec string of the process, including the parameters inferred from the data."""
    net: str
    """Full spec string of the network; empty if the task has none."""
    output: str
    """Output parameterization of the network; empty if the task has none."""
    event: tuple[int, ...]
    """Shape of a row in the user's units."""
    kind: Kind
    """Kind of a row, see `sdezoo.data.dataset.Data`."""
    columns: tuple[str, ...]
    """Column names; empty: unnamed."""
    levels: int | None
    """Lattice of the data: values are multiples of 1/levels; None: continuous."""
    range: tuple[list[float] | float, list[float] | float]
    """Smallest and largest value of the data, in the user's units."""
    encoding: dict[str, Any]
    """Encoding of the data, see `sdezoo.data.encoding.Encoding.to_json`."""
    averaged: int
    """Number of updates of the moving average."""
    seconds: float
    """Training time in seconds."""
    classes: int | None = None
    """Number of classes that the network is conditioned on; None: unconditional."""
    class_names: tuple[str | int, ...] = ()
    """The label of each class; empty: its index."""
    label_column: str = LABEL
    """Name of the column of the labels."""
    label_place: int | None = None
    """Number of columns before it; None: all."""
    maximum: float | None = None
    """What the pixels of images were divided by, see `sdezoo.data.dataset.Data`."""
    style: TextStyle | None = None
    """How the table was written as text, see `sdezoo.data.dataset.Data`."""
    optimizer: str = "adamw"
    """Name of the optimizer."""
    scaling: dict[str, float] | None = None
    """State of the gradient scaler; None without fp16."""
    seed: int | None = None
    """Seed of all randomness in training."""
    batch: int | None = None
    """Batch size. The next step starts at row `step · batch` of the shuffled data; the seed fixes their order."""
    lr: float | None = None
    """Peak learning rate."""
    loss: float | None = None
    """Mean training loss since the last line of the metrics, per entry of the state."""
    validation_loss: float | None = None
    """Loss on held-out rows, see `sdezoo.training.validation`; None: not measured."""
    computing: dict[str, str | int | bool] = field(default_factory=dict)
    """Settings that affect rounding: device, precision, threads, workers, …"""
    format: int = FORMAT
    """Format of the checkpoint."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of Python, sdezoo and torch."""
    data: str | None = None
    """Fingerprint of the data and of their encoding, see `sdezoo.store.provenance`."""
    task: str = "score"
    """Spec string of the task, see `sdezoo.training.task`."""
    plugins: dict[str, str] = field(default_factory=dict)
    """Distribution and version, or source file, of each plugin `REGISTRY/NAME`."""

    @property
    def bounds(self) -> Bounds:
        """Range and lattice of the data, to compare samples with."""
        low, high = (torch.tensor(bound) for bound in self.range)
        return Bounds(low, high, self.levels, Encoding.from_json(self.encoding).missing if self.kind == "table" else ())

    @classmethod
    def read(cls, values: Mapping[str, Any], step: int | None) -> State:
        """Validate the contents of a file.

        Args:
            values: the entries, in the current format.
            step: the step that the name of the checkpoint gives; None: it gives none.

        Raises:
            ValueError: if an entry is missing or invalid, or two entries contradict each other.
        """
        state = _STATE.validate_python(values)
        encoding = Encoding.from_json(state.encoding)
        encoding.encoded_event(state.event)
        if not all(_holds(state, encoding, step)):
            raise ValueError("entries contradict each other")
        return replace(state, encoding=encoding.to_json())

    def write(self) -> bytes:
        """The contents of the file: JSON, one entry a line."""
        entries = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in asdict(self).items())
        return ("{\n" + ",\n".join(entries) + "\n}\n").encode()


_STATE = TypeAdapter(State)


def _holds(state: State, encoding: Encoding, step: int | None) -> list[bool]:
    """What must hold of the entries together."""
    width = state.event[-1] if state.event else 0
    numbers = (state.lr, state.loss, state.validation_loss)
    return [
        0 <= state.step < _WHOLE and step in (None, state.step),
        len(state.event) == _AXES[state.kind] and min(state.event) >= 1,
        not state.columns or (state.kind in ("table", "paths", "series") and len(state.columns) == width),
        state.levels is None or 1 <= state.levels < _WHOLE,
        all(_is_bound(bound, state.kind, width) for bound in state.range),
        not encoding.types or ((len(state.event) == 1 or state.kind == "series") and len(encoding.types) == width),
        state.kind != "series" or all(isinstance(kind, NumberType) and not kind.offset for kind in encoding.types),
        all(map(_is_type, encoding.types)),
        0 <= state.averaged < _WHOLE,
        0 <= state.seconds < math.inf,
        state.classes is None or 1 <= state.classes <= _CLASSES,
        len(state.class_names) in (0, state.classes) and len(set(state.class_names)) == len(state.class_names),
        state.label_place is None or 0 <= state.label_place <= width,
        state.maximum is None or 0 < state.maximum < math.inf,
        state.style is None or state.style.valid,
        state.scaling is None or state.scaling.keys() == _SCALING,
        state.batch is None or 1 <= state.batch < _WHOLE,
        not any(number is not None and math.isnan(number) for number in numbers),
    ]


def _is_bound(bound: list[float] | float, kind: Kind, width: int) -> bool:
    values = bound if isinstance(bound, list) else [bound]
    return isinstance(bound, list) == (kind != "image") and len(values) in (1, width) and not any(map(math.isnan, values))


def _is_type(kind: ColumnType) -> bool:
    """Whether values of a column type can be computed: its numbers are within those of the files that it is read from."""
    from sdezoo.data.conversion import is_form, is_time
    from sdezoo.data.opening.inference import stored_type

    try:
        stored_type(kind)
    except ValueError:
        return False
    if isinstance(kind, CategoryType):
        wanted = bool if kind.form == "bool" else str
        known = kind.form in ("string", "bool", "dictionary")
        levels = not kind.levels or (all(type(level) is str for level in kind.levels) and set(kind.levels) >= set(kind.values))
        return known and levels and bool(kind.values) and all(type(value) is wanted for value in kind.values)
    if isinstance(kind, NumberType):
        return 0 <= kind.step < _WHOLE and 0 <= kind.digits <= _DIGITS and abs(kind.offset) < _WHOLE
    if isinstance(kind, TimeType):
        return (
            1 <= kind.step < _WHOLE
            and abs(kind.offset) < _WHOLE
            and is_time(kind.arrow)
            and (not kind.form or is_form(kind.form, kind.arrow))
        )
    return True
