"""Types of pandas that Arrow does not have, in files and data frames: periods, intervals, and dtypes with missing values.

pandas stores a period as a number of its frequency since 1970, and an interval as its two ends, and notes the rest beside the column. They
are read as what they are: days, weeks, hours, minutes and seconds as times, months and quarters as texts such as `2021-03` and
`2021Q1`, years as numbers, intervals as texts such as `(0.0, 1.0]`. Samples get the types of the data again. pandas is not needed.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdezoo.data.opening.words import is_text
from sdezoo.data.text_style import is_dtype
from sdezoo.errors import DataError, RunError

PERIOD, INTERVAL = "pandas.period", "pandas.interval"
_NAME, _REST = b"ARROW:extension:name", b"ARROW:extension:metadata"
_SECONDS = {"h": 3600, "H": 3600, "min": 60, "T": 60, "s": 1, "S": 1}
_ENDS = re.compile(r"([\[(])(\S+), (\S+)([\])])")
_CLOSED = {"left": "[)", "right": "(]", "both": "[]", "neither": "()"}


class Extended(NamedTuple):
    """A type of pandas: its name, and what pandas notes of it."""

    name: str
    rest: dict[str, str]

    @classmethod
    def of(cls, field: pa.Field) -> Extended | None:
        """The type of a field; None if it has none of these.

        Args:
            field: the field, whether pandas has been imported or not.
        """
        kind, metadata = field.type, field.metadata or {}
        name = kind.extension_name if isinstance(kind, pa.BaseExtensionType) else metadata.get(_NAME, b"").decode(errors="replace")
        if name not in (PERIOD, INTERVAL):
            return None
        noted = kind.__arrow_ext_serialize__() if isinstance(kind, pa.ExtensionType) else metadata.get(_REST, b"{}")
        try:
            rest = json.loads(noted)
        except ValueError:
            return None
        return cls(name, {key: str(value) for key, value in rest.items()}) if isinstance(rest, dict) else None

    @classmethod
    def named(cls, dtype: str) -> Extended | None:
        """The type with a name of pandas, such as `period[M]` or `interval[int64, right]`; None if it is none of these.

        Args:
            dtype: the name.
        """
        kind, _, inside = dtype.rstrip("]").partition("[")
        if kind == "period":
            return cls(PERIOD, {"freq": inside})
        subtype, _, closed = inside.partition(", ")
        return cls(INTERVAL, {"subtype": subtype.replace("float64", "double"), "closed": closed}) if kind == "interval" else None

    @property
    def dtype(self) -> str:
        """Its name in pandas."""
        if self.name == PERIOD:
            return f"period[{self.rest.get('freq', '')}]"
        return f"interval[{self.rest.get('subtype', '').replace('double', 'float64')}, {self.rest.get('closed', '')}]"

    @property
    def _storage(self) -> pa.DataType:
        if self.name == PERIOD:
            return pa.int64()
        ends = {"double": pa.float64(), "int64": pa.int64()}[self.rest["subtype"]]
        return pa.struct([("left", ends), ("right", ends)])

    def field(self, name: str) -> pa.Field:
        """The field of a column of this type in a file."""
        return pa.field(name, self._storage, metadata={_NAME: self.name.encode(), _REST: json.dumps(self.rest).encode()})

    def plain(self, values: pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
        """What a column holds, as Arrow's times, numbers or texts.

        Args:
            values: the column.
            name: its name, for the message.

        Raises:
            DataError: if its frequency, or the type of its ends, is another one.
        """
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
        stored = storage(values)
        if self.name == PERIOD:
            found = self._times(stored)
            if found is None:
                raise DataError(
                    f"The column '{name}' holds periods of pandas of the frequency {self.rest.get('freq')}.",
                    f"Convert them to timestamps: frame[{name!r}].dt.to_timestamp().",
                )
            return found
        marks = _CLOSED.get(self.rest.get("closed", ""))
        if marks is None or self.rest.get("subtype") not in ("double", "int64"):
            raise DataError(f"The column '{name}' holds intervals that are not of numbers.", f"Give texts: frame[{name!r}].astype(str).")
        texts = [
            None if ends is None or None in (ends["left"], ends["right"]) else f"{marks[0]}{ends['left']}, {ends['right']}{marks[1]}"
            for ends in stored.to_pylist()
        ]
        return pa.array(texts, pa.string())

    def stored(self, values: pa.Array, name: str) -> pa.Array:
        """The column as pandas stores it.

        Args:
            values: of the type that `plain` gives.
            name: name of the column, for the message.

        Raises:
            RunError: if a value is none of this type.
        """
        try:
            return self._counts(values) if self.name == PERIOD else self._intervals(values)
        except (pa.ArrowException, ValueError, KeyError, TypeError):
            raise RunError(f"The column '{name}' has samples that are no {self.dtype}.", "Write a .csv.") from None

    def _times(self, counts: pa.Array) -> pa.Array | None:
        frequency, count = self.rest.get("freq", ""), counts.to_numpy(zero_copy_only=False)
        mask = np.asarray(counts.is_null())
        whole = np.where(mask, 0, np.nan_to_num(count)).astype(np.int64)
        mask |= whole == np.iinfo(np.int64).min
        whole = np.where(mask, 0, whole)
        if frequency in _SECONDS:
            return pa.array(whole * _SECONDS[frequency], mask=mask).cast(pa.timestamp("s"))
        if frequency in ("D", "W-SUN"):
            return pa.array((7 * whole - 3 if "W" in frequency else whole).astype(np.int32), mask=mask).cast(pa.date32())
        if frequency in ("Y-DEC", "A-DEC"):
            return pa.array(whole + 1970, mask=mask)
        if frequency == "M":
            return pa.array([f"{1970 + k // 12:04d}-{k % 12 + 1:02d}" for k in whole], pa.string(), mask=mask)
        if frequency == "Q-DEC":
            return pa.array([f"{1970 + k // 4}Q{k % 4 + 1}" for k in whole], pa.string(), mask=mask)
        return None

    def _counts(self, values: pa.Array) -> pa.Array:
        frequency, kind = self.rest["freq"], values.type
        if frequency in _SECONDS:
            return pc.floor(pc.divide(values.cast(pa.timestamp("s")).cast(pa.int64()).cast(pa.float64()), _SECONDS[frequency])).cast(
                pa.int64()
            )
        if frequency in ("D", "W-SUN"):
            days = values.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
            return pc.floor(pc.divide(pc.add(days, 3).cast(pa.float64()), 7.0)).cast(pa.int64()) if "W" in frequency else days
        if frequency in ("Y-DEC", "A-DEC"):
            return pc.subtract(values.cast(pa.int64()), 1970)
        texts = values.cast(pa.string()) if is_text(kind) or pa.types.is_dictionary(kind) else pc.strftime(values, "%Y-%m", locale="C")
        year, part = (pc.utf8_slice_codeunits(texts, *ends).cast(pa.int64()) for ends in ((0, 4), (5, 7)))
        return pc.add(pc.multiply(pc.subtract(year, 1970), 12 if frequency == "M" else 4), pc.subtract(part, 1))

    def _intervals(self, values: pa.Array) -> pa.Array:
        number = float if self.rest["subtype"] == "double" else int
        found: list[dict[str, Any] | None] = []
        for text in values.cast(pa.string()).to_pylist():
            ends = None if text is None else _ENDS.fullmatch(text)
            if ends is None and text is not None:
                raise ValueError(text)
            found.append(None if ends is None else {"left": number(ends[2]), "right": number(ends[3])})
        return pa.array(found, self._storage)


def storage(values: pa.Array) -> pa.Array:
    """What a column holds under its type of pandas, if it has one.

    Args:
        values: the column.
    """
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def dtypes_of(form: pa.Schema) -> dict[str, str]:
    """The dtypes of pandas of the columns of a file, where Arrow's type does not tell them.

    Args:
        form: the schema of a file.
    """
    found = {field.name: extended.dtype for field in form if (extended := Extended.of(field))}
    try:
        columns = json.loads((form.metadata or {}).get(b"pandas", b"{}"))["columns"]
        noted = {str(each["field_name"]): str(each["numpy_type"]) for each in columns}
    except (ValueError, KeyError, TypeError):
        noted = {}
    return {name: dtype for name in form.names if is_dtype(dtype := found.get(name) or noted.get(name, ""))}


def fits(dtype: str, kind: pa.DataType) -> bool:
    """Whether pandas reads a column of samples with a dtype: an integer that does not fit its own type has a wider one.

    Args:
        dtype: the name of the dtype.
        kind: the type of the column.
    """
    return dtype[0] not in "IUF" or dtype.lower() == {"double": "float64", "float": "float32"}.get(str(kind), str(kind))


def noted(form: pa.Schema, dtypes: Mapping[str, str]) -> pa.Schema:
    """The schema of a file that pandas reads with its own dtypes.

    Args:
        form: the schema of the columns.
        dtypes: dtypes of pandas by column, of those that Arrow's type does not tell.
    """
    extended = {name: Extended.named(dtype) for name, dtype in dtypes.items()}
    for place, name in enumerate(form.names):
        if (kind := extended.get(name)) is not None:
            form = form.set(place, kind.field(name))
    columns = [
        {"name": name, "field_name": name, "pandas_type": "object", "numpy_type": dtype, "metadata": None}
        for name, dtype in dtypes.items()
        if name in form.names
    ]
    if not columns:
        return form
    text = {"index_columns": [], "column_indexes": [], "columns": columns, "creator": {"library": "pyarrow", "version": pa.__version__}}
    return form.with_metadata({b"pandas": json.dumps(text | {"pandas_version": None}).encode()})


def as_noted(batch: pa.RecordBatch, form: pa.Schema, dtypes: Mapping[str, str]) -> pa.RecordBatch:
    """The columns as pandas stores them.

    Args:
        batch: the columns.
        form: what `noted` made of their schema.
        dtypes: as for `noted`.

    Raises:
        RunError: if a value is none of its type.
    """
    kinds = [Extended.named(dtypes.get(name, "")) for name in form.names]
    columns = [column if kind is None else kind.stored(column, name) for column, kind, name in zip(batch, kinds, form.names, strict=True)]
    return pa.record_batch(columns, schema=form)
