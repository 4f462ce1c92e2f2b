"""Class labels: texts, whole numbers or truth values, numbered from 0 in their order."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from sdezoo.data.opening.words import is_text, ranked
from sdezoo.errors import DataError

_CLASSES = 2**16


class Labels(NamedTuple):
    """Class labels of rows."""

    numbers: Tensor
    """Class indices `(N,)`, int64."""
    names: tuple[str | int, ...]
    """The label of each class, in order: of the alphabet, or of size."""
    column: str = ""
    """Name of the column of a table that holds them."""
    place: int | None = None
    """Number of columns before it."""

    @property
    def settings(self) -> dict[str, Any]:
        """The labels of a column as arguments of `sdezoo.data.dataset.split`."""
        return {"labels": self.numbers, "class_names": self.names, "label_column": self.column, "label_place": self.place}


def take_labels(table: pa.Table, column: str) -> tuple[pa.Table, Labels]:
    """Take the class labels out of a table.

    Args:
        table: the table.
        column: name of the column with the labels.

    Returns:
        The table without the column, and the labels.

    Raises:
        DataError: if there is no such column, or its values are no labels, see `labels`.
    """
    if column not in table.column_names:
        raise DataError(f"There is no column '{column}' for the labels.", f"Give one of {', '.join(table.column_names[:20])}.")
    if table.num_columns == 1:
        raise DataError(f"The table has no column besides the labels '{column}'.", "Give a table with columns to learn.")
    found = labels(table[column], f"column '{column}'")
    return table.drop_columns([column]), found._replace(column=column, place=table.column_names.index(column))


def labels(values: pa.ChunkedArray | pa.Array, what: str) -> Labels:
    """Number class labels.

    Args:
        values: the labels `(N,)`: texts, integers, whole floating numbers or Booleans.
        what: what they are, for messages, such as "column 'kind'".

    Raises:
        DataError: if labels are missing, of another type, or fractions; if all differ; or if there are too many.
    """
    if pa.types.is_dictionary(values.type) and not is_text(values.type.value_type):
        values = values.cast(values.type.value_type)
    if is_text(values.type) or pa.types.is_dictionary(values.type):
        codes = np.empty(len(values), np.float32)
        order = ranked(values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values]), codes)
        _check_present(np.isnan(codes), what)
        _check_count(len(order), what)
        return Labels(torch.from_numpy(codes).long(), tuple(order))
    _check_present(np.asarray(pc.is_null(values)), what)
    if pa.types.is_floating(values.type):
        whole = pc.equal(pc.floor(values), values)
        if not pc.all(whole).as_py():
            row = pc.index(whole, pa.scalar(False)).as_py()
            raise DataError(
                f"The labels are fractions, such as {values[row].as_py():g} in row {row} (counted from 0), in {what}.",
                "Give classes as texts or whole numbers.",
            )
        values = values.cast(pa.int64())
    elif pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    elif not pa.types.is_integer(values.type):
        raise DataError(f"The labels are of type {values.type}, in {what}.", "Give classes as texts or whole numbers.")
    different = pc.unique(values)
    _check_count(len(different), what)
    order = np.sort(different.to_numpy(zero_copy_only=False))
    numbers = pc.index_in(values, value_set=pa.array(order, values.type)).cast(pa.int64())
    return Labels(torch.from_numpy(numbers.to_numpy(zero_copy_only=False).copy()), tuple(order.tolist()))


def _check_present(missing: np.ndarray, what: str) -> None:
    if missing.any():
        raise DataError(
            f"The label of row {int(missing.argmax())} (counted from 0) is missing, in {what}.", "Fill it in, or remove the row."
        )


def _check_count(count: int, what: str) -> None:
    if count > _CLASSES:
        raise DataError(f"There are {count} classes, more than {_CLASSES}, in {what}.", "Give a column of classes.")
