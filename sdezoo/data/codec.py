"""Codecs: the invertible maps of columns that an encoding is made of.

A codec takes `k` columns and puts `m` in their place: an affine map as many as it takes, a categorical one a column for each category, a
constant column none. The affine codec is the only one so far.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sdezoo.errors import DataError


def damaged() -> DataError:
    """The error for a record from which no encoding can be built."""
    return DataError("The record of the encoding of the data is damaged.", "Restore the run's files, or train again.")


class Codec(ABC):
    """An invertible map of some columns. Abstract: `encode`, `decode`, `log_det`, `parameters`, `from_parameters`.

    A codec works on the CPU, row by row: what it makes of a row depends on that row alone. `encode` and `decode` may overwrite their
    argument. They change no value: nothing is clipped or dropped.
    """

    kind: ClassVar[str]
    """Its name in JSON, a key of `CODECS`."""
    columns: tuple[int, ...] | None = None
    """The columns it acts on, by their numbers among the columns that it meets, increasing; None: a row as a whole, of any shape.

    The columns that it makes stand together, where the first of those it took stood. The other columns close up around them.
    """
    width: int | None = None
    """How many columns it makes; None: as many as it takes."""
    dtype: torch.dtype = torch.float64
    """What `encode` takes and `decode` gives back: float64, which holds whole numbers up to 2⁵³, or int64 where these are too few."""

    def encoded_event(self, event: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a row that it makes of a row of shape `event`; nothing of that size is allocated.

        Raises:
            DataError: where it does not act on such rows.
        """
        if self.columns is None:
            return event
        if not event or not all(0 <= column < event[-1] for column in self.columns):
            raise damaged()
        made = len(self.columns) if self.width is None else self.width
        return (*event[:-1], event[-1] - len(self.columns) + made)

    @abstractmethod
    def encode(self, raw: Tensor) -> Tensor:
        """The encoded columns, float64 `(N, …, m)`, of columns `(N, …, k)` of `dtype`."""

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """The columns `(N, …, k)`, of `dtype`, of encoded columns `x`, float64 `(N, …, m)`."""

    @abstractmethod
    def log_det(self, raw: Tensor) -> Tensor | None:
        """`log |det ∂ encode/∂ raw|` at each row of `raw`, float64 `(N,)`; None where there is none, as for categories."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """What `from_parameters` builds the same codec from: numbers, strings, and lists of them."""

    @classmethod
    @abstractmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """The codec whose `parameters` are `values`.

        Raises:
            DataError: where an entry is missing or is not of its kind.
        """


@dataclass(frozen=True, eq=False)
class AffineCodec(Codec):
    """`x = scale · raw + shift`.

    Args:
        scale: finite, not zero; 0-dim, or `(d,)`: broadcasts over an event. Kept in float64 on the CPU, as is `shift`.
        shift: finite; 0-dim or `(d,)` likewise.

    Raises:
        DataError: where the map has no inverse.
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
        """`Σ log |scale|` over the entries of a row, the same for each."""
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


CODECS: dict[str, type[Codec]] = {codec.kind: codec for codec in (AffineCodec,)}
"""By their names in JSON."""
