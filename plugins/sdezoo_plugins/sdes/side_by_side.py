"""Parts of a product: processes with their columns, their supports, and their coordinates side by side."""

import re
from collections.abc import Sequence
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
    """`(z_1, z_2, …)` along the last dimension to columns, `x[columns_i] = φ_i(z_i)`.

    Args:
        maps: the `φ_i`, and the columns of each.
        codomain: support of the columns.
    """

    domain = constraints.independent(constraints.real, 1)

    def __init__(self, maps: Sequence[tuple[Transform, list[int]]], codomain: Constraint) -> None:
        super().__init__()
        self.maps, self.codomain = list(maps), codomain
        self.bijective = all(phi.bijective for phi, _ in self.maps)
        self._sizes = [phi.inverse_shape(Size((1, len(columns))))[-1] for phi, columns in self.maps]
        self._order = torch.tensor([column for _, columns in self.maps for column in columns]).argsort()

    def _call(self, x: Tensor) -> Tensor:
        parts = [phi(z) for (phi, _), z in zip(self.maps, x.split(self._sizes, -1), strict=True)]
        return torch.cat([part for part in parts if part is not None], -1)[..., self._order.to(x.device)]

    def _inverse(self, y: Tensor) -> Tensor:
        parts = [phi.inv(y[..., columns]) for phi, columns in self.maps]
        return torch.cat([part for part in parts if part is not None], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        total = x.new_zeros(x.shape[:-1])
        for (phi, columns), z in zip(self.maps, x.split(self._sizes, -1), strict=True):
            part = phi.log_abs_det_jacobian(z, y[..., columns])
            total = total + (part if part.ndim < z.ndim else part.sum(-1))
        return total

    def forward_shape(self, shape: Size) -> Size:
        return Size((*shape[:-1], len(self._order)))

    def inverse_shape(self, shape: Size) -> Size:
        return Size((*shape[:-1], sum(self._sizes)))


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
