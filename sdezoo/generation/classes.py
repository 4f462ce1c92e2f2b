"""Classes of a conditional model: their names, which users choose by, and the column of labels in tables of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sdezoo.data.column_types import CategoryType, ColumnType, NumberType
from sdezoo.errors import CompositionError, ParameterError, shortened
from sdezoo.store.checkpoint import State

_EXACT = 2**24  # integers that float32 tells apart


def class_names(state: State) -> tuple[str | int, ...]:
    """Names of the classes of a model, in the order of their numbers; the numbers if the data have no names.

    Args:
        state: state of the model.

    Raises:
        CompositionError: if the model is unconditional.
    """
    if state.classes is None:
        raise CompositionError("This model is unconditional.", "Train one with --condition labels, or leave out --label.")
    return state.class_names[: state.classes] or tuple(range(state.classes))


def class_number(label: str | int, state: State) -> int:
    """The number of a class.

    Args:
        label: name of the class. If names are texts, its number also selects it.
        state: state of the model.

    Raises:
        ParameterError: if there is no such class.
        CompositionError: if the model is unconditional.
    """
    names, text = [str(name) for name in class_names(state)], str(label)
    if text in names:
        return names.index(text)
    if all(isinstance(name, str) for name in state.class_names) and text.isdecimal() and int(text) < len(names):
        return int(text)
    raise ParameterError(f"There is no class '{text}'.", f"Give --label one of {shortened(names, 20)}, or each.")


class LabelColumn(NamedTuple):
    """The column of labels in a table of samples."""

    name: str
    """Name of the column."""
    place: int
    """Number of columns before it."""
    type: ColumnType
    """Type of the column."""
    codes: Tensor
    """The code of each class, float32 `(classes,)`."""


def label_column(state: State) -> LabelColumn:
    """Build the column of labels of samples.

    Args:
        state: state of the model.

    Raises:
        CompositionError: if the model is unconditional.
    """
    names, name = class_names(state), state.label_column
    place = state.event[-1] if state.label_place is None else state.label_place
    while name in state.columns:
        name += "_"
    whole = [label for label in names if isinstance(label, int)]
    if len(whole) == len(names) and whole[-1] - whole[0] < _EXACT:
        codes = torch.tensor([label - whole[0] for label in whole], dtype=torch.float32)
        return LabelColumn(name, place, NumberType("int64", offset=whole[0]), codes)
    return LabelColumn(name, place, CategoryType(_texts(names)), torch.arange(len(names), dtype=torch.float32))


def _texts(names: Sequence[str | int]) -> tuple[str, ...]:
    return tuple(map(str, names))
