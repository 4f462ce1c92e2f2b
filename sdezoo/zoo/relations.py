"""What holds between columns in every row of a table: sums and orders that the user may keep, see `--column`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations, permutations

import torch
from torch import Tensor

from sdezoo.data.column_types import CategoryType, ColumnType, NumberType, TimeType, offset_of, or_numbers
from sdezoo.data.dataset import Data
from sdezoo.zoo.column_notation import ordered, quoted, summed
from sdezoo.zoo.column_options import NEARLY

_SEARCHED, _ENOUGH, _BROKEN, _GROUP, _OFFERED = 30, 50, 0.02, 3, 3
"""At most 30 columns of 50 rows or more are searched for what holds between them. An order is offered if rows of other columns would break
it in 2 % of cases, a sum of three columns or more; three offers at most."""
_FIRST = 1024  # rows that rule out most of what does not hold


def relations(data: Data, apart: Collection[str] = ()) -> list[str]:
    """Find what holds between columns in every row: sums to another column, sums to a constant, orders that chance would break.

    Args:
        data: a table; others have no relations.
        apart: names of columns that are not searched.

    Returns:
        At most three relations, as the setting `column` says them; no column is in two.
    """
    names, kinds = data.columns, or_numbers(data.types, len(data.columns))
    if not names:
        return []
    origins = [kind.offset / kind.step if isinstance(kind, TimeType) else offset_of(kind) for kind in kinds]
    rows = torch.cat([data.train, data.test]).double() + torch.tensor(origins, dtype=torch.float64)
    whole = [not isinstance(kind, CategoryType) and not rows[:, i].isnan().any() for i, kind in enumerate(kinds)]
    free = [i for i, name in enumerate(names) if whole[i] and name not in apart]
    if not 2 <= len(free) <= _SEARCHED or len(rows) < _ENOUGH:
        return []
    found: list[str] = []
    numbers = [isinstance(kind, NumberType) for kind in kinds]
    for group, place in _totals(rows, [i for i in free if numbers[i]]):
        found.append(summed([names[i] for i in group], quoted(names[place])))
        free = [i for i in free if i not in (*group, place)]
    for group, total in _constants(rows, free, numbers):
        found.append(summed([names[i] for i in group], f"{total:g}"))
        free = [i for i in free if i not in group]
    found += [ordered([names[i] for i in chain]) for chain in _chains(list(_orders(rows, free, kinds)))]
    return found[:_OFFERED]


def _totals(rows: Tensor, free: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Columns that sum to another one, and this: two columns or three neighbours or more, none of which is next to nothing."""
    left = [*free]
    runs = [list(free[first:last]) for first, last in combinations(range(len(free) + 1), 2) if last - first >= _GROUP]
    for group in (*map(list, combinations(free, 2)), *runs):
        if not set(group) <= {*left}:
            continue
        likely = [i for i in left if i not in group]
        for part in (rows[:_FIRST], rows):
            sums, values = part[:, group].sum(1, keepdim=True), part[:, likely]
            scales = values.abs().maximum(part[:, group].abs().amax(1, keepdim=True))
            holds = ((sums - values).abs() <= NEARLY * scales).all(0)
            likely = [i for i, each in zip(likely, holds.tolist(), strict=True) if each]
        for place in likely[:1]:
            least = 4 * NEARLY * float(rows[:, [*group, place]].abs().max())
            if all(float((rows[:, i].abs() > least).double().mean()) >= _BROKEN for i in group):
                left = [i for i in left if i not in (*group, place)]
                yield group, place


def _orders(rows: Tensor, free: Sequence[int], kinds: Sequence[ColumnType]) -> Iterator[tuple[int, int]]:
    """Pairs of columns of which the first is at most the second."""
    moved = rows.roll(len(rows) // 2, 0)
    for i, j in permutations(free, 2):
        if _measure(kinds[i]) != _measure(kinds[j]) or (i > j and bool((rows[:, i] == rows[:, j]).all())):
            continue  # equal columns: offered the other way round
        holds = bool((rows[:_FIRST, i] <= rows[:_FIRST, j]).all()) and bool((rows[:, i] <= rows[:, j]).all())
        if holds and float((moved[:, i] > rows[:, j]).double().mean()) >= _BROKEN:
            yield i, j


def _measure(kind: ColumnType) -> object:
    """What the values of a column have in common with those that they can be compared with."""
    return (kind.arrow, kind.step) if isinstance(kind, TimeType) else kind.kind


def _chains(orders: list[tuple[int, int]]) -> Iterator[list[int]]:
    """Chains of columns of which each is at most the next, as long as may be, no column in two: they can be kept together."""
    while orders:
        longest: dict[int, list[int]] = {}  # the longest chain from each column on
        for _ in range(len({i for i, _ in orders})):
            for i, j in orders:
                longest[i] = max(longest.get(i, []), [i, *longest.get(j, [j])], key=len)
        yield (chain := max(longest.values(), key=len))
        orders = [(i, j) for i, j in orders if not {i, j} & {*chain}]


def _constants(rows: Tensor, free: Sequence[int], numbers: Sequence[bool]) -> Iterator[tuple[list[int], float]]:
    """Neighbours, three or more, that are not negative and sum to a constant, and this."""
    used: set[int] = set()
    for first, last in combinations(range(len(free) + 1), 2):
        group = [i for i in free[first:last] if numbers[i]]
        if len(group) < _GROUP or used & {*group} or (rows[:_FIRST, group] < 0).any():
            continue
        some = rows[:_FIRST, group].sum(1)
        if float(some.max() - some.min()) > 2 * NEARLY * float(some.max()):
            continue
        sums = rows[:, group].sum(1)
        total = float(f"{float(sums.mean()):.6g}")
        if total > 0 and float((sums - total).abs().max()) <= NEARLY * total and not (rows[:, group] < 0).any():
            used |= {*group}
            yield group, total
