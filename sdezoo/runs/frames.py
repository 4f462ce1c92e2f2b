"""Rows of arrays and data frames, of pandas or polars, and back."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.sparse import issparse
from torch import Tensor

from sdezoo.data.encoding import narrowed
from sdezoo.data.labels import Labels, labels
from sdezoo.errors import DataError, RunError

_NUMERIC = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows in the form that a user gave.

    Args:
        values: `(N, *event)`, float32. Missing values are NaN.
        columns: column names as texts; empty: the rows are no data frame.
        types: NumPy dtype names of the columns.
        names: column names as they were given: texts, numbers, or tuples of several levels.
        library: the library of the data frame, `pandas` or `polars`; empty: an array.
    """

    values: Tensor
    columns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    names: Sequence[Hashable] = ()
    library: str = ""


def read_rows(given: Any) -> Rows:
    """Convert an array, nested lists, or a data frame.

    Args:
        given: numbers `(N, d)`, or images `(N, C, H, W)`.

    Raises:
        DataError: if they are sparse, complex, not numbers, or have another shape; if column names are repeated.
    """
    if issparse(given):
        raise DataError("Sparse data are not supported.", "Convert them by toarray().")
    if (polars := sys.modules.get("polars")) is not None and isinstance(given, polars.DataFrame):
        return _of_frame(given.to_arrow(), given.columns, "polars")
    if (pandas := sys.modules.get("pandas")) is not None and isinstance(given, pandas.DataFrame):
        try:
            table = pa.Table.from_pandas(given.set_axis([f"{i}" for i in range(given.shape[1])], axis=1), preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            other = [name for name in given.columns if given[name].dtype.kind not in "fiu"]
            raise _not_numbers(other) from None
        return _of_frame(table, given.columns, "pandas")
    return Rows(_of_array(given))


def make_frame(rows: Rows, columns: Sequence[np.ndarray]) -> Any:
    """Build a data frame of the library and with the names of the given one.

    Args:
        rows: the rows that were given; their values are not used.
        columns: the columns `(n,)`.

    Raises:
        RunError: if the library is not installed.
    """
    kinds = rows.types or ["float32"] * len(columns)
    narrow = [narrowed(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    if rows.library == "polars":
        import polars

        return polars.DataFrame(dict(zip(rows.columns, narrow, strict=True)))
    try:
        import pandas
    except ImportError:
        raise RunError("The model was fitted on a data frame, but pandas is not installed.", "Install it: pip install pandas.") from None
    return pandas.DataFrame(dict(enumerate(narrow))).set_axis(rows.names, axis=1)


def read_labels(given: Any, rows: int) -> Labels:
    """Convert class labels.

    Args:
        given: one label for each row: texts, whole numbers or Booleans, in an array, a list, or a series of pandas or polars.
        rows: number of rows.

    Raises:
        DataError: if there are more or fewer labels than rows, or as for `sdezoo.data.labels.labels`.
    """
    array = np.asarray(given)
    if array.shape not in ((rows,), (rows, 1)):
        raise DataError(f"There are {rows} rows, but y has shape {array.shape}.", "Give each row one label.")
    try:
        found = pa.array(array.reshape(-1), from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        raise DataError("The labels y are neither all texts nor all numbers.", "Give classes as texts or whole numbers.") from None
    return labels(found, "y")


def _of_frame(table: pa.Table, names: Sequence[Hashable], library: str) -> Rows:
    columns = tuple(" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in names)
    if repeated := [name for name, count in Counter(columns).items() if count > 1]:
        raise DataError(f"There is more than one column named '{repeated[0]}'.", "Give each column its own name.")
    if other := [name for name, field in zip(columns, table.schema, strict=True) if not any(is_a(field.type) for is_a in _NUMERIC)]:
        raise _not_numbers(other)
    _check_size(table.shape)
    values = torch.empty(table.shape)
    with np.errstate(over="ignore"):
        for place, column in enumerate(table.columns):
            numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            values[:, place] = torch.from_numpy(numbers.astype(np.float32))
    kinds = (field.type for field in table.schema)
    types = tuple("float64" if pa.types.is_decimal(kind) else np.dtype(kind.to_pandas_dtype()).name for kind in kinds)
    return Rows(values, columns, types, names, library)


def _of_array(given: Any) -> Tensor:
    try:
        array = np.asarray(given)
        if np.iscomplexobj(array) or (array.dtype == object and any(isinstance(value, complex) for value in array.flat)):
            raise DataError("Complex data not supported.", "Give real numbers.")
        with np.errstate(over="ignore"):
            values = torch.from_numpy(np.array(array, dtype=np.float32))
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError("The data are not an array of numbers.", "Give rows of numbers, all of one length.") from None
    if values.ndim not in (2, 4):
        raise DataError(
            f"The data have shape {tuple(values.shape)}.",
            "Give rows (N, d) or images (N, C, H, W). Reshape your data: X.reshape(-1, 1) makes one column, X.reshape(1, -1) one row.",
        )
    _check_size(tuple(values.shape))
    return values


def _check_size(shape: tuple[int, ...]) -> None:
    if 0 in shape[1:]:
        raise DataError(f"There are 0 feature(s) (shape={shape}) while a minimum of 1 is required.", "Give rows with columns.")


def _not_numbers(names: Sequence[Hashable]) -> DataError:
    return DataError(f"These columns are not numbers: {', '.join(map(str, names))}.", "Remove them, or encode them as numbers.")
