"""Preprocessing: fit the encoding from the user's units to the support of a process.

`fit_encoding` chooses an affine encoding `x = scale · raw + shift` that maps the data into the support of a process. Data that do not fit
are rejected; nothing is clipped or dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.data.validation import check, column_name
from sdezoo.errors import DataError
from sdezoo.zoo.composition import defaults, support_in_words
from sdezoo.zoo.registry import SDES

Shift = Literal["auto", "none"] | float | None

_ROWS = 4096  # rows checked at a time, to keep float64 copies small
_NAMED = 5  # columns that a message names; the others are counted


def fit_encoding(data: Data, support: Constraint, shift: Shift = None) -> Encoding:
    """Fit the encoding that maps `data` into `support`.

    The support is probed by calling its `check`, so any constraint works. By default (`shift=None`):

    - Real line (all values admitted): images become 2 · raw − 1, which maps [0, 1] to [−1, 1]. Tables, points and paths are standardized
      per column, with mean and standard deviation over the training rows of all snapshots and all observations of paths. A constant
      column is only centred.
    - Half-line (unbounded above, no negative values): if the support excludes 0, images become raw + 1, which maps [0, 1] to [1, 2].
      Otherwise data are unchanged, as are tables, points and paths in any case.
    - Any other support, such as the unit interval: data are unchanged.

    Args:
        data: training and held-out rows of all snapshots; all must fit.
        support: support of the process.
        shift: `"auto"` differs from the default only on a half-line: each column with values outside the support gets the offset
            −min + max(½ (next − min), (median − min) / 1000), where min, next and median are the column's smallest, second smallest
            distinct, and median value over all rows. So zeros among positive values become half of the smallest positive value, as is
            usual before a logarithm, and a near-tie at the minimum puts no value more than ln 1000 below the median. A column with only
            one distinct value is shifted to 1. `"none"` is the identity on any support. A number is added to the raw values.

    Raises:
        DataError: if there are NaN or infinite values (count, first position), wrong shapes, fewer than two rows, images outside [0, 1],
            or values outside the support (how many, in which columns).
    """
    check(data)
    encoding = replace(_choose(data, support, shift), types=data.types)
    refused = _refused(data, support, encoding)
    if refused.any():
        raise _refusal(data, support, shift, refused)
    return encoding


def _choose(data: Data, support: Constraint, shift: Shift) -> Encoding:
    image, one = data.kind == "image", torch.tensor(1.0)
    if shift == "none":
        return Encoding.affine(one, torch.tensor(0.0))
    if shift is not None and shift != "auto":
        return Encoding.affine(one, torch.tensor(float(shift), dtype=torch.float64))
    if _is_real_line(support, data.event):
        return Encoding.affine(torch.tensor(2.0), torch.tensor(-1.0)) if image else _standardised(_training_rows(data))
    if _is_half_line(support, data.event):
        if image and not _admits(support, 0.0, data.event):
            return Encoding.affine(one, torch.tensor(1.0))
        if shift == "auto" and not image:
            return Encoding.affine(one, _offsets(data, support))
    return Encoding.affine(one, torch.tensor(0.0))


def _training_rows(data: Data) -> Tensor:
    """Training rows of all snapshots and all observations of paths, float64 `(rows, d)`."""
    first, *later = (snapshot.train.flatten(0, -2) for snapshot in data.snapshots)
    return (torch.cat([first, *later]) if later else first).double()


def _standardised(train: Tensor) -> Encoding:
    mean, sd = train.mean(0), train.std(0)
    scale = torch.where(train.amin(0) == train.amax(0), 1.0, 1 / sd)
    return Encoding.affine(scale, -mean * scale)


def _offsets(data: Data, support: Constraint) -> Tensor:
    refused = _refused(data, support, Encoding.affine(torch.tensor(1.0), torch.tensor(0.0)))
    rows = torch.cat([part.flatten(0, -2) for snapshot in data.snapshots for part in (snapshot.train, snapshot.test)]).double()
    # If values outside the support cannot be attributed to columns, shift none: `fit_encoding` then rejects the data.
    troubled = refused > 0 if refused.ndim else torch.zeros(data.event[-1:], dtype=torch.bool)
    return torch.stack(
        [
            _offset(column, low) if bad else torch.zeros((), dtype=torch.float64)
            for column, low, bad in zip(rows.T, data.bounds[0].double(), troubled, strict=True)
        ]
    )


def _offset(column: Tensor, low: Tensor) -> Tensor:
    """Offset of one column. `low` is its smallest value over all rows; `column` may hold only a part of them."""
    above = column[column > low]
    if not len(above):
        return 1 - low
    smallest = torch.finfo(torch.float32).tiny  # half of a subnormal number is zero in float32
    return torch.maximum((above.min() - low) / 2, (column.median() - low) / 1000).clamp_min(smallest) - low


def _admits(support: Constraint, value: float, event: tuple[int, ...]) -> bool:
    return bool(support.check(torch.full((1, *event), value)).all())


def _is_real_line(support: Constraint, event: tuple[int, ...]) -> bool:
    return all(_admits(support, value, event) for value in (-1e6 - 0.5, -1.0, 0.0, 0.5, 1.0, 1e6 + 0.5))


def _is_half_line(support: Constraint, event: tuple[int, ...]) -> bool:
    return _admits(support, 1e6 + 0.5, event) and not _admits(support, -1.0, event)


def _wants_shares(support: Constraint, event: tuple[int, ...]) -> bool:
    equal = 1 / event[-1]
    return _admits(support, equal, event) and not any(_admits(support, share * equal, event) for share in (0.5, 2.0))


def _refused(data: Data, support: Constraint, encoding: Encoding) -> Tensor:
    """Number of values outside the support, per column `(d,)`; 0-dim if the support checks whole rows, and for images."""
    total = torch.tensor(0)
    for rows in (part for block in data.blocks() for part in block.split(_ROWS)):
        refused = ~support.check(encoding.encode(rows))
        by_column = data.kind != "image" and refused.shape == rows.shape
        total = total + (refused.flatten(0, -2).sum(0) if by_column else refused.sum())
    return total


def _refusal(data: Data, support: Constraint, shift: Shift, refused: Tensor) -> DataError:
    count, half_line = int(refused.sum()), _is_half_line(support, data.event)
    subject = f"{count} {'value' if refused.ndim or data.kind == 'image' else 'row'}{'s' if count > 1 else ''}"
    if half_line and not _admits(support, 1.0, data.event):
        predicate = f"below the support of the SDE, {support_in_words(support)}"
    elif half_line:
        predicate = "negative" if _admits(support, 0.0, data.event) else "zero or negative"
    else:
        predicate = f"outside the support of the SDE, {support_in_words(support)}"
    after = f" after the shift by {shift}" if isinstance(shift, float | int) else ""
    where = f", in {_columns(refused, data.columns)}" if refused.ndim else ""
    return DataError(f"{subject} {'are' if count > 1 else 'is'} {predicate}{after}{where}.", _remedy(data, support, half_line, shift))


def _remedy(data: Data, support: Constraint, half_line: bool, shift: Shift) -> str:
    other = _others(data) if half_line else "another SDE"
    if half_line and data.kind == "image" and shift not in (None, "auto"):
        return f"Omit --shift (images then get +1), or choose {other}."
    if half_line and data.kind != "image" and shift != "auto":
        return f"Give --shift auto (one recorded offset for each such column), or choose {other}."
    if _wants_shares(support, data.event):
        return "Divide each row by its sum first (entries must be non-negative and not all zero), or choose another SDE."
    return f"Rescale the data into the support first, or choose {other}."


def _others(data: Data) -> str:
    """Alternatives to suggest: if zeros are the only problem, the processes that allow them."""
    if float(data.bounds[0].min()) < 0:
        return "another SDE"
    event = data.event
    takers = [name for name, sde in defaults(SDES) if _is_half_line(sde.support, event) and _admits(sde.support, 0.0, event)]
    return f"an SDE that allows zeros, such as {' or '.join(takers)}" if takers else "another SDE"


def _columns(counts: Tensor, names: Sequence[str]) -> str:
    troubled = [int(i) for i in counts.nonzero()]
    named = [f"{column_name(i, names)} ({int(counts[i])})" for i in troubled[:_NAMED]]
    more = f" and {len(troubled) - _NAMED} more" if len(troubled) > _NAMED else ""
    return f"column{'s' if len(troubled) > 1 else ''} {', '.join(named)}{more}"
