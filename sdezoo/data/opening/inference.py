"""Find the types of numbers and times in a table: lattices, offsets and steps, from all of their values.

Columns are gone through in parts of 2¹⁸ rows, several times if need be, so that memory is that of a part.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from sdezoo.data.column_types import CategoryType, ColumnType, NumberType, TimeType
from sdezoo.errors import DataError

EXACT = 2**24
"""float32 holds every integer up to here."""

_PART = 2**18
_SMALLEST = float(np.finfo(np.float32).tiny)
_DIGITS, _DIFFERENT = 6, 10
"""Decimal places of a lattice at most; different values at least for multiples of a step of time, as many as are counted of a divisor."""
_FEWEST, _BITS = 3, 9
"""Different numbers other than 0 at least that tell of a common divisor, and bits of information in it."""
_MULTIPLES = 2**50
"""Largest multiple of a decimal lattice: float64 holds the decimals."""
_FAR = 8
"""Integers are counted from their middle if that is so many times their range away from zero: float32 then tells more of them apart."""
_NARROW = 2.0**-10
"""Numbers whose range is a smaller part of the largest are counted from its middle."""
_SPANS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "day": 86_400 * 10**9}
"""Spans of time in nanoseconds."""

_DECIMAL, _STRINGS = re.compile(r"(decimal(?:32|64|128|256))\((\d{1,2}), (-?\d{1,2})\)"), ("large_string", "string_view")


def column_parts(column: pa.ChunkedArray) -> Iterator[tuple[int, pa.Array]]:
    """Iterate over a column in parts of at most 2¹⁸ rows, each with the row at which it begins.

    Args:
        column: the column.
    """
    first = 0
    for chunk in column.chunks:
        for start in range(0, len(chunk), _PART):
            yield first + start, chunk.slice(start, _PART)
        first += len(chunk)


def as_float64(part: pa.Array) -> np.ndarray:
    """Convert numbers to float64, missing ones to NaN.

    Args:
        part: numbers.
    """
    found = part.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if not pa.types.is_decimal(part.type) or part.type.scale > 15:
        return found
    return np.round(found * 10.0**part.type.scale) / 10.0**part.type.scale  # Arrow's cast is not the nearest number


def check_small(values: np.ndarray, where: str) -> None:
    """Check that no number is so small that float32 loses it.

    Args:
        values: numbers, float64 of any shape.
        where: what holds them, which begins the message.

    Raises:
        DataError: if there are some (how many, the first).
    """
    lost = values[(values != 0) & (np.abs(values) < _SMALLEST)]
    if len(lost):
        raise DataError(
            f"{where} holds numbers too small for float32 ({len(lost)}, the first {lost[0]:g}).",
            "Give them in a smaller unit, or their logarithms.",
        )


def integer_type(column: pa.ChunkedArray, name: str) -> NumberType:
    """Find the type of a column of integers.

    Args:
        column: the column.
        name: its name, for the message.

    Raises:
        DataError: if an integer is 2⁶³ or more.
    """
    dtype = np.dtype(column.type.to_pandas_dtype()).name
    ends = [np.asarray(part.drop_null()) for _, part in column_parts(column)]
    ends = [(int(known.min()), int(known.max())) for known in ends if len(known)]
    if not ends:
        return NumberType(dtype)
    low, high = min(first for first, _ in ends), max(last for _, last in ends)
    if high >= 2**63:
        raise DataError(
            f"The column '{name}' holds integers up to {high}, beyond 64 bits with a sign.",
            "Leave it out of the table, or if they are identifiers, store them as text.",
        )
    start = low if (near := _near(low, high)) else 0
    step = _divisor(as_int64(part.drop_null()) - start for _, part in column_parts(column))
    return NumberType(dtype, step, 0, low + (high - low) // (2 * step) * step if near else 0)


def _near(low: int, high: int) -> bool:
    """Whether integers are counted from their middle: float32 tells more of them apart then, and 0 is either among them or far away.
    Others keep their sign.
    """
    largest = max(abs(low), abs(high))
    far = low < 0 < high or min(abs(low), abs(high)) >= high - low
    return largest > EXACT and far and high - low < max(2 * EXACT, largest // _FAR)


def float_type(column: pa.ChunkedArray) -> NumberType:
    """Find the type of a column of floating-point numbers, decimals, or nothing.

    Args:
        column: the column.
    """
    if pa.types.is_null(column.type):
        return NumberType("float64")
    single = column.type == pa.float32()
    dtype = "float32" if single else "float16" if column.type == pa.float16() else "float64"

    def known() -> Iterator[np.ndarray]:
        values = (as_float64(part) for _, part in column_parts(column))
        return (finite for block in values if len(finite := block[np.isfinite(block)]))

    ends = [(float(block.min()), float(block.max())) for block in known()]
    low, high = min((first for first, _ in ends), default=0.0), max((last for _, last in ends), default=np.inf)
    largest = max(-low, high)
    # Rounded to float32, numbers far from zero would be too few.
    offset = (low + high) / 2 if 0 < high - low < largest * _NARROW else 0
    most = _MULTIPLES if dtype == "float64" else EXACT
    for digits in range(_DIGITS + 1):
        scale = 10**digits
        if np.round(largest * scale) > most:
            break
        if all(_equal(np.round(block * scale) / scale, block, single) for block in known()):
            first, last = round(low * scale), round(high * scale)
            start = first if (near := _near(first, last)) else 0
            step = _divisor(np.round(block * scale) - start for block in known())
            return NumberType(dtype, step, digits, (first + (last - first) // (2 * step) * step) / scale if near else 0)
    return NumberType(dtype, offset=offset)


def _equal(a: np.ndarray, b: np.ndarray, single: bool) -> bool:
    return np.array_equal(a.astype(np.float32), b.astype(np.float32)) if single else np.array_equal(a, b)


def _divisor(multiples: Iterable[np.ndarray]) -> int:
    """The largest integer `g` that divides all; 1 if the different ones may share it by chance: `m` integers do with probability `g^−m`."""
    divisor, different = 0, set()
    for block in multiples:
        whole = np.unique(np.abs(block.astype(np.int64)))
        divisor = int(np.gcd.reduce(whole, initial=divisor))
        different |= {*whole[whole > 0][:_DIFFERENT].tolist()}
    return divisor if len(different) >= _FEWEST and len(different) * np.log2(divisor) >= _BITS else 1


def as_int64(part: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Convert integers or times to int64.

    Args:
        part: values, none missing.
    """
    if pa.types.is_integer(part.type):
        return np.asarray(part.cast(pa.int64()))
    return np.asarray(part.cast(pa.int32() if part.type.bit_width == 32 else pa.int64()).to_numpy(), dtype=np.int64)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of integers or floating-point numbers."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def shared_times(columns: Sequence[pa.ChunkedArray]) -> dict[str, TimeType]:
    """Find one type for all columns of times of one Arrow type, so that they can be compared, if float32 tells all values apart.

    Args:
        columns: the columns.

    Returns:
        Types by the name of the Arrow type.
    """
    kinds = {column.type for column in columns if pa.types.is_temporal(column.type) and not pa.types.is_interval(column.type)}
    found = {}
    for kind in kinds:
        alike = [column for column in columns if column.type == kind]
        shared = time_type(kind, alike)
        if not shared.coarse and shared.step == _exact_step(alike, _own(kind)):
            found[str(kind)] = shared
    return found


def _own(kind: pa.DataType) -> int:
    """Nanoseconds in the unit of a type of times."""
    return _SPANS[kind.unit if hasattr(kind, "unit") else "ms" if kind == pa.date64() else "day"]


def _moments(columns: Sequence[pa.ChunkedArray]) -> Iterator[np.ndarray]:
    """The times that are known, in parts."""
    parts = (as_int64(part.drop_null()) for column in columns for _, part in column_parts(column))
    return (known for known in parts if len(known))


def _exact_step(columns: Sequence[pa.ChunkedArray], own: int) -> int:
    """The common step of times; of few different ones, which may share one by chance, the longest span of time that divides it."""
    from_0 = any(pa.types.is_duration(column.type) for column in columns)
    low = 0 if from_0 else min((int(known.min()) for known in _moments(columns)), default=0)
    step, different = 0, set()
    for known in _moments(columns):
        since = np.unique(known - low)
        step = int(np.gcd.reduce(since, initial=step))
        different |= {*since[:_DIFFERENT].tolist()}
    if len(different) < 2:
        return 1
    return (
        step
        if len(different) >= _DIFFERENT
        else max([span // own for span in _SPANS.values() if step * own % span == 0 and span >= own], default=1)
    )


def time_type(kind: pa.DataType, columns: Sequence[pa.ChunkedArray]) -> TimeType:
    """Find the type of columns of times: the coarsest step that is exact, or the finest span of time whose multiples float32
    rounds by a quarter of the next span at most. Durations are counted from 0, so that positive ones stay positive; others from the middle.

    Args:
        kind: their Arrow type.
        columns: the columns.
    """
    ends = [(int(known.min()), int(known.max())) for known in _moments(columns)]
    if not ends:
        return TimeType(str(kind), 0)
    low, high = min(first for first, _ in ends), max(last for _, last in ends)
    step = _exact_step(columns, _own(kind))
    if pa.types.is_duration(kind):
        return TimeType(str(kind), 0, step, max(-low, high) // step >= EXACT)
    if pa.types.is_time(kind):  # they go around the clock
        step = math.gcd(step, _SPANS["day"] // _own(kind))
    if coarse := (high - low) // step >= 2 * EXACT:
        own = _own(kind)
        spans = [span // own for span in _SPANS.values() if span % own == 0 and span >= own * step]
        step = next(
            (span for span, above in pairwise(spans) if (high - low) // span < EXACT * above / (2 * span)), spans[-1] if spans else step
        )
        low = low // step * step
    return TimeType(str(kind), low + (high - low) // (2 * step) * step, step, coarse)


def stored_type(kind: ColumnType) -> pa.DataType | None:
    """Arrow's type in which a column was stored, if it is another than that of its values, or None.

    Args:
        kind: the type.

    Raises:
        ValueError: if there is no such type.
    """
    name = kind.stored if isinstance(kind, NumberType | CategoryType) else ""
    if not name:
        return None
    decimal = _DECIMAL.fullmatch(name) if isinstance(kind, NumberType) else None
    if decimal is None and (isinstance(kind, NumberType) or name not in _STRINGS):
        raise ValueError(name)
    return getattr(pa, decimal[1])(int(decimal[2]), int(decimal[3])) if decimal else getattr(pa, name)()


def stored_texts(name: str) -> str:
    """What a column of texts notes of its type.

    Args:
        name: name of the type.
    """
    return name if name in _STRINGS else ""
