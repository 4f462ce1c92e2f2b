"""Codecs: the invertible column transforms that make up an encoding.

A codec replaces `k` columns by `m`: most keep their number, `ConstantCodec` has no output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from sdezoo.errors import DataError


def damaged() -> DataError:
    """Build the error for a record that does not describe a valid encoding."""
    return DataError("The record of the encoding of the data is damaged.", "Restore the run's files, or train again.")


def on_lattices(x: Tensor, units: Sequence[tuple[int, int]]) -> Tensor:
    """Round columns to multiples of `step / scale`.

    Args:
        x: columns `(…, k)`, float64; not changed.
        units: `step` and `scale` of each column; `(0, 1)`: it stays as it is.
    """
    step, scale = torch.tensor(units, dtype=torch.float64).T
    return torch.where(step > 0, (x * scale / step).round() * step / scale, x)


class Output(NamedTuple):
    """What an output column of a codec is."""

    source: int
    """Position, among the codec's columns, of the column that it encodes."""
    mark: bool = False
    """Whether it marks something, beside the values of the column."""
    ready: bool = False
    """Whether it already has the scale at which a process on the real line takes it."""
    lattice: bool = True
    """Whether it lies on the lattice of the column."""


class Codec(ABC):
    """An invertible transform of some columns. Abstract: `encode`, `decode`, `log_det`, `parameters`, `from_parameters`.

    A codec runs on the CPU and treats rows independently. `encode` and `decode` may overwrite their argument. They never clip or drop a
    value.
    """

    kind: ClassVar[str]
    """Name in JSON, a key of `CODECS`."""
    columns: tuple[int, ...] | None = None
    """Increasing indices of the input columns it acts on; None: entire rows, of any shape.

    The output columns are contiguous and start at the position of the first input column. The remaining columns close up around them.
    """
    width: int | None = None
    """Number of output columns; None: same as the number of input columns."""
    starts_at_one: ClassVar[bool] = False
    """Whether it takes series that start at 1, and gives what follows."""
    dtype: torch.dtype = torch.float64
    """Input dtype of `encode` and output dtype of `decode`: float64, exact for integers up to 2⁵³, or int64 for larger ones."""

    def encoded_event(self, event: tuple[int, ...]) -> tuple[int, ...]:
        """Compute the shape of an encoded row without allocating it.

        Args:
            event: shape of a row before encoding.

        Raises:
            DataError: if the codec does not apply to rows of this shape.
        """
        if self.columns is None:
            return event
        if not event or not all(0 <= column < event[-1] for column in self.columns):
            raise damaged()
        made = len(self.columns) if self.width is None else self.width
        return (*event[:-1], event[-1] - len(self.columns) + made)

    @property
    def sources(self) -> Sequence[int]:
        """For each output column, the position in `columns` of the column that it encodes. Default: one for each, or all of the first."""
        return range(len(self.columns or ())) if self.width is None else [0] * self.width

    def known(self, given: Tensor) -> Tensor:
        """Which output columns follow from the given input columns alone. Default: those whose source, see `outputs`, is given.

        Args:
            given: which input columns are given, bool `(N, …, k)`.

        Returns:
            Bool `(N, …, m)`.
        """
        return given if self.columns is None else given[..., [output.source for output in self.outputs]]

    @property
    def outputs(self) -> Sequence[Output]:
        """What each output column is. Default: a value of the column in `sources`, on its lattice."""
        return [Output(source) for source in self.sources]

    @abstractmethod
    def encode(self, raw: Tensor) -> Tensor:
        """Encode columns.

        Args:
            raw: columns `(N, …, k)`, of the codec's `dtype`.

        Returns:
            Encoded columns `(N, …, m)`, float64.
        """

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """Invert `encode`.

        Args:
            x: encoded columns `(N, …, m)`, float64.

        Returns:
            Columns `(N, …, k)`, of the codec's `dtype`.
        """

    @abstractmethod
    def log_det(self, raw: Tensor) -> Tensor | None:
        """Compute `log |det ∂ encode/∂ raw|` at each row.

        Args:
            raw: columns `(N, …, k)`, of the codec's `dtype`.

        Returns:
            Values `(N,)`, float64; None if there is no such determinant, as for categories.
        """

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """The state that `from_parameters` restores, as JSON values: numbers, strings, and lists of them."""

    @classmethod
    @abstractmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """Build a codec from the output of `parameters`.

        Args:
            values: the parameters by name; other entries are ignored.

        Raises:
            DataError: if an entry is missing or has the wrong type.
        """


@dataclass(frozen=True, eq=False)
class AffineCodec(Codec):
    """`x = scale · raw + shift`.

    Args:
        scale: finite and nonzero, 0-dim or `(d,)`, broadcast over the event. Stored in float64 on the CPU.
        shift: finite, 0-dim or `(d,)`, broadcast over the event. Stored in float64 on the CPU.

    Raises:
        DataError: if a value is not finite, or a scale is zero.
    """

    kind: ClassVar[str] = "affine"

    scale: Tensor
    shift: Tensor

    def __post_init__(self) -> None:
        for name in ("scale", "shift"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64, device="cpu"))
        if not (self.scale.isfinite().all() and self.shift.isfinite().all() and self.scale.all()):
            raise DataError(
                "The encoding of the data has a scale of zero or a value that is not finite.",
                "Give every column a finite shift and a finite scale other than zero.",
            )

    def encoded_event(self, event: tuple[int, ...]) -> tuple[int, ...]:
        fits = all(values.ndim == 0 or (event and values.shape in ((1,), event[-1:])) for values in (self.scale, self.shift))
        if not fits:
            raise damaged()
        return event

    def encode(self, raw: Tensor) -> Tensor:
        return raw.mul_(self.scale).add_(self.shift)

    def decode(self, x: Tensor) -> Tensor:
        return x.sub_(self.shift).div_(self.scale)

    def log_det(self, raw: Tensor) -> Tensor:
        """Compute `Σ log |scale|` over the entries of a row; the same for every row.

        Args:
            raw: rows `(N, *event)`; only the shape is used.
        """
        return self.scale.abs().log().expand(raw.shape[1:]).sum().expand(len(raw))

    def parameters(self) -> dict[str, Any]:
        return {"scale": self.scale.tolist(), "shift": self.shift.tolist()}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        try:
            scale, shift = (torch.tensor(values[key], dtype=torch.float64) for key in ("scale", "shift"))
        except (KeyError, TypeError, ValueError, RuntimeError):
            raise damaged() from None
        return cls(scale, shift)


@dataclass(frozen=True, eq=False)
class ConstantCodec(Codec):
    """Leaves out columns of one value each, and restores it exactly.

    Args:
        columns: increasing indices of the columns.
        values: the value of each.
    """

    kind: ClassVar[str] = "constant"
    width = 0

    columns: tuple[int, ...]  # pyright: ignore[reportIncompatibleVariableOverride]
    values: tuple[float, ...] = ()

    def encode(self, raw: Tensor) -> Tensor:
        return raw[..., :0]

    def decode(self, x: Tensor) -> Tensor:
        return torch.tensor(self.values, dtype=torch.float64).expand(*x.shape[:-1], -1)

    def log_det(self, raw: Tensor) -> None:
        """None: a constant column has no density.

        Args:
            raw: columns `(N, …, k)`.
        """

    def parameters(self) -> dict[str, Any]:
        return {"columns": list(self.columns), "values": list(self.values)}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        columns = indices(values)
        return cls(columns, numbers(values, "values", len(columns)))


_HALVES = 2.0**22
"""From here on float32 does not hold `k − ½` for certain."""


@dataclass(frozen=True, eq=False)
class CellCodec(Codec):
    """Multiples `ku` of a unit as the middles of the cells `((k − 1)u, ku]` that are rounded up to them: a positive number never becomes 0.

    A positive `ku` is encoded as `(k − ½)u`, 0 as 0, and a `k` whose half float32 does not hold as `ku`. Decoding rounds up. Entire rows
    are encoded, so that columns keep their places.

    Args:
        places: increasing indices of the columns of multiples, from 0 on.
        units: `u` as a fraction, numerator and denominator, for each column; empty: 1.
    """

    kind: ClassVar[str] = "cell"

    places: tuple[int, ...]
    units: tuple[tuple[int, int], ...] = ()

    def encoded_event(self, event: tuple[int, ...]) -> tuple[int, ...]:
        if not event or self.places[-1] >= event[-1]:
            raise damaged()
        return event

    def encode(self, raw: Tensor) -> Tensor:
        step, scale = self._fraction
        whole = (raw[..., self.places] * scale / step).round()
        raw[..., self.places] = torch.where((whole > 0) & (whole < _HALVES), whole - 0.5, whole) * step / scale
        return raw

    def decode(self, x: Tensor) -> Tensor:
        step, scale = self._fraction
        x[..., self.places] = (x[..., self.places] * scale / step).ceil() * step / scale
        return x

    def log_det(self, raw: Tensor) -> Tensor:
        """0: a translation of each positive value."""
        return torch.zeros(len(raw), dtype=torch.float64)

    def parameters(self) -> dict[str, Any]:
        return {"places": list(self.places)} | ({"units": [list(unit) for unit in self.units]} if self.units else {})

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        places, units = indices(values, "places"), values.get("units", [])
        if not isinstance(units, list) or len(units) not in (0, len(places)) or not all(isinstance(unit, list) for unit in units):
            raise damaged()
        if not all(len(unit) == 2 and all(type(part) is int and part > 0 for part in unit) for unit in units):
            raise damaged()
        return cls(places, tuple((unit[0], unit[1]) for unit in units))

    @property
    def _fraction(self) -> Tensor:
        return torch.tensor(self.units or [(1, 1)], dtype=torch.float64).T


def indices(values: Mapping[str, Any], name: str = "columns") -> tuple[int, ...]:
    """The indices of a record.

    Args:
        values: the record.
        name: name of the entry.

    Raises:
        DataError: if they are not increasing, from 0 on, or there are none.
    """
    found = values.get(name)
    if not isinstance(found, list) or not found or not all(type(i) is int and i >= 0 for i in found) or found != sorted(set(found)):
        raise damaged()
    return tuple(found)


def numbers(values: Mapping[str, Any], name: str, count: int) -> tuple[float, ...]:
    """The numbers of a record.

    Args:
        values: the record.
        name: name of the entry.
        count: how many there are.

    Raises:
        DataError: if they are not so many numbers.
    """
    found = values.get(name)
    if not isinstance(found, list) or len(found) != count or not all(isinstance(value, int | float) for value in found):
        raise damaged()
    return tuple(map(float, found))
