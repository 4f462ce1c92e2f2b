"""Parts of a product: processes with their columns, their supports, and their coordinates side by side."""

import re
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor
from torch.distributions import Transform, constraints
from torch.distributions.constraints import Constraint

from sdezoo.errors import ParameterError
from sdezoo.zoo.registry import SDES

_FORM = re.compile(r"(?P<spec>.+)\[(?P<columns>[^\[\]]+)\]", re.DOTALL)


class Part(NamedTuple):
    """A process and its columns."""

    process: Any
    """The process."""
    columns: tuple[str, ...]
    """The columns, by name or number."""

    @property
    def numbers(self) -> list[int]:
        """The numbers of the columns."""
        return [int(column) for column in self.columns]

    @property
    def written(self) -> str:
        """As an item of a spec string."""
        spec = self.process.full_spec
        return f"{f'({spec})' if ',' in spec else spec}[{';'.join(self.columns)}]"

    @property
    def size(self) -> int:
        """Number of entries of the state of a row."""
        return self.process.state_shape((1, len(self.columns)))[-1]

    @property
    def seen(self) -> int:
        """Number of entries of the network's input."""
        return self.process.network_input_shape((len(self.columns),))[-1]


class Columns(Constraint):
    """Each column in the support of its part.

    Args:
        parts: the supports, and the columns of each.
    """

    def __init__(self, parts: Sequence[tuple[Constraint, list[int]]]) -> None:
        self.parts = list(parts)

    @property
    def lower_bound(self) -> Tensor:
        """The lower end of each column, NaN if its part states none, `(d,)`."""
        return self._ends("lower_bound")

    @property
    def upper_bound(self) -> Tensor:
        """The upper end of each column, likewise."""
        return self._ends("upper_bound")

    def _ends(self, name: str) -> Tensor:
        found = torch.full((sum(len(columns) for _, columns in self.parts),), torch.nan, dtype=torch.float64)
        for support, columns in self.parts:
            found[columns] = torch.as_tensor(getattr(support, name, torch.nan), dtype=torch.float64)
        return found

    def check(self, value: Tensor) -> Tensor:
        inside = torch.zeros_like(value, dtype=torch.bool)
        if value.ndim and value.shape[-1] == sum(len(columns) for _, columns in self.parts):
            for support, columns in self.parts:
                found = support.check(value[..., columns])
                inside[..., columns] = found[..., None] if found.ndim < value.ndim else found
        return inside

    def __repr__(self) -> str:
        return "a product of supports"


class SideBySide(Transform):
    """The coordinates of all parts together: `x[columns_i] = φ_i(z[places_i])`.

    If every `φ_i` is element-wise, entry `j` of the state is that of column `j`. Otherwise the states of the parts stand one after the
    other, along the last dimension.

    Args:
        maps: the `φ_i`, and the columns of each.
        codomain: support of the columns.
    """

    def __init__(self, maps: Sequence[tuple[Transform, list[int]]], codomain: Constraint) -> None:
        super().__init__()
        sizes = [phi.inverse_shape(Size((1, len(columns))))[-1] for phi, columns in maps]
        self.element_wise = all(phi.domain.event_dim == 0 for phi, _ in maps)
        self.domain = constraints.real if self.element_wise else constraints.independent(constraints.real, 1)
        self.codomain, self.bijective = codomain, all(phi.bijective for phi, _ in maps)
        spans = [list(range(*ends)) for ends in pairwise(accumulate(sizes, initial=0))]
        self.places = [columns for _, columns in maps] if self.element_wise else spans
        self._parts = [(phi, columns, place) for (phi, columns), place in zip(maps, self.places, strict=True)]

    def _call(self, x: Tensor) -> Tensor:
        return ordered([_known(phi(x[..., place])) for phi, _, place in self._parts], [columns for _, columns, _ in self._parts])

    def _inverse(self, y: Tensor) -> Tensor:
        return ordered([_known(phi.inv(y[..., columns])) for phi, columns, _ in self._parts], self.places)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        parts = [phi.log_abs_det_jacobian(x[..., place], y[..., columns]) for phi, columns, place in self._parts]
        if self.element_wise:
            return ordered(parts, self.places)
        return torch.stack([part if part.ndim < x.ndim else part.sum(-1) for part in parts]).sum(0)

    def forward_shape(self, shape: Size) -> Size:
        return Size((*shape[:-1], sum(len(columns) for _, columns, _ in self._parts)))

    def inverse_shape(self, shape: Size) -> Size:
        return Size((*shape[:-1], sum(map(len, self.places))))


def ordered(parts: Sequence[Tensor], places: Sequence[list[int]]) -> Tensor:
    """Put the columns of each part in their places.

    Args:
        parts: for each part, its columns, `(…, k_i)`.
        places: for each part, where they belong.
    """
    order = torch.tensor(list(chain.from_iterable(places))).argsort()
    return torch.cat(list(parts), -1)[..., order.to(parts[0].device)]


def _known(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def part(text: str) -> Part:
    """Read a part.

    Args:
        text: an item of a spec string, `SPEC[column;column]`.

    Raises:
        ParameterError: if it is malformed.
    """
    found = _FORM.fullmatch(text.strip())
    if not found:
        raise ParameterError(f"product: '{text}' is not a process with its columns.", "Write it as SPEC[column;column].")
    spec = found["spec"].strip()
    process = SDES.build(spec[1:-1] if spec.startswith("(") else spec)
    return Part(process, tuple(column.strip() for column in found["columns"].split(";")))
