"""What users say of the columns of a table, `--column`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from sdezoo.data.codecs.codec import AffineCodec, Codec
from sdezoo.data.codecs.relations import DifferenceCodec, ShareCodec, SumCodec, Units
from sdezoo.data.codecs.sign import SignCodec
from sdezoo.data.column_types import CategoryType, NumberType, TimeType, offset_of, or_numbers
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.data.validation import find_rows
from sdezoo.errors import DataError, ParameterError
from sdezoo.zoo.column_notation import cut, in_quotes, option, ordered, quoted, setting, summed, unquoted
from sdezoo.zoo.spec import split, suggestion

NEARLY = 1e-6
"""Relative difference up to which a sum counts as constant."""
NEGATIVE = "negative"
"""What `--column` says of a column without positive values."""
DROP, CATEGORY = "drop", "category"
"""What `--column` says of columns to leave out, and of categories."""
FLOOR, CEILING = "floor", "ceiling"
"""What `--column` says of columns that are counted up from their least value, or down from their greatest one."""
_ROLES = {DROP: "dropped", CATEGORY: "categories", NEGATIVE: "negative", FLOOR: "floors", CEILING: "ceilings"}
"""What `--column` says of columns, and the names of the fields of `ColumnOptions` that keep it."""
_FORMS = (
    "Write COLUMN=PROCESS, COLUMN=category, COLUMN=negative, COLUMN=floor, COLUMN=ceiling, COLUMN=drop, LOW<=HIGH, A+B+C=TOTAL or A+B=C. "
    'A name with commas or other marks stands in quotation marks: "A, B"=drop.'
)


@dataclass(frozen=True)
class ColumnOptions:
    """What a user says of columns.

    Args:
        processes: spec strings of processes, by the names of their columns.
        dropped: names of the columns to leave out.
        chains: names of columns of which each is at most the next, in every row.
        groups: names of columns that sum to a constant, with the constant.
        sums: names of columns that sum to another column, with the name of this.
        categories: names of the columns whose values are categories.
        negative: names of the columns without positive values, which processes get with the opposite sign.
        floors: names of the columns that processes get as `x − low`, with the least value `low`: no sample is below.
        ceilings: names of the columns that processes get as `high − x`, with the greatest value `high`: no sample is above.
    """

    processes: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    chains: tuple[tuple[str, ...], ...] = ()
    groups: tuple[tuple[tuple[str, ...], float], ...] = ()
    sums: tuple[tuple[tuple[str, ...], str], ...] = ()
    categories: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    floors: tuple[str, ...] = ()
    ceilings: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str | None) -> ColumnOptions:
        """Parse the setting `column`, such as `rain=zero-inflated,id=drop,low<=high,sand+silt+clay=100,net+tax=price`.

        A name with marks of this notation stands in quotation marks, `"weight, kg"=gbm`; two of them stand for one.

        Args:
            text: the setting; None: nothing is said.

        Raises:
            ParameterError: if it is malformed, or names a column twice.
        """
        processes: dict[str, str] = {}
        chains, groups, sums = [], [], []
        for item in split(text) if text else []:
            if len(chain := unquoted(cut(item, "<="))) > 1:
                chains.append(chain)
                continue
            name, spec = cut(item, "=")[0], "=".join(cut(item, "=")[1:])
            if len(group := unquoted(cut(name, "+"))) > 1 and spec:
                if _is_number(spec):
                    groups.append((group, float(spec)))
                else:
                    sums.append((group, *unquoted([spec])))
                continue
            (name,) = unquoted([name])
            if not (name and spec):
                raise ParameterError(f"column={item.strip()} is not of a form that is known.", _FORMS)
            if name in processes:
                raise ParameterError(
                    f"The setting column names '{name}' twice.",
                    "Name it once, and put a process with commas into parentheses: COLUMN=(PROCESS).",
                )
            processes[name] = spec[1:-1] if spec.startswith("(") and spec.endswith(")") else spec
        roles = {role: tuple(name for name, spec in processes.items() if spec == role) for role in _ROLES}
        processes = {name: spec for name, spec in processes.items() if spec not in _ROLES}
        kept = {_ROLES[role]: names for role, names in roles.items()}
        found = cls(processes, chains=tuple(chains), groups=tuple(groups), sums=tuple(sums), **kept)
        for name in found.related:
            if found.related.count(name) > 1 or any(name in names for names in roles.values()) or not name:
                raise ParameterError(f"The setting column names '{name}' twice.", "Put it in one chain, one group or one sum.")
        return found

    @property
    def related(self) -> tuple[str, ...]:
        """The names of all columns in chains, groups and sums."""
        groups, sums = (group for group, _ in self.groups), ((*parts, total) for parts, total in self.sums)
        return tuple(name for names in (*self.chains, *groups, *sums) for name in names)

    @property
    def others(self) -> str | None:
        """All but the processes, as the setting `column` says it; None if there is nothing."""
        items = [setting(name, role) for role, kept in _ROLES.items() for name in getattr(self, kept)]
        items += [ordered(chain) for chain in self.chains]
        items += [summed(group, repr(total)) for group, total in self.groups]
        items += [summed(parts, quoted(total)) for parts, total in self.sums]
        return ",".join(items) or None

    def check(self, data: Data) -> None:
        """Check that the columns exist.

        Args:
            data: the data, before columns are left out.

        Raises:
            DataError: if one does not, or all are left out.
        """
        names = column_names(data) if data.kind in ("table", "points") else []
        for parts, total in self.sums:
            if total not in names and (whole := "+".join(parts)) in names:
                raise DataError(f"There is no column '{total}'.", f"Put the name into quotation marks: {option(setting(whole, total))}.")
        for name in (*self.processes, *(name for kept in _ROLES.values() for name in getattr(self, kept)), *self.related):
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
        """Build the codecs that keep the sign of negative columns, floors, ceilings, the order of chains, and sums.

        Args:
            data: the data, without the columns that are left out.

        Raises:
            DataError: if rows break the sign, the order or the sum, or a column with a floor or a ceiling does not hold numbers.
        """
        names = column_names(data)
        negative = [names.index(name) for name in self.negative]
        made: list[Codec] = [SignCodec(tuple(sorted(negative)))] if negative else []
        for name in self.negative:
            _check_negative(data, name)
        if self.floors or self.ceilings:
            made.append(_from_ends(data, self.floors, self.ceilings))
        origins = torch.zeros(len(names), dtype=torch.float64)
        for each in (*self.chains, *(group for group, _ in self.groups)):
            at = [names.index(name) for name in each]
            origins[at] = torch.tensor(shared_origin(data, each, from_zero=each not in self.chains), dtype=torch.float64)
        if origins.any():
            made.append(AffineCodec(torch.tensor(1.0), origins))

        def places(group: Sequence[str]) -> list[int]:
            """Where the columns are once the codecs so far have been applied."""
            sources = Encoding(tuple(made)).sources(len(names))
            return [sources.index(names.index(name)) for name in group]

        for chain in self.chains:
            _check_order(data, chain, origins)
            at = places(chain)
            units = _units(data, chain, at)
            torn = units if len(set(units)) > 1 else ()
            made.append(DifferenceCodec(tuple(sorted(at)), tuple(sorted(at).index(place) for place in at), torn))
        for group, total in self.groups:
            _check_sum(data, group, total, origins)
            at = places(group)
            least = dict(zip(at, _least(data, group, origins), strict=True))
            made.append(ShareCodec(tuple(sorted(at)), total, _units(data, group, at), tuple(least[place] > 0 for place in sorted(at))))
        for parts, total in self.sums:
            offset = _check_total(data, parts, total)
            at = places((*parts, total))
            made.append(SumCodec(tuple(sorted(at)), sorted(at).index(at[-1]), _units(data, (*parts, total), at), offset))
        return tuple(made)


def shared_origin(data: Data, group: Sequence[str], *, from_zero: bool = False) -> list[float]:
    """What to add to the codes of columns so that all count from where the first one does.

    Args:
        data: the data.
        group: names of columns.
        from_zero: whether all are to count from 0.

    Raises:
        DataError: if columns cannot be compared: texts, numbers and times, or times of different types or steps.
    """
    kinds = [or_numbers(data.types, data.event[-1])[column_names(data).index(name)] for name in group]
    times = [kind for kind in kinds if isinstance(kind, TimeType)]
    origins = [kind.offset if isinstance(kind, TimeType) else offset_of(kind) for kind in kinds]
    apart = [origin - (0 if from_zero else origins[0]) for origin in origins]
    shifts = [each / kind.step if isinstance(kind, TimeType) else each for each, kind in zip(apart, kinds, strict=True)]
    for name, kind, shift in zip(group, kinds, shifts, strict=True):
        alike = not times or (isinstance(kind, TimeType) and (kind.arrow, kind.step) == (times[0].arrow, times[0].step) and not from_zero)
        step, scale = kind.unit
        if isinstance(kind, CategoryType) or not alike or (step and shift * scale % step):
            raise DataError(
                f"The column '{name}' cannot be compared with {' and '.join(repr(other) for other in group if other != name)}.",
                "Give numbers, or times of one type and precision.",
            )
    return shifts


def _least(data: Data, group: Sequence[str], origins: Tensor) -> list[float]:
    """The smallest numbers of columns."""
    index = [column_names(data).index(name) for name in group]
    return (data.bounds[0].double() + origins)[index].tolist()


def _units(data: Data, group: Sequence[str], at: Sequence[int]) -> Units:
    """The lattices of columns, in the order of their places."""
    kinds = or_numbers(data.types, data.event[-1])
    units = [kinds[column_names(data).index(name)].unit for name in group]
    return tuple(unit for _, unit in sorted(zip(at, units, strict=True)))


def _from_ends(data: Data, floors: Sequence[str], ceilings: Sequence[str]) -> AffineCodec:
    """The codec of columns that are counted from an end, which becomes exactly 0."""
    names, kinds = column_names(data), or_numbers(data.types, data.event[-1])
    low, high = (end.double() for end in data.bounds)
    scale, shift = torch.ones(len(names), dtype=torch.float64), torch.zeros(len(names), dtype=torch.float64)
    for name in (*floors, *ceilings):
        i, role = names.index(name), FLOOR if name in floors else CEILING
        if not isinstance(kinds[i], NumberType):
            raise DataError(f"The column '{name}' does not hold numbers, so it has no {role}.", f"Omit {in_quotes(setting(name, role))}.")
        scale[i], shift[i] = (1, -low[i]) if role == FLOOR else (-1, high[i])
    return AffineCodec(scale, shift)


def _check_negative(data: Data, name: str) -> None:
    index = column_names(data).index(name)
    kind = or_numbers(data.types, data.event[-1])[index]
    positive = find_rows(data, lambda rows: rows[:, index] > 0)
    if positive or not isinstance(kind, NumberType) or kind.offset:
        what = f"has positive values in {positive}" if positive else "does not hold numbers that count from zero"
        raise DataError(f"The column '{name}' {what}, so its sign cannot be kept.", f"Omit {in_quotes(setting(name, NEGATIVE))}.")


def _check_order(data: Data, chain: Sequence[str], origins: Tensor) -> None:
    names = column_names(data)
    for low, high in pairwise(chain):
        i, j = names.index(low), names.index(high)
        if broken := find_rows(data, lambda rows, i=i, j=j: rows[:, i].double() + origins[i] > rows[:, j].double() + origins[j]):
            raise DataError(
                f"'{low}' is above '{high}' in {broken}.",
                f"Omit {in_quotes(ordered((low, high)))}, or correct the rows.",
            )


def _check_sum(data: Data, group: Sequence[str], total: float, origins: Tensor) -> None:
    index = [column_names(data).index(name) for name in group]

    def numbers(rows: Tensor) -> Tensor:
        return rows[:, index].double() + origins[index]

    named, remedy = "+".join(group), "Correct the rows, or omit the group."
    if total <= 0:
        raise DataError(f"The group {named} cannot sum to {total:g}.", "Give a positive sum, or omit the group.")
    if negative := find_rows(data, lambda rows: (numbers(rows) < 0).any(1)):
        raise DataError(f"The group {named} has negative values in {negative}.", remedy)

    if broken := find_rows(data, lambda rows: (numbers(rows).sum(1) - total).abs() > NEARLY * total):
        sums = torch.cat([numbers(block).sum(1) for block in data.blocks()])
        span = f"{float(sums.min()):.9g} to {float(sums.max()):.9g}"
        raise DataError(f"The group {named} sums to {span}, not {total:g}, in {broken}.", remedy)


def _check_total(data: Data, parts: Sequence[str], total: str) -> float:
    """Check that columns sum to another; return what the sum of their codes lacks of its code."""
    origins = torch.tensor(shared_origin(data, (*parts, total), from_zero=True), dtype=torch.float64)
    names, kinds = column_names(data), or_numbers(data.types, data.event[-1])
    index, place = [names.index(name) for name in parts], names.index(total)
    step, scale = kinds[place].unit
    for name, i in zip(parts, index, strict=True):
        own_step, own_scale = kinds[i].unit
        if step and (not own_step or own_step * scale % (own_scale * step)):
            raise DataError(
                f"The values of '{name}' are finer than those of '{total}', so no rounded sum is kept.",
                f"Omit {in_quotes(summed(parts, quoted(total)))}.",
            )

    def torn(rows: Tensor) -> Tensor:
        found = rows[:, [*index, place]].double() + origins
        return (found[:, :-1].sum(1) - found[:, -1]).abs() > NEARLY * found.abs().amax(1)

    if broken := find_rows(data, torn):
        raise DataError(
            f"{' and '.join(f'{name!r}' for name in parts)} do not sum to '{total}' in {broken}.",
            f"Omit {in_quotes(summed(parts, quoted(total)))}, or correct the rows.",
        )
    return float(origins[:-1].sum() - origins[-1])


def column_names(data: Data) -> list[str]:
    """The names of the columns, or their numbers if they have none.

    Args:
        data: a table or points.
    """
    return list(data.columns) or [str(i) for i in range(data.event[-1])]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
