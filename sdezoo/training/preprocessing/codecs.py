"""Codecs that a table needs whatever the process: of times, missing, recurring and constant values, and categories; those of series."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sdezoo.data.codecs.channels import ConstantChannelCodec
from sdezoo.data.codecs.codec import AffineCodec, Codec, ConstantCodec
from sdezoo.data.codecs.discrete import CategoryCodec, MissingCodec
from sdezoo.data.codecs.growth import GrowthCodec
from sdezoo.data.codecs.recurring import RecurringCodec
from sdezoo.data.column_types import CategoryType, NumberType, TimeType, or_numbers
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.data.validation import check, column_name
from sdezoo.errors import DataError
from sdezoo.zoo.column_notation import option, setting
from sdezoo.zoo.column_options import DROP

CATEGORIES = 500
"""Largest number of categories of a column."""
_FREQUENT, _SINGLE, _VALUES = 12, 0.02, 256
"""A value is frequent from so many rows on. Values recur if at most this share of the rows has one of its own; the most such values."""


def value_codecs(data: Data, first: Sequence[Codec] = (), categories: Sequence[str] = ()) -> tuple[Codec, ...]:
    """Build the codecs of times, of missing values and of categories of a table.

    Args:
        data: training and held-out rows; every row counts.
        first: codecs to apply before them; they leave these columns as they are.
        categories: names of columns of numbers to encode as categories, as are strings and Booleans.

    Raises:
        DataError: if there are too many categories, or a column has no value at all.
    """
    check(data, missing=True)
    if data.kind != "table":
        return ()
    codecs, count = list(first), data.event[-1]
    bound = {source for codec in first for source in codec.columns or ()}
    kinds = or_numbers(data.types, count)

    def places(columns: Sequence[int]) -> tuple[int, ...]:
        sources = Encoding(tuple(codecs)).sources(count)
        return tuple(sources.index(i) for i in columns)

    rows = torch.cat([block.double() for block in data.blocks()])
    empty = rows.isnan().all(0)
    if empty.any():
        name = column_name(int(empty.to(torch.uint8).argmax()), data.columns)
        if empty.all():
            raise DataError("The table has no values at all: every one is missing.", "Give a table with values.")
        raise DataError(f"The column {name} has no values at all: every one is missing.", f"Leave it out: {_left_out(name)}.")
    words = [i for i, kind in enumerate(kinds) if isinstance(kind, CategoryType) or (data.columns and data.columns[i] in categories)]
    times = [i for i, kind in enumerate(kinds) if isinstance(kind, TimeType) and not kind.has_zero and i not in bound]
    if times:
        # Such times have no zero, so their middle is as good as any; processes on the positive numbers are not for them.
        shift = torch.zeros(len(Encoding(tuple(codecs)).sources(count)), dtype=torch.float64)
        low, high = data.bounds
        shift[list(places(times))] = -((low + high) / 2)[times].double().round()
        codecs.append(AffineCodec(torch.tensor(1.0), shift))
    gaps = [i for i in range(count) if i not in words and rows[:, i].isnan().any()]
    if broken := [i for i in gaps if i in bound]:
        raise DataError(
            f"The column {column_name(broken[0], data.columns)} has missing values, so its order or sum with other columns is not known.",
            "Give --missing drop, or leave the relation out.",
        )
    if gaps:
        at = places(gaps)
        order = sorted(range(len(gaps)), key=at.__getitem__)
        encoded = torch.cat([Encoding(tuple(codecs)).encode_exactly(block) for block in data.blocks()])
        fills = [float(encoded[:, at[k]][~encoded[:, at[k]].isnan()].median()) for k in order]
        patterns, marks = rows[:, [gaps[k] for k in order]].isnan().T.unique(dim=0, return_inverse=True)
        numbers = {mark: i for i, mark in enumerate(dict.fromkeys(marks.tolist()))}
        shares = tuple(patterns.double().mean(1)[[*numbers]].tolist())
        shared = tuple(numbers[mark] for mark in marks.tolist()) if len(numbers) < len(gaps) else ()
        codecs.append(MissingCodec(tuple(at[k] for k in order), tuple(fills), shares, shared))
    known = {i: _values_of(rows[:, i], column_name(i, data.columns)) for i in words}
    words = [i for i in words if len(known[i]) > 1]
    if words:
        at = places(words)
        order = sorted(range(len(words)), key=at.__getitem__)
        shares = tuple(_shares_of(rows[:, words[k]], known[words[k]]) for k in order)
        codecs.append(CategoryCodec(tuple(at[k] for k in order), tuple(known[words[k]] for k in order), shares))
    return tuple(codecs[len(first) :])


def recurring_codecs(data: Data, first: Sequence[Codec] = (), categories: Sequence[str] = ()) -> tuple[Codec, ...]:
    """Build the codec of the columns of numbers whose values recur; none if there are none.

    The probability that a new row has a value that no row had is about the share of rows with one of their own (Good, Biometrika 40, 1953):
    at most 2 %. And there is a hole: two frequent values with no other between them, not even that of the lattice. Whole numbers of a count
    have none, though their tail may.

    Args:
        data: training and held-out rows; every row counts.
        first: codecs of columns whose order or sum is kept; these columns are left out.
        categories: names of columns of numbers to encode as categories, which are left out.
    """
    if data.kind != "table":
        return ()
    bound, found = {source for codec in first for source in codec.columns or ()}, {}
    for i, kind in enumerate(or_numbers(data.types, data.event[-1])):
        if isinstance(kind, NumberType) and i not in bound and not (data.columns and data.columns[i] in categories):
            column = torch.cat([block[:, i].double() for block in data.blocks()])
            step, scale = kind.unit
            values = _recurring(column[~column.isnan()], step / scale)
            if values:
                found[i] = values
    return (RecurringCodec(tuple(found), tuple(found.values())),) if found else ()


def _recurring(column: Tensor, step: float) -> tuple[float, ...]:
    """The values of a column, if they recur; `step` is that of its lattice, 0 for none."""
    values, counts = column.unique(return_counts=True)
    if not 2 <= len(values) <= _VALUES or int((counts == 1).sum()) > _SINGLE * len(column):
        return ()
    frequent = counts >= _FREQUENT
    holes = frequent[1:] & frequent[:-1] & (values.diff() > 1.5 * step)
    return tuple(values.tolist()) if holes.any() else ()


def _left_out(name: str) -> str:
    """The option that leaves out a column, by its name for messages."""
    return option(setting(name[1:-1] if name.startswith("'") else name, DROP))


def _values_of(column: Tensor, name: str) -> tuple[float, ...]:
    """The different values of a column of categories, increasing, NaN last."""
    found = column[~column.isnan()].unique()
    if len(found) > CATEGORIES:
        raise DataError(
            f"The column {name} has {len(found)} categories, more than the {CATEGORIES} that a model can learn.",
            f"Leave it out ({_left_out(name)}), or put its rare values together.",
        )
    return (*found.tolist(), *([math.nan] if column.isnan().any() else []))


def _shares_of(column: Tensor, values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float((column.isnan() if math.isnan(value) else column == value).double().mean()) for value in values)


def constant_codecs(data: Data, first: Sequence[Codec] = (), kept: Sequence[int] = ()) -> tuple[Codec, ...]:
    """Build a codec that removes the constant columns of a table or of points, or restores channels of images; none if there are none.

    Args:
        data: training and held-out rows; every row counts.
        first: codecs to apply before it.
        kept: columns of the table to keep even if they are constant.

    Raises:
        DataError: if all columns are constant, or the data cannot be used.
    """
    encoding = Encoding(tuple(first))
    check(data, missing=bool(encoding.missing))
    if data.kind == "image":
        return _constant_channels(data)
    if data.kind not in ("table", "points"):
        return ()
    if first:
        blocks = [encoding.encode_exactly(block) for block in data.blocks()]
        low, high = torch.stack([b.amin(0) for b in blocks]).amin(0), torch.stack([b.amax(0) for b in blocks]).amax(0)
    else:
        low, high = data.bounds
    constant = (low == high).nonzero().flatten().tolist()
    if len(constant) == len(low):
        raise DataError(f"Every column of the {data.kind} is constant.", "Give data with a column whose values differ.")
    sources = encoding.sources(data.event[-1])
    constant = [i for i in constant if sources[i] not in kept]
    return (ConstantCodec(tuple(constant), tuple(low[constant].double().tolist())),) if constant else ()


def _constant_channels(data: Data) -> tuple[Codec, ...]:
    """The codec of channels that have one value in all images; none if all do, such as in a single grey one."""
    if data.event[0] == 1:
        return ()
    ends = [torch.stack([block.amin((0, 2, 3)), block.amax((0, 2, 3))]) for block in data.blocks()]
    low, high = torch.stack(ends)[:, 0].amin(0), torch.stack(ends)[:, 1].amax(0)
    constant = (low == high).nonzero().flatten().tolist()
    if not constant or len(constant) == len(low):
        return ()
    return (ConstantChannelCodec(tuple(constant), tuple(low[constant].double().tolist())),)


def series_codecs(data: Data) -> tuple[Codec, ...]:
    """Build the codec of windows that start at 1; none for other data.

    Args:
        data: the data.
    """
    return () if data.form in (None, "real") else (GrowthCodec(stepwise=data.form == "growth"),)
