"""The process of each column of a table, `--sde auto`.

Every installed process may offer itself for a column (`Process.column_fit`). The one with the highest preference is taken; among equals,
one that is named first in alphabetical order. If all columns get the same process, it is used as it is, else a product of processes.
Constant columns need none: the encoding restores them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdezoo.data.column_types import NumberType, offset_of, or_numbers
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.data.validation import located
from sdezoo.errors import DataError, PluginError, listed
from sdezoo.process.columns import ColumnFit
from sdezoo.process.process import Process
from sdezoo.zoo.column_notation import option, setting
from sdezoo.zoo.column_options import NEGATIVE, ColumnOptions, column_names
from sdezoo.zoo.composition import defaults, preferred
from sdezoo.zoo.registry import SDES
from sdezoo.zoo.relations import relations

AUTO = "auto"
"""The setting that leaves the process to the data."""
_FORMS = {"growth": "growth factors of steps", "level": "values relative to the start", "real": "values"}
_PLAIN = re.compile(r"[^\[\]();,=<>+\s](?:[^\[\]();,=<>+]*[^\[\]();,=<>+\s])?")
_LISTED = 20
_UNIT = 1024.0
"""What a distance is multiplied by to see whether a process fits it in another unit."""


@dataclass(frozen=True)
class Choice:
    """A process for data.

    Args:
        spec: its spec string; columns are given by name.
        reasons: a phrase for each group of columns.
    """

    spec: str
    reasons: tuple[str, ...]


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
    if data.form:
        found = fit_column("of all steps", torch.cat(list(_columns(data, encoding))))
        return Choice(found.spec, (f"{found.spec} for {_FORMS[data.form]}: {found.reason}",))
    if data.kind not in ("table", "points"):
        return Choice(preferred(defaults(SDES), "processes", data.kind), ())
    names, parts = encoding.named(column_names(data))
    groups: dict[str, dict[str, str]] = {}
    shares = {name: group for group, _ in options.groups for name in group}
    words = {names[i] for i in encoding.categories}
    for i, column in zip(parts, _columns(data, encoding), strict=True):
        name = names[i]
        if name in shares:
            groups.setdefault(_simplex(data, shares[name]), {})[name] = f"shares of {'+'.join(shares[name])}"
            continue
        if name in options.processes:
            found = _given(options.processes[name], name, column, data)
        else:
            found = fit_column(name, column, distances=name in (*options.floors, *options.ceilings))
        reason = "categories" if name in words else found.reason if i < data.event[-1] else "marks of missing values"
        groups.setdefault(found.spec, {}).setdefault(name, reason)
    texts = {name: name if _PLAIN.fullmatch(name) and names.count(name) == 1 else _number(i, names) for i, name in enumerate(names)}
    reasons = [f"{spec} for {listed(list(group), _LISTED)}: {_common(group.values())}" for spec, group in groups.items()]
    for group, total in options.sums:
        if total in options.processes:
            raise DataError(
                f"The column '{total}' is a sum of others, which have processes.", f"Leave out {setting(total, options.processes[total])}."
            )
        reasons.append(f"no process for {total}: the sum of {listed(group, _LISTED)}")
    totals = [total for _, total in options.sums]
    left = [name for i, name in enumerate(names) if i not in parts and name not in totals]
    for name in left:
        if name in options.processes:
            _check_constant(options.processes[name], name, data)
    reasons += [f"no process for {listed(left, _LISTED)}: constant, restored exactly"] if left else []
    reasons += [f"in every row {held}: keep it with {option(held)}" for held in relations(data, words.union(options.related))]
    if len(groups) == 1:
        return Choice(next(iter(groups)), tuple(reasons))
    parts = (f"{f'({spec})' if ',' in spec else spec}[{';'.join(texts[name] for name in group)}]" for spec, group in groups.items())
    return Choice(f"product:{','.join(parts)}", tuple(reasons))


def _number(index: int, names: Sequence[str]) -> str:
    """The number of a column, with as many zeros before it as it takes to be the name of none."""
    text = str(index)
    while text in names:
        text = f"0{text}"
    return text


def _columns(data: Data, encoding: Encoding) -> Iterator[Tensor]:
    """The values of each encoded column, float64; of rows on disk those in memory, and the extremes."""
    rows = torch.cat([encoding.encode_exactly(part).flatten(0, -2) for part in (data.train, data.test) if len(part)])
    if data.stored is not None:
        rows = torch.cat([rows, encoding.encode_exactly(torch.stack(data.bounds))])
    yield from rows.T


def fit_column(name: str, column: Tensor, *, distances: bool = False) -> ColumnFit:
    """Find the process that fits a column best.

    Args:
        name: of the column, for messages.
        column: its values `(n,)`, float64, without NaN.
        distances: whether they are distances from an end: a process that does not fit them in another unit, such as one that takes values
            up to 1 for shares, fits by chance.

    Raises:
        PluginError: if none fits.
    """
    offers = [(cls, offer) for cls in _classes() if (offer := cls.column_fit(column))]
    if distances:
        others = ((offer, cls.column_fit(_UNIT * column)) for cls, offer in offers)
        offers = [offer for offer, other in others if other and other.spec == offer.spec]
    else:
        offers = [offer for _, offer in offers]
    if not offers:
        raise PluginError(f"No installed process fits the column '{name}'.", f"Name one: {option(setting(name, 'PROCESS'))}.")
    return max(offers, key=lambda offer: offer.preference)


def _given(given: str, name: str, column: Tensor, data: Data) -> ColumnFit:
    """The process that the user gives a column, unless it refuses values."""
    sde = SDES.build(given)
    refused = ~sde.support.check(column.float().unsqueeze(1))  # float32, as in training
    if refused.any() and not sde.support.event_dim:
        count, place = int(refused.sum()), int(refused.int().argmax())
        where = "" if data.stored else f", {located(count, data.row_in_words(place))}"
        problem = f"'{given}' refuses {count} of {len(column)} values of the column '{name}'{where}."
        if (column <= 0).all() and sde.support.check(0 - column[column < 0].unsqueeze(1)).all():
            raise DataError(problem, f"Give it a process of the opposite sign: {option(setting(name, NEGATIVE))}.")
        fit = fit_column(name, column)
        raise DataError(problem, f"Give it {fit.spec}, which fits: {option(setting(name, fit.spec))}.")
    return ColumnFit(0, "as given", given)


def _check_constant(given: str, name: str, data: Data) -> None:
    """Raise unless the process that the user gives a constant column takes its value."""
    place = column_names(data).index(name)
    kind, value = or_numbers(data.types, data.event[-1])[place], data.bounds[0][place].double()
    if not isinstance(kind, NumberType):
        problem = f"The column '{name}' has one value, which is no number, so '{given}' is no process for it."
    elif not SDES.build(given).support.check((value + offset_of(kind)).float().reshape(1, 1)).all():
        problem = f"'{given}' refuses the one value of the column '{name}'."
    else:
        return
    raise DataError(problem, f"Leave out {setting(name, given)}: a column of one value needs no process, and is restored exactly.")


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


def _common(reasons: Iterable[str]) -> str:
    found = list(dict.fromkeys(reasons))
    return "; ".join(found[:3]) + ("; …" if len(found) > 3 else "")
