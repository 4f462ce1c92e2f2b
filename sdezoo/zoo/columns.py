"""The process of each column of a table, `--sde auto`, and what users say of columns, `--column`.

Every installed process may offer itself for a column (`Process.column_fit`). The one with the highest preference is taken; among equals,
one that is named first in alphabetical order. If all columns get the same process, it is used as it is, else a product of processes.
Constant columns need none: the encoding restores them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise, permutations

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.codec import Codec, DifferenceCodec, ShareCodec
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.data.validation import column_name
from sdezoo.errors import DataError, ParameterError, PluginError
from sdezoo.process.columns import ColumnFit
from sdezoo.process.process import Process
from sdezoo.zoo.composition import defaults, preferred
from sdezoo.zoo.registry import SDES
from sdezoo.zoo.spec import split, suggestion

AUTO = "auto"
"""The setting that leaves the process to the data."""
_DROP = "drop"
_PLAIN = re.compile(r"[^\[\]();,=<>+\s][^\[\]();,=<>+]*")
_LISTED = 20
_NEARLY = 1e-6
_SEARCHED, _ENOUGH, _BROKEN, _GROUP, _OFFERED = 30, 50, 0.02, 3, 3
"""At most 30 columns of 50 rows or more are searched for what holds between them. An order is offered if rows of other columns would break
it in 2 % of cases, a sum of three columns or more; three offers at most."""
_FORMS = "Write COLUMN=PROCESS, COLUMN=drop, LOW<=HIGH or A+B+C=TOTAL."


@dataclass(frozen=True)
class ColumnOptions:
    """What a user says of columns.

    Args:
        processes: spec strings of processes, by the names of their columns.
        dropped: names of the columns to leave out.
        chains: names of columns of which each is at most the next, in every row.
        groups: names of columns that sum to a constant, with the constant.
    """

    processes: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    chains: tuple[tuple[str, ...], ...] = ()
    groups: tuple[tuple[tuple[str, ...], float], ...] = ()

    @classmethod
    def parse(cls, text: str | None) -> ColumnOptions:
        """Parse the setting `column`, such as `rain=zero-inflated,id=drop,low<=high,sand+silt+clay=100`.

        Args:
            text: the setting; None: nothing is said.

        Raises:
            ParameterError: if it is malformed, or names a column twice.
        """
        processes: dict[str, str] = {}
        chains, groups = [], []
        for item in split(text) if text else []:
            if "<=" in item:
                chains.append(tuple(name.strip() for name in item.split("<=")))
                continue
            name, equals, spec = (part.strip() for part in item.partition("="))
            if not (name and equals and spec):
                raise ParameterError(f"column={item.strip()} is not of a form that is known.", _FORMS)
            if "+" in name and _is_number(spec):
                groups.append((tuple(part.strip() for part in name.split("+")), float(spec)))
                continue
            if name in processes:
                raise ParameterError(f"The setting column names '{name}' twice.", "Name it once.")
            processes[name] = spec[1:-1] if spec.startswith("(") and spec.endswith(")") else spec
        dropped = tuple(name for name, spec in processes.items() if spec == _DROP)
        processes = {name: spec for name, spec in processes.items() if spec != _DROP}
        found = cls(processes, dropped, tuple(chains), tuple(groups))
        bound = [name for names in (*found.chains, *(names for names, _ in found.groups)) for name in names]
        for name in bound:
            if bound.count(name) > 1 or name in dropped or not name:
                raise ParameterError(f"The setting column names '{name}' twice.", "Put it in one chain or one group.")
        return found

    def check(self, data: Data) -> None:
        """Check that the columns exist.

        Args:
            data: the data, before columns are left out.

        Raises:
            DataError: if one does not, or all are left out.
        """
        names = column_names(data) if data.kind in ("table", "points") else []
        bound = (name for each in (*self.chains, *(group for group, _ in self.groups)) for name in each)
        for name in (*self.processes, *self.dropped, *bound):
            if name not in names:
                raise DataError(f"There is no column '{name}'.", suggestion(name, names) if names else "Leave out --column.")
        if names and len(self.dropped) == len(names):
            raise DataError("Every column is left out.", "Keep one.")

    def apply(self, data: Data) -> Data:
        """The data without the columns that are left out.

        Args:
            data: the data; columns that it does not have are not missed.
        """
        if not self.dropped:
            return data
        return data.select([i for i, name in enumerate(column_names(data)) if name not in self.dropped])

    def codecs(self, data: Data) -> tuple[Codec, ...]:
        """Build the codecs that keep the order of chains and the sums of groups.

        Args:
            data: the data, without the columns that are left out.

        Raises:
            DataError: if rows break the order or the sum.
        """
        names = column_names(data)
        made: list[Codec] = []

        def places(group: Sequence[str]) -> list[int]:
            """Where the columns are once the codecs so far have been applied."""
            sources = Encoding(tuple(made)).sources(len(names))
            return [sources.index(names.index(name)) for name in group]

        for chain in self.chains:
            _check_order(data, chain)
            at = places(chain)
            made.append(DifferenceCodec(tuple(sorted(at)), tuple(sorted(at).index(place) for place in at)))
        for group, total in self.groups:
            _check_sum(data, group, total)
            made.append(ShareCodec(tuple(sorted(places(group))), total))
        return tuple(made)


def _check_order(data: Data, chain: Sequence[str]) -> None:
    names = column_names(data)
    for low, high in pairwise(chain):
        i, j = names.index(low), names.index(high)
        broken = sum(int((block[:, i] > block[:, j]).sum()) for block in data.blocks())
        if broken:
            raise DataError(f"'{low}' is above '{high}' in {broken} rows.", f"Omit '{low}<={high}', or correct the rows.")


def _check_sum(data: Data, group: Sequence[str], total: float) -> None:
    index = [column_names(data).index(name) for name in group]
    whole = [name for name, i in zip(group, index, strict=True) if data.types and np.dtype(data.types[i]).kind in "iu"]
    if whole:
        raise DataError(
            f"'{whole[0]}' holds integers, which do not keep the sum {total:g} once they are rounded.",
            "Write the column with decimals, or omit the group.",
        )
    rows = torch.cat([block[:, index].double() for block in data.blocks()])
    sums, negative = rows.sum(1), int((rows < 0).sum())
    if negative or total <= 0:
        raise DataError(f"The group {'+'.join(group)} has {negative} negative values.", "Correct the rows, or omit the group.")
    if float((sums - total).abs().max()) > _NEARLY * total:
        raise DataError(
            f"The group {'+'.join(group)} sums to {float(sums.min()):.9g} to {float(sums.max()):.9g}, not {total:g}.",
            "Correct the rows, or omit the group.",
        )


@dataclass(frozen=True)
class Choice:
    """A process for data.

    Args:
        spec: its spec string; columns are given by name.
        reasons: a phrase for each group of columns.
    """

    spec: str
    reasons: tuple[str, ...]


def column_names(data: Data) -> list[str]:
    """The names of the columns, or their numbers if they have none.

    Args:
        data: a table or points.
    """
    return list(data.columns) or [str(i) for i in range(data.event[-1])]


def choose_process(data: Data, encoding: Encoding, options: ColumnOptions) -> Choice:
    """Choose a process from the data.

    Args:
        data: the data, without the columns that are left out.
        encoding: codecs that are applied before the process is known, such as those of constant columns.
        options: what the user says of columns.

    Raises:
        DataError: if the data cannot be used, or a process refuses the values of a column that the user gives it.
        PluginError: if no process fits a column.
    """
    if data.kind not in ("table", "points"):
        return Choice(preferred(defaults(SDES), "processes", data.kind), ())
    names = column_names(data)
    groups: dict[str, list[tuple[str, str]]] = {}
    shares = {name: group for group, _ in options.groups for name in group}
    for i, column in zip(encoding.sources(len(names)), _columns(data, encoding), strict=True):
        if names[i] in shares:
            groups.setdefault(_simplex(data, shares[names[i]]), []).append((names[i], f"shares of {'+'.join(shares[names[i]])}"))
            continue
        found = _given(options.processes[names[i]], names[i], column) if names[i] in options.processes else _fit(names[i], column)
        groups.setdefault(found.spec, []).append((names[i], found.reason))
    texts = {name: name if _PLAIN.fullmatch(name) and names.count(name) == 1 else str(i) for i, name in enumerate(names)}
    reasons = [
        f"{spec} for {_listed([name for name, _ in group])}: {_common(reason for _, reason in group)}" for spec, group in groups.items()
    ]
    left = [name for i, name in enumerate(names) if i not in encoding.sources(len(names))]
    reasons += [f"no process for {_listed(left)}: constant, restored exactly"] if left else []
    reasons += [f"in every row {found}: keep it with --column '{found}'" for found in _held(data, names, options)]
    if len(groups) == 1:
        return Choice(next(iter(groups)), tuple(reasons))
    parts = (f"{f'({spec})' if ',' in spec else spec}[{';'.join(texts[name] for name, _ in group)}]" for spec, group in groups.items())
    return Choice(f"product:{','.join(parts)}", tuple(reasons))


def _columns(data: Data, encoding: Encoding) -> Iterator[Tensor]:
    """The values of each encoded column, float64; of rows on disk those in memory, and the extremes."""
    rows = torch.cat([encoding.encode_exactly(part) for part in (data.train, data.test) if len(part)])
    if data.stored is not None:
        rows = torch.cat([rows, encoding.encode_exactly(torch.stack(data.bounds))])
    yield from rows.T


def _fit(name: str, column: Tensor) -> ColumnFit:
    offers = [offer for offer in (cls.column_fit(column) for cls in _classes()) if offer]
    if not offers:
        raise PluginError(f"No installed process fits the column '{name}'.", f"Name one: --column '{name}=PROCESS'.")
    return max(offers, key=lambda offer: offer.preference)


def _given(spec: str, name: str, column: Tensor) -> ColumnFit:
    """The process that the user gives a column, unless it refuses values."""
    sde = SDES.build(spec)
    refused = int((~sde.support.check(column.unsqueeze(1))).sum())
    if refused and not sde.support.event_dim:
        fit = _fit(name, column)
        raise DataError(
            f"'{spec}' refuses {refused} of {len(column)} values of the column '{name}'.",
            f"Give it {fit.spec}, which fits: --column '{name}={fit.spec}'.",
        )
    return ColumnFit(0, "as given", spec)


def _held(data: Data, names: Sequence[str], options: ColumnOptions) -> list[str]:
    """What holds between columns in every row, as `--column` takes it: orders that chance would break, and sums of neighbours."""
    bound = {name for each in (*options.chains, *(group for group, _ in options.groups)) for name in each}
    free = [i for i, name in enumerate(names) if name not in bound and _PLAIN.fullmatch(name)]
    rows = torch.cat([data.train, data.test]).double()
    if not 2 <= len(free) <= _SEARCHED or len(rows) < _ENOUGH or not data.columns:
        return []
    moved = rows.roll(len(rows) // 2, 0)
    found = []
    for i, j in permutations(free, 2):
        holds = bool((rows[:, i] <= rows[:, j]).all())
        if holds and float((moved[:, i] > rows[:, j]).double().mean()) >= _BROKEN:
            found.append(f"{names[i]}<={names[j]}")
    for first, last in combinations(range(len(free) + 1), 2):
        group = free[first:last]
        whole = any(data.types and np.dtype(data.types[i]).kind in "iu" for i in group)
        if len(group) < _GROUP or whole or (rows[:, group] < 0).any():
            continue
        sums = rows[:, group].sum(1)
        total = float(f"{float(sums.mean()):.6g}")
        if total > 0 and float((sums - total).abs().max()) <= _NEARLY * total:
            found.append(f"{'+'.join(names[i] for i in group)}={total:g}")
    return found[:_OFFERED]


def _simplex(data: Data, group: Sequence[str]) -> str:
    """Spec string of the process of columns that sum to a constant."""
    index = [column_names(data).index(name) for name in group]
    rows = torch.cat([data.train[:, index], data.test[:, index]]).double()
    rows = rows / rows.sum(1, keepdim=True)
    fits = [cls.shares_fit(rows) for cls in _classes()]
    offers = [fit for fit in fits if fit]
    if not offers:
        raise PluginError(f"No installed process fits the group {'+'.join(group)}.", "Leave the group out.")
    return max(offers, key=lambda offer: offer.preference).spec


def _classes() -> Iterator[type[Process]]:
    for name in SDES.names():
        try:
            yield SDES.load(name)
        except PluginError:
            continue


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _listed(names: Sequence[str]) -> str:
    shown = [column_name(0, [name]) for name in names[:_LISTED]]
    return ", ".join(shown) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _common(reasons: Iterator[str]) -> str:
    found = list(dict.fromkeys(reasons))
    return "; ".join(found[:3]) + ("; …" if len(found) > 3 else "")
