"""Rows of arrays and data frames, of pandas or polars, and back."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.sparse import issparse
from torch import Tensor

from sdezoo.data.column_types import ColumnType, NumberType, TimeType, or_numbers
from sdezoo.data.conversion import from_numbers, held, to_numbers
from sdezoo.data.dataset import SeriesForm
from sdezoo.data.encoding import Encoding
from sdezoo.data.opening.inference import check_small
from sdezoo.data.opening.labels import Labels, labels
from sdezoo.data.opening.pandas_types import Extended
from sdezoo.data.validation import check_close
from sdezoo.errors import DataError, RunError

_TIMES = (np.datetime64, np.timedelta64, date, timedelta)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows in the form that a user gave.

    Args:
        values: `(N, *event)`, float32, of a data frame the codes of its types. Missing values are NaN.
        columns: column names as texts; empty: the rows are no data frame.
        types: types of the columns.
        names: column names as they were given: texts, numbers, or tuples of several levels.
        library: the library of the data frame, `pandas` or `polars`; empty: an array.
        dtypes: the dtypes of the columns in that library; empty: not known.
    """

    values: Tensor
    columns: tuple[str, ...] = ()
    types: tuple[ColumnType, ...] = ()
    names: Sequence[Hashable] = ()
    library: str = ""
    dtypes: Sequence[Any] = ()


def read_rows(given: Any) -> Rows:
    """Convert an array, nested lists, or a data frame.

    Args:
        given: numbers `(N, d)`, a data frame of numbers, categories, dates and times, windows of series `(N, T, d)`, or images
            `(N, C, H, W)`.

    Raises:
        DataError: if they are sparse, complex, or have another shape; if an array is not of numbers; if column names are repeated, or a
            column mixes types or holds another.
    """
    if issparse(given):
        raise DataError("Sparse data are not supported.", "Convert them by toarray().")
    if (polars := sys.modules.get("polars")) is not None and isinstance(given, polars.DataFrame):
        return replace(_of_frame(_of_polars(given), given.columns, "polars"), dtypes=given.dtypes)
    if (pandas := sys.modules.get("pandas")) is not None and isinstance(given, pandas.DataFrame):
        return replace(_of_frame(_of_pandas(given), given.columns, "pandas"), dtypes=list(given.dtypes))
    return Rows(_of_array(given))


def make_frame(rows: Rows, columns: Sequence[str], made: Tensor, encoding: Encoding) -> Any:
    """Build a data frame of the library, and with the names and types, of the given one.

    Args:
        rows: the rows that were given; their values are not used.
        columns: which of their columns were made.
        made: final rows `(n, d)`, codes of the encoding.
        encoding: the types of the columns.

    Raises:
        RunError: if the library is not installed, or as for `sdezoo.data.conversion.from_numbers`.
    """
    table = from_numbers(made, columns, held(encoding.types, [made]), stored=True)
    types = or_numbers(encoding.types, len(columns))
    whole = [isinstance(kind, NumberType) and kind.whole and place in encoding.missing for place, kind in enumerate(types)]
    narrow = {
        place: table.column(place).to_numpy(zero_copy_only=False)
        for place, kind in enumerate(types)
        if isinstance(kind, NumberType)
        and not (whole[place] or kind.stored)
        and not (rows.library == "polars" and table.column(place).null_count)
    }
    if rows.library == "polars":
        import polars

        series = {name: polars.Series(narrow[place] if place in narrow else table.column(place)) for place, name in enumerate(columns)}
        kept = [rows.dtypes[rows.columns.index(name)] if rows.dtypes else None for name in columns]
        for (name, one), own, kind in zip(series.items(), kept, types, strict=True):
            if own is not None and (isinstance(own, polars.Enum) or _is_long(own) or (own.is_integer() and isinstance(kind, TimeType))):
                series[name] = one.cast(own)
        return polars.DataFrame(series)
    try:
        import pandas
    except ImportError:
        raise RunError("The model was fitted on a data frame, but pandas is not installed.", "Install it: pip install pandas.") from None
    frame = {}
    for place, column in enumerate(table.columns):
        if place in narrow:
            frame[place] = narrow[place]
        else:
            frame[place] = column.to_pandas(integer_object_nulls=True).astype("Int64") if whole[place] else column.to_pandas()
        own = rows.dtypes[rows.columns.index(columns[place])] if rows.dtypes else None
        extended = pandas.api.types.is_extension_array_dtype(own)
        dates = isinstance(types[place], TimeType) and pandas.api.types.is_integer_dtype(own)
        if own is not None and (extended or dates):
            with suppress(TypeError, ValueError, OverflowError):  # such as an integer that is too large for it
                frame[place] = _restored(frame[place], own, column, columns[place])
    names = rows.names if len(columns) == len(rows.columns) else pandas.Index(rows.names).take([*map(rows.columns.index, columns)])
    return pandas.DataFrame(frame).set_axis(names, axis=1)


def fill_holes(given: Any, made: Any) -> Any:
    """The rows that were given with their missing values filled; all others stay as they are.

    Args:
        given: an array or a data frame with missing values.
        made: values for all cells, of the same form; a data frame may lack columns.
    """
    if (polars := sys.modules.get("polars")) is not None and isinstance(given, polars.DataFrame):
        found = [made[name] if name in made.columns and given[name].null_count() else given[name] for name in given.columns]
        return polars.DataFrame([own.zip_with(own.is_not_null(), new.cast(own.dtype)) for own, new in zip(given, found, strict=True)])
    if (pandas := sys.modules.get("pandas")) is not None and isinstance(given, pandas.DataFrame):
        found = given.copy()
        for name in made.columns:
            if (gone := given[name].isna()).any():
                found[name] = given[name].where(~gone, made[name].set_axis(given.index))
        return found
    array = _plain(given)
    return np.where(np.isnan(array), made, array)


def read_labels(given: Any, rows: int) -> Labels:
    """Convert class labels.

    Args:
        given: one label for each row: texts, whole numbers or Booleans, in an array, a list, or a series of pandas or polars.
        rows: number of rows.

    Raises:
        DataError: if there are more or fewer labels than rows, or as for `sdezoo.data.opening.labels.labels`.
    """
    array = _plain(given)
    if array.shape not in ((rows,), (rows, 1)):
        raise DataError(f"There are {rows} rows, but y has shape {array.shape}.", "Give each row one label.")
    try:
        return labels(pa.array(array.reshape(-1), from_pandas=True), "y")
    except (pa.ArrowException, OverflowError):
        raise DataError("The labels y are neither all texts nor all numbers.", "Give classes as texts or whole numbers.") from None


def _of_polars(given: Any) -> pa.Table:
    import polars

    for name, kind in given.schema.items():
        if _is_long(kind):
            try:
                given = given.with_columns(given[name].cast(polars.Int64))
            except polars.exceptions.PolarsError:
                raise _too_large(name) from None
    return given.to_arrow()


def _of_pandas(given: Any) -> pa.Table:
    arrays = []
    for place, name in enumerate(given.columns):
        column = given.iloc[:, place]
        if hasattr(column, "sparse"):
            column = column.sparse.to_dense()
        if column.dtype == np.longdouble:
            column = column.astype(np.float64)
        try:
            array = _of_column(column, _text(name))
        except OverflowError:
            raise _too_large(_text(name)) from None
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            raise _mixture(_text(name), column) from None
        arrays.append(pa.chunked_array([array]) if isinstance(array, pa.Array) else array)
    return pa.Table.from_arrays(arrays, names=[str(place) for place in range(len(arrays))])


def _is_long(kind: Any) -> bool:
    """Whether a dtype of polars is one of integers of 128 bits, which Arrow does not have."""
    return kind.is_integer() and str(kind).endswith("128")


def _too_large(name: str) -> DataError:
    remedy = "Leave it out, or if they are identifiers, convert them to text."
    return DataError(f"The column '{name}' holds integers beyond 64 bits.", remedy)


def _of_column(column: Any, name: str) -> pa.Array | pa.ChunkedArray:
    """A column of pandas, with periods and intervals as times and texts, and categories of any kind as texts."""
    if hasattr(column, "cat") and not all(isinstance(each, str) for each in column.cat.categories):
        column = column.cat.rename_categories(_texts_of(column.dtype))
    array = pa.Array.from_pandas(column)
    kind = Extended.of(pa.field(name, array.type))
    return array if kind is None else kind.plain(array, name)


def _texts_of(dtype: Any) -> list[str]:
    """The texts of the categories of a dtype of pandas, all different."""
    texts = [str(each) for each in dtype.categories]
    if len({*texts}) == len(texts):
        return texts
    return [f"{each} ({type(each).__name__})" for each in dtype.categories]


def _restored(values: Any, own: Any, column: pa.Array, name: str) -> Any:
    """A column in the dtype of pandas that it was given in."""
    import pandas

    if isinstance(own, pandas.CategoricalDtype):
        texts = _texts_of(own)
        codes = [texts.index(text) if isinstance(text, str) else -1 for text in column.to_pylist()]
        return pandas.Series(pandas.Categorical.from_codes(codes, dtype=own))
    kind = Extended.named(str(own)) if isinstance(own, pandas.PeriodDtype | pandas.IntervalDtype) else None
    if kind is None:
        return pandas.Series(values).astype(own)
    stored = kind.stored(column, name)
    if isinstance(own, pandas.PeriodDtype):
        counts = stored.fill_null(np.iinfo(np.int64).min).to_numpy(zero_copy_only=False)
        return pandas.Series(pandas.PeriodIndex.from_ordinals(counts, freq=own.freq))
    ends = [None if each is None else (each["left"], each["right"]) for each in stored.to_pylist()]
    return pandas.Series(pandas.arrays.IntervalArray.from_tuples(ends, closed=own.closed, dtype=own))


def _of_frame(table: pa.Table, names: Sequence[Hashable], library: str) -> Rows:
    columns = tuple(map(_text, names))
    if repeated := [name for name, count in Counter(columns).items() if count > 1]:
        raise DataError(f"There is more than one column named '{repeated[0]}'.", "Give each column its own name.")
    _check_size(table.shape)
    categories = [name for name, field in zip(columns, table.schema, strict=True) if pa.types.is_dictionary(field.type)]
    found = to_numbers(table.rename_columns(columns), text=categories)  # they may look like dates
    return Rows(found.values, columns, found.types, names, library)


def _text(name: Hashable) -> str:
    return " ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def series_form(windows: Tensor) -> SeriesForm:
    """Find what is learned of windows: growth if they are all positive, else the values.

    Args:
        windows: `(N, T, d)`, float32.

    Raises:
        DataError: if a window has one step.
    """
    if windows.shape[1] < 2:
        raise DataError("Series of one step are no series.", "Give windows (N, T, d) with T at least 2, or rows (N, d).")
    return "growth" if bool((windows > 0).all()) else "real"


def _plain(given: Any) -> np.ndarray:
    """The array of what a user gave, without what a conversion would lose: masks, gradients."""
    if isinstance(given, np.ma.MaskedArray):
        if np.ma.is_masked(given):
            raise DataError("The array has masked values.", "Fill them in, or give a data frame with missing values.")
        given = given.data
    if isinstance(given, Tensor):
        if given.layout != torch.strided:
            raise DataError("Sparse data are not supported.", "Convert them by to_dense().")
        given = given.detach().cpu().resolve_conj().resolve_neg()
        given = given.float() if given.dtype == torch.bfloat16 else given  # NumPy has no bfloat16
    return np.asarray(given)


def _of_array(given: Any) -> Tensor:
    try:
        array = _plain(given)
        if np.iscomplexobj(array) or (array.dtype == object and any(np.iscomplexobj(value) for value in array.flat)):
            raise DataError("Complex data not supported.", "Give real numbers.")
        if array.dtype.kind in "mM" or (array.dtype == object and any(isinstance(value, _TIMES) for value in array.flat)):
            raise DataError("The array holds dates or times.", "Give a data frame, whose columns have types.")
        if array.dtype.kind not in "biu":
            check_small(array if array.dtype.kind == "f" else array.astype(np.float64), "The array")
        if array.ndim in (2, 3):
            check_close(array)
        with np.errstate(over="ignore"):
            values = torch.from_numpy(np.array(array, dtype=np.float32))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            "The data are not an array of numbers.", "Give rows of numbers, all of one length, or a data frame of pandas or polars."
        ) from None
    if values.ndim not in (2, 3, 4):
        raise DataError(
            f"The data have shape {tuple(values.shape)}.",
            "Give rows (N, d), series (N, T, d) or images (N, C, H, W). "
            "Reshape your data: X.reshape(-1, 1) makes one column, X.reshape(1, -1) one row.",
        )
    _check_size(tuple(values.shape))
    if values.ndim == 4 and values.shape[-1] in (1, 3, 4) and values.shape[1] not in (1, 3, 4):
        raise DataError(
            f"Images of shape {tuple(values.shape[1:])} have their channels last.", "Put them first: X.transpose(0, 3, 1, 2) of an array."
        )
    return values


def _check_size(shape: tuple[int, ...]) -> None:
    if 0 in shape[1:]:
        raise DataError(f"There are 0 feature(s) (shape={shape}) while a minimum of 1 is required.", "Give rows with columns.")


def _mixture(name: str, column: Any) -> DataError:
    """Say which value of a column of Python objects is unlike the others."""
    there = column.notna()
    kinds = [type(value) for value in column]
    usual = max(set(kinds), key=kinds.count)
    wrong = [i for i, kind in enumerate(kinds) if there.iloc[i] and kind is not usual]
    if not wrong:
        return DataError(
            f"The column '{name}' holds {usual.__name__}, which is neither a number nor a category nor a time.", "Leave the column out."
        )
    return DataError(
        f"The column '{name}' mixes types: {len(wrong)} of {len(kinds)} values are no {usual.__name__}, the first is "
        f"{column.iloc[wrong[0]]!r} in row {wrong[0]} (counted from 0).",
        "Give the column one type, or leave it out.",
    )
