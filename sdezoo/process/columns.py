"""What a process says of the columns of a table, and of the values in its support."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

_PILE, _FEWEST, _LEVELS, _TIMES, _NEXT, _ELSEWHERE = 0.03, 10, 10, 3, 5, 2


def piles_up(column: Tensor) -> bool:
    """Whether rows pile up at the least value of a column, as at a detection limit.

    At least 3 % of the rows, and ten, have exactly this value, three times as many as any of the next five values, and as any other but two
    elsewhere: it is not one of several favourites. There are more than ten different values.

    Args:
        column: values `(n,)`, without NaN.
    """
    found, counts = column.unique(return_counts=True)
    if len(found) <= _LEVELS:
        return False
    others = max(int(counts[1 : _NEXT + 1].max()), int(counts[1:].topk(_ELSEWHERE + 1).values[-1]))
    return int(counts[0]) >= max(_FEWEST, _PILE * len(column), _TIMES * others)


class ColumnFit(NamedTuple):
    """How well a process fits a column of a table."""

    preference: int
    """`--sde auto` takes the process of the highest preference: 1 for all numbers, 2 for a half-line, 3 for an interval, 4 for one
    with values on its walls."""
    reason: str
    """What the values are, a phrase such as `positive`."""
    spec: str
    """Spec string of the process."""


def count_outside(support: Constraint, x: Tensor) -> int:
    """Number of values of `x` that are not finite or not in `support`. If the support constrains whole rows: the number of rows."""
    inside, finite = support.check(x), torch.isfinite(x)
    if finite.ndim > inside.ndim:
        finite = finite.flatten(inside.ndim).all(-1)
    return int((~(inside & finite)).sum())


def positive_without_zero(support: Constraint, event: Sequence[int]) -> Tensor:
    """Which entries of the data are on a half-line of positive numbers without 0: bool, `event`; none if the support constrains whole rows.

    Args:
        support: support of the process.
        event: shape of a row of data.
    """
    half, zero, large = (support.check(torch.full((1, *event), value))[0] for value in (0.5, 0.0, 1e6))
    return half & large & ~zero if half.shape == tuple(event) else torch.zeros(tuple(event), dtype=torch.bool)


def walls(support: Constraint, event: Sequence[int]) -> list[tuple[float, float] | None]:
    """The two walls between which the values of each column lie, as far as the support states them; None: there are none.

    Args:
        support: support of the process.
        event: shape of a row of data.
    """
    ends = [getattr(support, name, math.nan) for name in ("lower_bound", "upper_bound")]
    low, high = (torch.as_tensor(end, dtype=torch.float64).expand(event[-1]).tolist() for end in ends)
    return [(a, b) if math.isfinite(a) and math.isfinite(b) else None for a, b in zip(low, high, strict=True)]


def admits(support: Constraint, value: float, event: Sequence[int]) -> Tensor:
    """Whether the support admits a value: `(d,)` for each column, 0-dim if it checks whole rows.

    Args:
        support: support of the process.
        value: the value, in every entry of a row.
        event: shape of a row of data.
    """
    found = support.check(torch.full((1, *event), value))[0]
    return found.flatten(0, -2).all(0) if found.ndim > 1 else found


def is_real_line(support: Constraint, event: Sequence[int]) -> Tensor:
    """Whether the support admits all numbers, in the form of `admits`.

    Args:
        support: support of the process.
        event: shape of a row of data.
    """
    return torch.stack([admits(support, value, event) for value in (-1e6 - 0.5, -1.0, 0.0, 0.5, 1.0, 1e6 + 0.5)]).all(0)


def is_half_line(support: Constraint, event: Sequence[int]) -> Tensor:
    """Whether the support admits large numbers and no negative ones, in the form of `admits`.

    Args:
        support: support of the process.
        event: shape of a row of data.
    """
    return admits(support, 1e6 + 0.5, event) & ~admits(support, -1.0, event)


def wants_shares(support: Constraint, event: Sequence[int]) -> bool:
    """Whether the support admits rows that sum to 1 alone.

    Args:
        support: support of the process.
        event: shape of a row of data.
    """
    equal = 1 / event[-1]
    return bool(admits(support, equal, event).all()) and not any(admits(support, share * equal, event).any() for share in (0.5, 2.0))
