"""Values outside the support of a process: how many, where, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from sdezoo.data.column_types import offset_of
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.data.validation import column_name, find_rows, located
from sdezoo.errors import DataError, shortened
from sdezoo.process.columns import admits, is_half_line, wants_shares
from sdezoo.zoo.composition import defaults, support_in_words
from sdezoo.zoo.registry import SDES

Shift = Literal["auto", "none"] | float | None
_ROWS = 4096  # rows checked at a time, to keep float64 copies small


def count_refused(data: Data, support: Constraint, encoding: Encoding) -> Tensor:
    """Count the values outside the support of a process.

    Args:
        data: training and held-out rows.
        support: support of the process.
        encoding: maps the data into the support, or should.

    Returns:
        Their number, int64, per encoded column `(d,)`; 0-dim if the support checks whole rows, and for images.
    """
    total = torch.tensor(0)
    for rows in (part for block in data.blocks() for part in block.split(_ROWS)):
        encoded = encoding.encode(rows)
        refused = ~support.check(encoded)
        by_column = data.kind != "image" and refused.shape == encoded.shape
        total = total + (refused.flatten(0, -2).sum(0) if by_column else refused.sum())
    return total


def refusal(data: Data, support: Constraint, shift: Shift, counts: Tensor, encoding: Encoding) -> DataError:
    """The error for values outside the support, to be raised by the caller.

    Args:
        data: training and held-out rows.
        support: support of the process.
        shift: the shift that the user gave.
        counts: the number of these values, see `count_refused`; at least one.
        encoding: what was to map the data into the support.
    """
    event, columns = encoding.encoded_event(data.event), counts.nonzero().flatten().tolist() if counts.ndim else []
    troubled = counts > 0 if counts.ndim else torch.ones(event[-1], dtype=torch.bool)
    half_line = bool(is_half_line(support, event).expand(event[-1])[troubled].all())
    admits_one, admits_zero = (bool(admits(support, v, event).expand(event[-1])[troubled].all()) for v in (1.0, 0.0))
    count = int(counts.sum())
    subject = f"{count} {'value' if counts.ndim or data.kind == 'image' else 'row'}{'s' if count > 1 else ''}"
    if half_line and not admits_one:
        predicate = f"below the support of the SDE, {support_in_words(support)}"
    elif half_line:
        predicate = "negative" if admits_zero else "zero or negative"
    else:
        predicate = f"outside the support of the SDE, {support_in_words(support)}"
    predicate += f" after the shift by {shift}" if isinstance(shift, float | int) else ""
    sources = encoding.sources(data.event[-1])
    where = f", in {_columns(counts, data.columns, sources)}" if columns else ""
    if half_line and columns and len(data.event) == 1 and not any(map(offset_of, data.types)):
        where += f", down to {float(data.bounds[0][[sources[i] for i in columns]].min()):g}"
    if data.kind in ("table", "points") and (rows := find_rows(data, _outside(support, encoding))):
        where += f", {located(count, rows.first)}"
    return DataError(f"{subject} {'are' if count > 1 else 'is'} {predicate}{where}.", _remedy(data, event, support, half_line, shift))


def _outside(support: Constraint, encoding: Encoding) -> Callable[[Tensor], Tensor]:
    """Tells which rows, `(n,)`, have values outside the support."""
    return lambda rows: (~support.check(encoding.encode(rows))).reshape(len(rows), -1).any(1)


def _remedy(data: Data, event: tuple[int, ...], support: Constraint, half_line: bool, shift: Shift) -> str:
    other = _others(data) if half_line else "another SDE"
    if half_line and data.kind == "image" and shift not in (None, "auto"):
        return f"Omit --shift (images then get +1), or choose {other}."
    if data.kind in ("table", "points") and shift is None and not data.later:
        offsets = ", or give --shift auto (one recorded offset for each such column)" if half_line else ""
        if not wants_shares(support, event):
            return f"Omit --sde (each column then gets a process that fits), choose {other}{offsets}."
    if half_line and data.kind != "image" and shift != "auto":
        return f"Give --shift auto (one recorded offset for each such column), or choose {other}."
    if wants_shares(support, event):
        return "Divide each row by its sum first (entries must be non-negative and not all zero), or choose another SDE."
    return f"Rescale the data into the support first, or choose {other}."


def _others(data: Data) -> str:
    """Alternatives to suggest: if zeros are the only problem, the processes that allow them."""
    if data.later:
        return "another bridge"
    if float(data.bounds[0].min()) < 0:
        return "another SDE"
    allowing = ((name, is_half_line(sde.support, data.event) & admits(sde.support, 0.0, data.event)) for name, sde in defaults(SDES))
    takers = [name for name, allows in allowing if allows.all()]
    return f"an SDE that allows zeros, such as {' or '.join(takers)}" if takers else "another SDE"


def _columns(counts: Tensor, names: Sequence[str], sources: Sequence[int]) -> str:
    named = [f"{column_name(sources[i], names)} ({int(counts[i])})" for i in counts.nonzero().flatten().tolist()]
    return f"column{'s' if len(named) > 1 else ''} {shortened(named)}"
