"""The process of each column of a table, `--sde auto`, and what users say of columns, `--column`.

Every installed process may offer itself for a column (`Process.column_fit`). The one with the highest preference is taken; among equals,
one that is named first in alphabetical order. If all columns get the same process, it is used as it is, else a product of processes.
Constant columns need none: the encoding restores them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

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


@dataclass(frozen=True)
class ColumnOptions:
    """What a user says of columns.

    Args:
        processes: spec strings of processes, by the names of their columns.
        dropped: names of the columns to leave out.
    """

    processes: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str | None) -> ColumnOptions:
        """Parse the setting `column`, such as `rain=zero-inflated,id=drop`.

        Args:
            text: the setting; None: nothing is said.

        Raises:
            ParameterError: if it is malformed, or names a column twice.
        """
        processes: dict[str, str] = {}
        for item in split(text) if text else []:
            name, equals, spec = (part.strip() for part in item.partition("="))
            if not (name and equals and spec):
                raise ParameterError(f"column={item.strip()} is not of the form COLUMN=PROCESS.", "Write COLUMN=PROCESS or COLUMN=drop.")
            if name in processes:
                raise ParameterError(f"The setting column names '{name}' twice.", "Name it once.")
            processes[name] = spec[1:-1] if spec.startswith("(") and spec.endswith(")") else spec
        dropped = tuple(name for name, spec in processes.items() if spec == _DROP)
        return cls({name: spec for name, spec in processes.items() if spec != _DROP}, dropped)

    def check(self, data: Data) -> None:
        """Check that the columns exist.

        Args:
            data: the data, before columns are left out.

        Raises:
            DataError: if one does not, or all are left out.
        """
        names = column_names(data) if data.kind in ("table", "points") else []
        for name in (*self.processes, *self.dropped):
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
    for i, column in zip(encoding.sources(len(names)), _columns(data, encoding), strict=True):
        found = _given(options.processes[names[i]], names[i], column) if names[i] in options.processes else _fit(names[i], column)
        groups.setdefault(found.spec, []).append((names[i], found.reason))
    texts = {name: name if _PLAIN.fullmatch(name) and names.count(name) == 1 else str(i) for i, name in enumerate(names)}
    reasons = [
        f"{spec} for {_listed([name for name, _ in group])}: {_common(reason for _, reason in group)}" for spec, group in groups.items()
    ]
    left = [name for i, name in enumerate(names) if i not in encoding.sources(len(names))]
    reasons += [f"no process for {_listed(left)}: constant, restored exactly"] if left else []
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
    offers = []
    for candidate in SDES.names():
        try:
            cls: type[Process] = SDES.load(candidate)
        except PluginError:
            continue
        offer = cls.column_fit(column)
        offers += [offer] if offer else []
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


def _listed(names: Sequence[str]) -> str:
    shown = [column_name(0, [name]) for name in names[:_LISTED]]
    return ", ".join(shown) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _common(reasons: Iterator[str]) -> str:
    found = list(dict.fromkeys(reasons))
    return "; ".join(found[:3]) + ("; …" if len(found) > 3 else "")
