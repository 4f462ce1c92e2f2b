"""The opposite sign: columns of negative numbers for processes on the positive ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sdezoo.data.codecs.codec import Codec, damaged, indices


@dataclass(frozen=True, eq=False)
class SignCodec(Codec):
    """`x = −raw`: a process on the positive numbers then keeps a column negative. Entire rows are encoded: columns keep their places.

    Args:
        places: increasing indices of the columns.
    """

    kind: ClassVar[str] = "sign"

    places: tuple[int, ...]

    def encoded_event(self, event: tuple[int, ...]) -> tuple[int, ...]:
        if not event or self.places[-1] >= event[-1]:
            raise damaged()
        return event

    def encode(self, raw: Tensor) -> Tensor:
        raw[..., self.places] = 0 - raw[..., self.places]  # 0, not −0
        return raw

    def decode(self, x: Tensor) -> Tensor:
        return self.encode(x)

    def log_det(self, raw: Tensor) -> Tensor:
        """0: a reflection."""
        return torch.zeros(len(raw), dtype=torch.float64)

    def parameters(self) -> dict[str, Any]:
        return {"places": list(self.places)}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        return cls(indices(values, "places"))
