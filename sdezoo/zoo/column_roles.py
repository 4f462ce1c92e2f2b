"""What the columns of a table are for `--sde auto`: numbers, categories, or identifiers that are left out.

- A column is an *identifier* if it names rows: strings of which most rows have one of their own, or integers that count the rows in even
  steps. A model could only memorize it, so it is left out.
- Strings and Booleans are *categories*. So are numbers on a lattice, such as whole numbers, if they have two different values, or ten at
  most and each end in a hundredth of the rows: grades and years of a survey, but not counts, whose largest values are rare.
- Numbers of which none is positive are *negative*: processes get them with the opposite sign, so that one on the positive numbers fits.
- Numbers that pile up at their least value, such as a detection limit, have a *floor*, unless the process that fits them ends there anyway.
  Processes get their distances from it, so that the pile becomes exact zeros. Negative numbers that pile up at their greatest value have a
  *ceiling*.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sdezoo.data.column_types import CategoryType, ColumnType, NumberType, TimeType, offset_of, or_numbers
from sdezoo.data.dataset import Data
from sdezoo.data.validation import check, column_name
from sdezoo.errors import DataError, listed
from sdezoo.process.columns import piles_up
from sdezoo.zoo.column_notation import option, setting
from sdezoo.zoo.column_options import ColumnOptions, column_names
from sdezoo.zoo.columns import fit_column
from sdezoo.zoo.registry import SDES

KEEP, DROP, REFUSE = "keep", "drop", "refuse"
"""What happens to rows with missing values."""

_ROWS = 20
"""Rows from which a column can be known for an identifier."""
_LEVELS, _SHARE, _FEW = 10, 0.01, 3
_EXACT = 2**24
"""float32 holds every integer up to here, and lies nearest to one multiple of a larger step up to half as many of them."""


def prepared(data: Data, options: ColumnOptions, missing: str | None) -> Data:
    """The data that a model is trained on or compared with: without the columns and rows that are left out.

    Args:
        data: the data as read.
        options: what the user says of columns.
        missing: `keep` or `drop` rows with missing values; else they are refused.

    Raises:
        DataError: if there are missing values and `missing` is neither, or no rows are left.
    """
    found = options.apply(data)
    if found.kind != "table" or missing == KEEP:
        check(found, missing=True)
        return found
    if missing == DROP:
        found = found.where(lambda rows: ~rows.isnan().any(1))
        if len(found.train) < 2:
            raise DataError(
                "Fewer than two rows have no missing value.", "Give --missing keep, or leave out columns that are mostly missing."
            )
        return found
    check_present(found)
    return found


def check_present(data: Data) -> None:
    """Check that a table has no missing values.

    Args:
        data: the data.

    Raises:
        DataError: if values are missing, with their number, and the first of them.
    """
    try:
        check(data)
    except DataError as error:
        if "missing (NaN)" not in error.problem:
            raise
        raise DataError(
            error.problem, "Remove or fill in these rows, give --missing drop, or leave out --sde and --missing to keep them."
        ) from None


def find_roles(data: Data, options: ColumnOptions) -> tuple[ColumnOptions, tuple[str, ...]]:
    """Find the identifiers and categories of a table.

    Args:
        data: the data as read.
        options: what the user says of columns, which comes first.

    Returns:
        The options with the columns that are left out and those that are categories, and a phrase for each choice.
    """
    if data.kind not in ("table", "points"):
        return options, ()
    names, reasons = column_names(data), []
    named = data.kind == "table" and bool(data.columns)
    ends = {*options.negative, *options.floors, *options.ceilings}
    known = {*options.dropped, *options.categories, *options.processes, *ends, *options.related}
    rows = torch.cat([data.train, data.test]).double()
    dropped, categories, negative, floors, ceilings = [], [], [], [], []
    for i, (name, kind) in enumerate(zip(names, or_numbers(data.types, len(names)), strict=True)):
        if names.count(name) > 1 or name in known:
            continue
        if named and (what := _identifies(rows[:, i], kind)):
            dropped.append(name)
            reasons.append(f"{column_name(0, [name])} left out: {what}. To keep it, give {option(setting(name, _kept(kind)))}")
        elif named and _few(rows[:, i], kind):
            categories.append(name)
        else:
            below = _negative(rows[:, i], kind)
            end = data.bounds[below][i]
            if share := _piled(name, rows[:, i], kind, end, below):
                (ceilings if below else floors).append(name)
                where, beyond = ("down from its greatest", "above") if below else ("up from its least", "below")
                said = f"value, {float(end) + offset_of(kind):g}, in {share:.1%} of rows: no sample will be {beyond}"
                reasons.append(f"{column_name(0, [name])} counted {where} {said}")
            elif below:
                negative.append(name)
    if dropped and len(dropped) == len(names) - len(options.dropped):
        raise DataError(
            "Every column of the table is an identifier: it names rows, and a model would memorize it.", "Give a table with others."
        )
    if wide := [name for i, name in enumerate(names) if name not in dropped and _loses(rows[:, i], data.types[i] if data.types else None)]:
        reasons.append(f"{listed(wide)} rounded to 7 digits: numbers that span more than float32 holds")
    reasons += [
        f"{column_name(0, [name])} rounded to 7 digits of multiples of {kind.step} in {kind.arrow}: it spans more than float32 holds"
        for name, kind in zip(names, data.types, strict=False)
        if isinstance(kind, TimeType) and kind.coarse and name not in options.dropped
    ]
    if negative:
        reasons.append(f"{listed(negative)} with the opposite sign: no value is positive, and no sample will be")
    found = {
        "dropped": (*options.dropped, *dropped),
        "categories": (*options.categories, *categories),
        "negative": (*options.negative, *negative),
        "floors": (*options.floors, *floors),
        "ceilings": (*options.ceilings, *ceilings),
    }
    return replace(options, **found), tuple(reasons)


def _identifies(column: Tensor, kind: ColumnType) -> str | None:
    """What makes a column an identifier; None if it is none. The order of rows is not used, since held-out rows stand apart."""
    present = column[~column.isnan()]
    if len(present) < _ROWS:
        return None
    if isinstance(kind, CategoryType):
        alone = int((present.unique(return_counts=True)[1] == 1).sum())
        if alone == len(present):
            return "a different string in every row"
        return f"a string that no other row has in {alone} of {len(present)} rows" if alone > len(present) / 2 else None
    if not kind.whole or len(present) < len(column):
        return None
    steps = present.sort().values.diff()
    return "whole numbers that count the rows" if bool((steps == steps[0]).all()) and steps[0] > 0 else None


def _kept(kind: ColumnType) -> str:
    return "category" if isinstance(kind, CategoryType) else "vp"


def _few(column: Tensor, kind: ColumnType) -> bool:
    """Whether a column is one of categories."""
    if isinstance(kind, CategoryType):
        return True
    present = column[~column.isnan()]
    if not kind.unit[0] or isinstance(kind, TimeType) or not len(present):
        return False
    found, counts = present.unique(return_counts=True)
    enough = max(_FEW, _SHARE * len(present))
    return len(found) == 2 or (2 < len(found) <= _LEVELS and min(int(counts[0]), int(counts[-1])) >= enough)


def _negative(column: Tensor, kind: ColumnType) -> bool:
    """Whether no number of a column is positive, and not all are the same. An offset leaves no zero to compare with."""
    present = column[~column.isnan()]
    plain = isinstance(kind, NumberType) and not kind.offset and len(present) > 0
    return plain and bool(present.min() < present.max() <= 0)


def _piled(name: str, column: Tensor, kind: ColumnType, end: Tensor, below: bool) -> float:
    """The share of rows at an end of a column, the least value, or the greatest one if the others are `below`; 0 if it is no pile, or one
    on a wall of the process that fits the column."""
    present = column[~column.isnan()]
    if not isinstance(kind, NumberType) or not len(present):
        return 0
    counted, low = (0 - present, 0 - end.double()) if below else (present, end.double())
    share = float((counted == low).double().mean())  # 0 if rows on disk lie beyond those in memory
    if not share or not piles_up(counted):
        return 0
    beyond = torch.nextafter(low.float(), torch.tensor(-torch.inf)).double()
    support = SDES.build(fit_column(name, counted).spec).support
    return share if support.check(beyond.reshape(1, 1)).all() else 0


def _loses(column: Tensor, kind: ColumnType | None) -> bool:
    if not (isinstance(kind, NumberType) and kind.step):
        return False
    step, scale = kind.unit
    return bool((column.abs() * scale > (_EXACT if step == 1 else _EXACT / 2 * step)).any())
