"""Types of the columns of a table, and the numbers (*codes*) that stand for their values.

Everywhere but in files, rows of a table are codes, float32, with NaN for a missing value:

- `NumberType`: the number itself. Whole numbers too large for float32 are counted from an offset. Numbers on a lattice, such as prices in
  cents, are multiples of `step / 10^digits`.
- `CategoryType`: the index in a sorted vocabulary of strings, or of false and true.
- `TimeType`: dates and times, `(value − offset) / step` in the int64 of Apache Arrow.

`sdezoo.data.conversion` turns columns of files into codes and back.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from sdezoo.errors import RunError

_WHOLE = 2.0**62


DAY = {unit: 86_400 * 1000**k for k, unit in enumerate(("s", "ms", "us", "ns"))}
"""The length of a day in each unit of Arrow's times of day."""


_FIRST_DAY, _LAST_DAY = -719_162, 2_932_897
"""Days from 1970 to the first of the year 1, and to that of the year 10000."""


class ColumnType(ABC):
    """The type of a column. Abstract: `unit`, `exact`, `record`."""

    kind: ClassVar[str]
    """Name in JSON, a key of `COLUMN_TYPES`."""

    @property
    @abstractmethod
    def unit(self) -> tuple[int, int]:
        """`(step, scale)`: final codes are multiples of `step / scale`. `(0, 1)` if codes are continuous."""

    @property
    def whole(self) -> bool:
        """Whether values are integers."""
        return False

    def around(self, codes: Tensor) -> Tensor:
        """Bring codes into the range of a type that goes around, such as times of day. Default: as they are.

        Args:
            codes: rounded codes `(n,)`, float64.
        """
        return codes

    @abstractmethod
    def exact(self, codes: np.ndarray, name: str) -> np.ndarray:
        """Convert final codes to values: numbers, indices of the vocabulary, or the int64 of times.

        Args:
            codes: `(n,)`, float32, without NaN.
            name: name of the column, for messages.

        Raises:
            RunError: if a value overflows its type.
        """

    @abstractmethod
    def record(self) -> str | dict[str, Any]:
        """The type as JSON values, which `column_type` reads."""

    def __str__(self) -> str:
        return self.kind


@dataclass(frozen=True)
class NumberType(ColumnType):
    """Numbers; codes are `value − offset`.

    Args:
        dtype: NumPy dtype name, of kind float, signed or unsigned integer.
        step: values are multiples of `step / 10^digits`; 0: no lattice. Integers have 1 at least.
        digits: decimal places of the lattice.
        offset: what is subtracted from integers that float32 does not hold exactly, and from numbers that lie close together.
        stored: Apache Arrow's type of decimals, such as `decimal128(12, 2)`, for files that have it; empty: `dtype`.
    """

    kind: ClassVar[str] = "number"

    dtype: str
    step: int = 0
    digits: int = 0
    offset: float = 0
    stored: str = ""

    def __post_init__(self) -> None:
        if np.dtype(self.dtype).kind not in "fiu":
            raise TypeError(self.dtype)
        if self.whole and not self.step:
            object.__setattr__(self, "step", 1)

    @property
    def unit(self) -> tuple[int, int]:
        return self.step, 10**self.digits

    @property
    def whole(self) -> bool:
        return np.dtype(self.dtype).kind in "iu"

    def exact(self, codes: np.ndarray, name: str) -> np.ndarray:
        if self.whole:
            found = _integers(codes, name)
            # float32 rounds large multiples to others nearby.
            return (np.round(found / self.step).astype(np.int64) * self.step if self.step > 1 else found) + int(self.offset)
        if not self.step:
            return codes.astype(np.float64) + self.offset if self.offset else codes
        scale = 10**self.digits
        # A division of integers is the number that a reader of the decimal gets.
        multiples = np.round(codes.astype(np.float64) * scale / self.step) * self.step + round(self.offset * scale)
        return multiples / scale + 0.0  # 0, not −0

    def record(self) -> str | dict[str, Any]:
        if self == NumberType(self.dtype):
            return self.dtype
        found = {"type": self.kind, "dtype": self.dtype, "step": self.step, "digits": self.digits, "offset": self.offset}
        return found | ({"stored": self.stored} if self.stored else {})

    def __str__(self) -> str:
        return self.dtype


@dataclass(frozen=True)
class CategoryType(ColumnType):
    """Strings or Booleans; codes are indices of the vocabulary.

    Args:
        values: the vocabulary, sorted.
        form: `string`, `bool`, or `dictionary` for strings that are stored as pandas' categories.
        stored: Apache Arrow's type of strings, such as `large_string`, for files that have it; empty: that of `form`.
        levels: the categories of a dictionary in their order, those that no row has included; empty: the vocabulary.
        ordered: whether the categories of a dictionary are ordered.
    """

    kind: ClassVar[str] = "category"

    values: Sequence[str] | Sequence[bool]
    form: str = "string"
    stored: str = ""
    levels: tuple[str, ...] = ()
    ordered: bool = False

    @property
    def unit(self) -> tuple[int, int]:
        return 1, 1

    def exact(self, codes: np.ndarray, name: str) -> np.ndarray:
        return _integers(codes, name)

    def record(self) -> dict[str, Any]:
        found = {"type": self.kind, "values": list(self.values), "form": self.form} | ({"stored": self.stored} if self.stored else {})
        return found | ({"levels": list(self.levels)} if self.levels else {}) | ({"ordered": True} if self.ordered else {})


@dataclass(frozen=True)
class TimeType(ColumnType):
    """Dates, times and durations; codes are `(value − offset) / step`.

    Args:
        arrow: name of Apache Arrow's type, such as `date32[day]` or `timestamp[us, tz=UTC]`.
        offset: the value of code 0, in the unit of that type.
        step: what one code more stands for, in the unit of that type.
        coarse: whether the data have values between these steps.
        form: form of the texts that the times are written as, see `sdezoo.data.opening.time_texts`; empty: they are written as times.
    """

    kind: ClassVar[str] = "time"

    arrow: str
    offset: int
    step: int = 1
    coarse: bool = False
    form: str = ""

    @property
    def unit(self) -> tuple[int, int]:
        return 1, 1

    def exact(self, codes: np.ndarray, name: str) -> np.ndarray:
        values = _integers(codes, name, _WHOLE / self.step) * self.step + self.offset
        return values % self.day if self.day else values

    @property
    def day(self) -> int:
        """The length of a day in the unit of times of day, which go around the clock; 0 for other times."""
        head, _, unit = self.arrow.rstrip("]").partition("[")
        return DAY[unit] if head.startswith("time") and head != "timestamp" else 0

    @property
    def has_zero(self) -> bool:
        """Whether 0 means something, as for durations; dates and times of day are counted from anywhere."""
        return self.arrow.startswith("duration")

    def has_year(self, values: np.ndarray) -> bool:
        """Whether dates are in the years 1 to 9999, as those of Python, Excel and most forms of text.

        Args:
            values: the int64 of the times.
        """
        head, _, unit = self.arrow.partition("]")[0].partition("[")
        if head not in ("date32", "date64", "timestamp"):
            return True
        day = 1 if head == "date32" else DAY[unit[:2].rstrip(",")]
        return not len(values) or bool(_FIRST_DAY * day <= values.min() <= values.max() < _LAST_DAY * day)

    def around(self, codes: Tensor) -> Tensor:
        if not self.day:
            return codes
        low = -(self.offset // self.step)
        return (codes - low) % (self.day / self.step) + low

    def record(self) -> dict[str, Any]:
        found = {"type": self.kind, "arrow": self.arrow, "offset": self.offset, "step": self.step, "coarse": self.coarse}
        return found | ({"form": self.form} if self.form else {})


COLUMN_TYPES: dict[str, type[ColumnType]] = {one.kind: one for one in (NumberType, CategoryType, TimeType)}
"""Column types by their names in JSON."""


def column_type(given: ColumnType | str | Mapping[str, Any]) -> ColumnType:
    """Build a column type.

    Args:
        given: the type itself, the NumPy dtype name of numbers, or the output of `record`.

    Raises:
        TypeError: if it is none of these.
        KeyError: if there is no such type.
    """
    if isinstance(given, ColumnType):
        return given
    if isinstance(given, str):
        return NumberType(given)
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in dict(given).items() if name != "type"}
    found = COLUMN_TYPES[given["type"]](**fields)
    for name, value in fields.items():
        wanted = {"step": int, "digits": int, "offset": int, "coarse": bool, "values": tuple, "levels": tuple, "ordered": bool}.get(
            name, str
        )
        near = name == "offset" and isinstance(found, NumberType) and not found.whole and type(value) is float
        if type(value) is not wanted and not near:
            raise TypeError(name)
    return found


def column_types(given: Iterable[ColumnType | str | Mapping[str, Any]]) -> tuple[ColumnType, ...]:
    """Build the types of all columns, see `column_type`."""
    return tuple(map(column_type, given))


def common_type(one: ColumnType, other: ColumnType) -> ColumnType | None:
    """The type of a column of two tables: it holds the values of both.

    Args:
        one: its type in one table.
        other: its type in the other.

    Returns:
        The type; None: they have none in common, as numbers and texts.
    """
    if one == other:
        return one
    if isinstance(one, NumberType) and isinstance(other, NumberType):
        return _common_numbers(one, other)
    if isinstance(one, CategoryType) and isinstance(other, CategoryType) and (one.form == "bool") == (other.form == "bool"):
        form, stored = (mine if mine == its else "" for mine, its in ((one.form, other.form), (one.stored, other.stored)))
        values: tuple[Any, ...] = tuple(sorted({*one.values, *other.values}))
        if form == "dictionary" and one.ordered == other.ordered and one.levels and one.levels == other.levels:
            return replace(one, values=values, stored=stored)
        return CategoryType(values, form or "string", stored)
    if isinstance(one, TimeType) and isinstance(other, TimeType) and one.arrow == other.arrow:
        widest = max(one, other, key=lambda kind: (kind.coarse, kind.step))
        step = widest.step if widest.coarse else math.gcd(one.step, other.step, one.offset - other.offset)
        return TimeType(one.arrow, widest.offset, step, widest.coarse, one.form if one.form == other.form else "")
    return None


def _common_numbers(one: NumberType, other: NumberType) -> NumberType:
    whole, digits = one.whole and other.whole, max(one.digits, other.digits)
    dtype = one.dtype if one.dtype == other.dtype else "int64" if whole else "float64"
    stored = one.stored if one.stored == other.stored else ""
    offset = one.offset if one.offset and other.offset else 0
    if not (one.step and other.step):
        return NumberType(dtype, 0, 0, offset, stored)
    multiples = [round(kind.step * 10 ** (digits - kind.digits)) for kind in (one, other)]
    multiples += [round(kind.offset * 10**digits) for kind in (one, other)]
    return NumberType(dtype, math.gcd(*multiples[:2], multiples[2] - multiples[3]), digits, int(offset) if whole else offset, stored)


def offset_of(kind: ColumnType) -> float:
    """What is subtracted from the numbers of a column; 0 for other types.

    Args:
        kind: the type.
    """
    return kind.offset if isinstance(kind, NumberType) else 0


def or_numbers(types: Sequence[ColumnType], columns: int) -> Sequence[ColumnType]:
    """The types, or those of plain float32 if there are none.

    Args:
        types: types of the columns; empty: all float32.
        columns: number of columns.
    """
    return types or (NumberType("float32"),) * columns


def typed_columns(rows: Tensor, types: Sequence[ColumnType | str], names: Sequence[str]) -> list[np.ndarray]:
    """Convert final rows of a table to numbers: int64 for integers, indices of categories and times, float64 on a lattice, else float32.

    The dtypes depend on `types` alone, so every part of a large table has the same ones.

    Args:
        rows: final rows `(n, d)`, float32 on the CPU; integer columns are rounded to the nearest integer, and 0 stands for NaN.
        types: types of the columns; empty: all float32.
        names: column names, for messages.

    Returns:
        Arrays `(n,)`, one a column.

    Raises:
        RunError: if the values of an integer column exceed 2⁶².
    """
    columns = rows.T.contiguous().numpy()
    found = or_numbers(column_types(types), len(columns))
    exact = [
        np.where(np.isnan(column), np.float32(0), column) if kind.unit[0] else column for column, kind in zip(columns, found, strict=True)
    ]
    return [kind.exact(column, name) for column, kind, name in zip(exact, found, names, strict=True)]


def _integers(codes: np.ndarray, name: str, most: float = _WHOLE) -> np.ndarray:
    low, high = codes.min(initial=0), codes.max(initial=0)
    if not -most <= low <= high <= most:
        raise RunError(
            f"The integer column '{name}' has samples from {low:g} to {high:g}, which overflow int64.",
            "Write a .npy, which stores float32, or train longer.",
        )
    return codes.astype(np.float64).round().astype(np.int64)
