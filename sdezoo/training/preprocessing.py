"""Preprocessing: fit the encoding from the user's units to the support of a process.

`fit_encoding` chooses an affine encoding `x = scale · raw + shift` that maps the data into the support of a process. Data that do not fit
are rejected; nothing is clipped or dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from sdezoo.data.codecs.channels import ConstantChannelCodec
from sdezoo.data.codecs.codec import AffineCodec, CellCodec, Codec, ConstantCodec, DifferenceCodec
from sdezoo.data.codecs.discrete import CategoryCodec, MissingCodec
from sdezoo.data.codecs.growth import GrowthCodec
from sdezoo.data.codecs.normal_scores import fit_normal_scores
from sdezoo.data.column_types import CategoryType, TimeType, offset_of, or_numbers
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.data.validation import check, column_name
from sdezoo.errors import DataError, shortened
from sdezoo.process.columns import walls
from sdezoo.zoo.column_options import DROP, option, setting
from sdezoo.zoo.composition import defaults, support_in_words
from sdezoo.zoo.registry import SDES

Shift = Literal["auto", "none"] | float | None
_ROWS = 4096  # rows checked at a time, to keep float64 copies small
CATEGORIES = 500
"""Largest number of categories of a column."""


def fit_encoding(
    data: Data,
    support: Constraint,
    shift: Shift = None,
    codecs: Sequence[Codec] = (),
    rounds_up: Tensor | None = None,
    *,
    normal_scores: bool = False,
) -> Encoding:
    """Fit the encoding that maps `data` into `support`.

    The support is probed by calling its `check`, so any constraint works. By default (`shift=None`):

    - Real line (all values admitted): images become 2 · raw − 1, which maps [0, 1] to [−1, 1]. Tables, points and paths are standardized
      per column, with mean and standard deviation over the training rows of all snapshots and all observations of paths. A constant
      column is only centred.
    - Half-line (unbounded above, no negative values): if the support excludes 0, images become raw + 1, which maps [0, 1] to [1, 2].
      Otherwise data are unchanged, as are tables, points and paths in any case.
    - Any other support, such as the unit interval: data are unchanged.

    If the support checks each entry separately, each column of a table is treated separately.

    Args:
        data: training and held-out rows of all snapshots; all must fit.
        support: support of the process.
        shift: `"auto"` differs from the default only on a half-line: each column with values outside the support gets the offset
            −min + max(½ (next − min), (median − min) / 1000), where min, next and median are the column's smallest, second smallest
            distinct, and median value over all rows. So zeros among positive values become half of the smallest positive value, as is
            usual before a logarithm, and a near-tie at the minimum puts no value more than ln 1000 below the median. A column with only
            one distinct value is shifted to 1. `"none"` is the identity on any support. A number is added to the raw values.
        codecs: codecs of a table to apply first.
        rounds_up: which encoded columns are rounded up if they hold whole numbers, `(d,)`, see `Process.rounds_up`; None: none.
        normal_scores: whether columns on the real line, on a half-line or in a box are mapped to normal ones, see `NormalScoreCodec`;
            not if a `shift` is given.

    Raises:
        DataError: if there are NaN or infinite values (count, first position), wrong shapes, fewer than two rows, images outside [0, 1],
            or values outside the support (how many, in which columns).
    """
    codecs = tuple(codecs)
    check(data, missing=bool(Encoding(codecs).missing))
    affine = _affine(data, Encoding(codecs), support, shift)
    if rounds_up is not None:
        codecs += _cells(data, Encoding(codecs), affine, rounds_up)
    if normal_scores and shift is None and (scores := _normal_scores(data, Encoding(codecs), support)):
        codecs += scores
        affine = _affine(data, Encoding(codecs), support, shift)
    encoding = Encoding((*codecs, affine), data.types)
    refused = _refused(data, support, encoding)
    if refused.any():
        raise _refusal(data, support, shift, refused, encoding)
    return encoding


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
        shares = [float(rows[:, gaps[k]].isnan().double().mean()) for k in order]
        codecs.append(MissingCodec(tuple(at[k] for k in order), tuple(fills), tuple(shares)))
    known = {i: _values_of(rows[:, i], column_name(i, data.columns)) for i in words}
    words = [i for i in words if len(known[i]) > 1]
    if words:
        at = places(words)
        order = sorted(range(len(words)), key=at.__getitem__)
        shares = tuple(_shares_of(rows[:, words[k]], known[words[k]]) for k in order)
        codecs.append(CategoryCodec(tuple(at[k] for k in order), tuple(known[words[k]] for k in order), shares))
    return tuple(codecs[len(first) :])


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


def _affine(data: Data, first: Encoding, support: Constraint, shift: Shift) -> AffineCodec:
    event = first.encoded_event(data.event)
    one, none = torch.tensor(1.0), torch.tensor(0.0)
    if shift == "none":
        return AffineCodec(one, none)
    if shift is not None and shift != "auto":
        return AffineCodec(one, torch.tensor(float(shift), dtype=torch.float64))
    real, half = _real_line(support, event), _half_line(support, event)
    if data.kind == "image":
        if real.all():
            return AffineCodec(torch.tensor(2.0), torch.tensor(-1.0))
        return AffineCodec(one, one if half.all() and not _admits(support, 0.0, event).any() else none)
    scale, offset = one, none
    if real.any():
        means, scales = _moments(_training_rows(data, first))
        plain = real & ~torch.tensor([output.ready for output in first.outputs(data.event[-1])])
        scale, offset = torch.where(plain, scales, 1.0), torch.where(plain, -means * scales, 0.0)
    if half.any() and shift == "auto":
        offset = torch.where(real, offset, _offsets(data, first, support, half))
    return AffineCodec(scale, offset)


def _cells(data: Data, first: Encoding, affine: AffineCodec, rounds_up: Tensor) -> tuple[Codec, ...]:
    """A codec for the columns on a lattice that are rounded up: neither scaled nor shifted."""
    units = units_of(data, first)
    whole = torch.tensor([unit[0] > 0 for unit in units])
    as_they_are = (affine.scale == 1) & (affine.shift == 0)
    columns = (whole & rounds_up & as_they_are).nonzero().flatten().tolist()
    fractions = tuple(units[i] for i in columns)
    return (CellCodec(tuple(columns), fractions if any(unit != (1, 1) for unit in fractions) else ()),) if columns else ()


def _normal_scores(data: Data, first: Encoding, support: Constraint) -> tuple[Codec, ...]:
    """The codec of the columns that have values on the real line, on a half-line or in a box, fitted to those of the training rows."""
    event = first.encoded_event(data.event)
    real, half, boxes = _real_line(support, event), _half_line(support, event), walls(support, event)
    outputs, mapped = first.outputs(data.event[-1]), (real | half) | torch.tensor([box is not None for box in boxes])
    places = [i for i, output in enumerate(outputs) if real.ndim and mapped[i] and not output.ready and not output.mark]
    rows = _training_rows(data, first)
    gaps = torch.cat([snapshot.train for snapshot in data.snapshots]).isnan()
    rows = torch.where(gaps[:, [output.source for output in outputs]], math.nan, rows)
    units = units_of(data, first)
    log, cells = [bool(half[i]) for i in places], [units[i][0] / units[i][1] for i in places]
    return fit_normal_scores(rows, places, log, cells, [boxes[i] for i in places])


def units_of(data: Data, first: Encoding) -> list[tuple[int, int]]:
    """The unit of the lattice of each encoded column, `(0, 1)` for none.

    Differences of columns on two lattices are on no lattice that is known. Chains come first, so their columns are those of the table.

    Args:
        data: the data.
        first: the codecs so far.
    """
    units = [kind.unit for kind in or_numbers(data.types, data.event[-1])]
    chains = [codec.columns for codec in first.codecs if isinstance(codec, DifferenceCodec)]
    torn = {i for columns in chains if len({units[i] for i in columns}) > 1 for i in columns}
    outputs = first.outputs(data.event[-1])
    return [units[each.source] if each.lattice and each.source not in torn else (0, 1) for each in outputs]


def _training_rows(data: Data, first: Encoding) -> Tensor:
    """Encoded training rows of all snapshots and all observations of paths, float64 `(rows, d)`."""
    parts = [first.encode_exactly(snapshot.train).flatten(0, -2) for snapshot in data.snapshots]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation of each column, which is 1 for a constant one."""
    return rows.mean(0), torch.where(rows.amin(0) == rows.amax(0), 1.0, 1 / rows.std(0))


def _offsets(data: Data, first: Encoding, support: Constraint, half: Tensor) -> Tensor:
    refused = _refused(data, support, first)
    # If values outside the support cannot be attributed to columns, shift none: `fit_encoding` then rejects the data.
    event = first.encoded_event(data.event)
    troubled = (refused > 0) & half if refused.ndim else torch.zeros(event[-1:], dtype=torch.bool)
    parts = [part for snapshot in data.snapshots for part in (snapshot.train, snapshot.test) if len(part)]
    rows = torch.cat([first.encode_exactly(part).flatten(0, -2) for part in parts])
    low = torch.stack([first.encode_exactly(block).flatten(0, -2).amin(0) for block in data.blocks()]).amin(0)
    return torch.stack(
        [
            _offset(column, least) if bad else torch.zeros((), dtype=torch.float64)
            for column, least, bad in zip(rows.T, low, troubled, strict=True)
        ]
    )


def _offset(column: Tensor, low: Tensor) -> Tensor:
    """Offset of one column. `low` is its smallest value over all rows; `column` may hold only a part of them."""
    above = column[column > low]
    if not len(above):
        return 1 - low
    smallest = torch.finfo(torch.float32).tiny  # half of a subnormal number is zero in float32
    return torch.maximum((above.min() - low) / 2, (column.median() - low) / 1000).clamp_min(smallest) - low


def _admits(support: Constraint, value: float, event: tuple[int, ...]) -> Tensor:
    """Whether the support admits a value: `(d,)` for each column, 0-dim if it checks whole rows."""
    found = support.check(torch.full((1, *event), value))[0]
    return found.flatten(0, -2).all(0) if found.ndim > 1 else found


def _real_line(support: Constraint, event: tuple[int, ...]) -> Tensor:
    return torch.stack([_admits(support, value, event) for value in (-1e6 - 0.5, -1.0, 0.0, 0.5, 1.0, 1e6 + 0.5)]).all(0)


def _half_line(support: Constraint, event: tuple[int, ...]) -> Tensor:
    return _admits(support, 1e6 + 0.5, event) & ~_admits(support, -1.0, event)


def _wants_shares(support: Constraint, event: tuple[int, ...]) -> bool:
    equal = 1 / event[-1]
    return bool(_admits(support, equal, event).all()) and not any(_admits(support, share * equal, event).any() for share in (0.5, 2.0))


def _refused(data: Data, support: Constraint, encoding: Encoding) -> Tensor:
    """Number of values outside the support, per encoded column `(d,)`; 0-dim if the support checks whole rows, and for images."""
    total = torch.tensor(0)
    for rows in (part for block in data.blocks() for part in block.split(_ROWS)):
        encoded = encoding.encode(rows)
        refused = ~support.check(encoded)
        by_column = data.kind != "image" and refused.shape == encoded.shape
        total = total + (refused.flatten(0, -2).sum(0) if by_column else refused.sum())
    return total


def _refusal(data: Data, support: Constraint, shift: Shift, refused: Tensor, encoding: Encoding) -> DataError:
    event = encoding.encoded_event(data.event)
    troubled = refused > 0 if refused.ndim else torch.ones(event[-1], dtype=torch.bool)
    half_line = bool(_half_line(support, event).expand(event[-1])[troubled].all())
    admits_one, admits_zero = (bool(_admits(support, v, event).expand(event[-1])[troubled].all()) for v in (1.0, 0.0))
    count = int(refused.sum())
    subject = f"{count} {'value' if refused.ndim or data.kind == 'image' else 'row'}{'s' if count > 1 else ''}"
    if half_line and not admits_one:
        predicate = f"below the support of the SDE, {support_in_words(support)}"
    elif half_line:
        predicate = "negative" if admits_zero else "zero or negative"
    else:
        predicate = f"outside the support of the SDE, {support_in_words(support)}"
    predicate += f" after the shift by {shift}" if isinstance(shift, float | int) else ""
    sources = encoding.sources(data.event[-1])
    where = f", in {_columns(refused, data.columns, sources)}" if refused.ndim else ""
    if half_line and refused.ndim == 1 == len(data.event) and not any(map(offset_of, data.types)):
        where += f", down to {float(data.bounds[0][[sources[i] for i in refused.nonzero().flatten().tolist()]].min()):g}"
    return DataError(f"{subject} {'are' if count > 1 else 'is'} {predicate}{where}.", _remedy(data, event, support, half_line, shift))


def _remedy(data: Data, event: tuple[int, ...], support: Constraint, half_line: bool, shift: Shift) -> str:
    other = _others(data) if half_line else "another SDE"
    if half_line and data.kind == "image" and shift not in (None, "auto"):
        return f"Omit --shift (images then get +1), or choose {other}."
    if data.kind in ("table", "points") and shift is None and not data.later:
        offsets = ", or give --shift auto (one recorded offset for each such column)" if half_line else ""
        if not _wants_shares(support, event):
            return f"Omit --sde (each column then gets a process that fits), choose {other}{offsets}."
    if half_line and data.kind != "image" and shift != "auto":
        return f"Give --shift auto (one recorded offset for each such column), or choose {other}."
    if _wants_shares(support, event):
        return "Divide each row by its sum first (entries must be non-negative and not all zero), or choose another SDE."
    return f"Rescale the data into the support first, or choose {other}."


def _others(data: Data) -> str:
    """Alternatives to suggest: if zeros are the only problem, the processes that allow them."""
    if data.later:
        return "another bridge"
    if float(data.bounds[0].min()) < 0:
        return "another SDE"
    allowing = ((name, _half_line(sde.support, data.event) & _admits(sde.support, 0.0, data.event)) for name, sde in defaults(SDES))
    takers = [name for name, allows in allowing if allows.all()]
    return f"an SDE that allows zeros, such as {' or '.join(takers)}" if takers else "another SDE"


def _columns(counts: Tensor, names: Sequence[str], sources: Sequence[int]) -> str:
    named = [f"{column_name(sources[i], names)} ({int(counts[i])})" for i in counts.nonzero().flatten().tolist()]
    return f"column{'s' if len(named) > 1 else ''} {shortened(named)}"
