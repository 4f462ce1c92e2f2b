"""Fit the encoding of data: codecs that map them into the support of a process.

`fit_encoding` chooses an affine encoding `x = scale · raw + shift`. Data that do not fit are rejected; nothing is clipped or dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from sdezoo.data.codecs.codec import AffineCodec, CellCodec, Codec
from sdezoo.data.codecs.levels import LevelCodec, fit_levels
from sdezoo.data.column_types import or_numbers
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.data.validation import check
from sdezoo.evaluation.measures.tails import hill
from sdezoo.process.columns import admits, is_half_line, is_real_line, walls
from sdezoo.training.preprocessing.normal_scores import fit_normal_scores
from sdezoo.training.preprocessing.refusals import Shift, count_refused, refusal

_COUNTED = 2**24
"""Pixels at most that are counted, about."""


def fit_encoding(
    data: Data,
    support: Constraint,
    shift: Shift = None,
    codecs: Sequence[Codec] = (),
    rounds_up: Tensor | None = None,
    *,
    normal_scores: bool = False,
    keeps_tails: bool = False,
) -> Encoding:
    """Fit the encoding that maps `data` into `support`.

    The support is probed by calling its `check`, so any constraint works. By default (`shift=None`):

    - Images of which many pixels have the same level are first mapped by a `LevelCodec`, if the support is the real line or excludes 0.
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
        keeps_tails: whether columns with a heavy tail are not mapped: the map would take it out of the data.

    Raises:
        DataError: if there are NaN or infinite values (count, first position), wrong shapes, fewer than two rows, images outside [0, 1],
            or values outside the support (how many, in which columns).
    """
    codecs = tuple(codecs)
    check(data, missing=bool(Encoding(codecs).missing))
    affine = _affine(data, Encoding(codecs), support, shift)
    if rounds_up is not None and data.kind == "table":
        codecs += _cells(data, Encoding(codecs), affine, rounds_up)
    if normal_scores and shift is None and (scores := _normal_scores(data, Encoding(codecs), support, keeps_tails)):
        codecs += scores
        affine = _affine(data, Encoding(codecs), support, shift)
    if shift is None and (levels := _levels(data, affine)):
        codecs += (levels,)
    encoding = Encoding((*codecs, affine), data.types)
    counts = count_refused(data, support, encoding)
    if counts.any():
        raise refusal(data, support, shift, counts, encoding)
    return encoding


def _affine(data: Data, first: Encoding, support: Constraint, shift: Shift) -> AffineCodec:
    event = first.encoded_event(data.event)
    one, none = torch.tensor(1.0), torch.tensor(0.0)
    if shift == "none":
        return AffineCodec(one, none)
    if shift is not None and shift != "auto":
        return AffineCodec(one, torch.tensor(float(shift), dtype=torch.float64))
    real, half = is_real_line(support, event), is_half_line(support, event)
    if data.kind == "image":
        if real.all():
            return AffineCodec(torch.tensor(2.0), torch.tensor(-1.0))
        return AffineCodec(one, one if half.all() and not admits(support, 0.0, event).any() else none)
    scale, offset = one, none
    if real.any():
        means, scales = _moments(_training_rows(data, first))
        plain = real & ~torch.tensor([output.ready for output in first.outputs(data.event[-1])])
        scale, offset = torch.where(plain, scales, 1.0), torch.where(plain, -means * scales, 0.0)
    if half.any() and shift == "auto":
        offset = torch.where(real, offset, _offsets(data, first, support, half))
    return AffineCodec(scale, offset)


def _levels(data: Data, affine: AffineCodec) -> LevelCodec | None:
    """The codec of images with frequent levels; None for bridges, whose noise counts pixels, and where pixels are taken as they are."""
    if data.kind != "image" or data.later or (affine.scale == 1 and affine.shift == 0):
        return None
    channels = data.train[:: 1 + data.train.numel() // _COUNTED].transpose(0, 1).flatten(1)
    return fit_levels(channels[(channels != channels[:, :1]).any(1)], data.levels)


def _cells(data: Data, first: Encoding, affine: AffineCodec, rounds_up: Tensor) -> tuple[Codec, ...]:
    """A codec for the columns on a lattice that are rounded up: neither scaled nor shifted."""
    units = units_of(data, first)
    whole = torch.tensor([unit[0] > 0 for unit in units])
    as_they_are = (affine.scale == 1) & (affine.shift == 0)
    columns = (whole & rounds_up & as_they_are).nonzero().flatten().tolist()
    fractions = tuple(units[i] for i in columns)
    return (CellCodec(tuple(columns), fractions if any(unit != (1, 1) for unit in fractions) else ()),) if columns else ()


def _normal_scores(data: Data, first: Encoding, support: Constraint, keeps_tails: bool) -> tuple[Codec, ...]:
    """The codec of the columns that have values on the real line, on a half-line or in a box, fitted to those of the training rows."""
    event = first.encoded_event(data.event)
    real, half, boxes = is_real_line(support, event), is_half_line(support, event), walls(support, event)
    outputs, mapped = first.outputs(data.event[-1]), (real | half) | torch.tensor([box is not None for box in boxes])
    places = [i for i, output in enumerate(outputs) if real.ndim and mapped[i] and not output.ready and not output.mark]
    rows = _training_rows(data, first)
    gaps = torch.cat([snapshot.train for snapshot in data.snapshots]).isnan()
    rows = torch.where(gaps[:, [output.source for output in outputs]], math.nan, rows)
    if keeps_tails:
        places = [i for i in places if not _is_heavy(rows[:, i])]
    units = units_of(data, first)
    log, cells = [bool(half[i]) for i in places], [units[i][0] / units[i][1] for i in places]
    return fit_normal_scores(rows, places, log, cells, [boxes[i] for i in places])


def _is_heavy(column: Tensor) -> bool:
    """Whether a column has a heavy tail, on any side."""
    present = column[~column.isnan()]
    tail = hill((present - present.median()).abs().numpy()) if len(present) else None
    return tail is not None and tail.heavy


def units_of(data: Data, first: Encoding) -> list[tuple[int, int]]:
    """The unit of the lattice of each encoded column, `(0, 1)` for none.

    Args:
        data: the data.
        first: the codecs so far.
    """
    units = [kind.unit for kind in or_numbers(data.types, data.event[-1])]
    return [units[each.source] if each.lattice else (0, 1) for each in first.outputs(data.event[-1])]


def _training_rows(data: Data, first: Encoding) -> Tensor:
    """Encoded training rows of all snapshots and all observations of paths, float64 `(rows, d)`."""
    parts = [first.encode_exactly(snapshot.train).flatten(0, -2) for snapshot in data.snapshots]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation of each column, which is 1 for a constant one."""
    return rows.mean(0), torch.where(rows.amin(0) == rows.amax(0), 1.0, 1 / rows.std(0))


def _offsets(data: Data, first: Encoding, support: Constraint, half: Tensor) -> Tensor:
    counts = count_refused(data, support, first)
    # If values outside the support cannot be attributed to columns, shift none: `fit_encoding` then rejects the data.
    event = first.encoded_event(data.event)
    troubled = (counts > 0) & half if counts.ndim else torch.zeros(event[-1:], dtype=torch.bool)
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
