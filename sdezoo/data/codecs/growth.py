"""The codec of series that start at 1, such as prices divided by the first of their window.

Of a window `x_0 = 1, x_1, …, x_{T−1}`, `T − 1` values are left to learn, in one of two forms::

    stepwise:      y_k = x_k / x_{k−1}        the growth factor of each step
    from start:    y_k = x_k / x_0            the value relative to the start

and `x_k = y_1 ⋯ y_k` or `x_k = y_k` brings the window back, starting at 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sdezoo.data.codecs.codec import Codec, damaged


@dataclass(frozen=True, eq=False)
class GrowthCodec(Codec):
    """Growth of series in place of their values: `(N, T, d)` to `(N, T − 1, d)`.

    Args:
        stepwise: whether each step is relative to the one before, else to the first.
    """

    kind: ClassVar[str] = "growth"
    starts_at_one: ClassVar[bool] = True

    stepwise: bool

    def encoded_event(self, event: tuple[int, ...]) -> tuple[int, ...]:
        if len(event) != 2 or event[0] < 2:
            raise damaged()
        return (event[0] - 1, event[1])

    def encode(self, raw: Tensor) -> Tensor:
        return raw[:, 1:] / (raw[:, :-1] if self.stepwise else raw[:, :1])

    def decode(self, x: Tensor) -> Tensor:
        grown = x.cumprod(1) if self.stepwise else x
        return torch.cat([torch.ones_like(x[:, :1]), grown], 1)

    def log_det(self, raw: Tensor) -> Tensor:
        """Compute `−Σ log x_{k−1}`, or `−(T − 1) Σ log x_0`: the start is not a variable.

        Args:
            raw: windows `(N, T, d)`, float64, positive.
        """
        base = raw[:, :-1] if self.stepwise else raw[:, :1].expand_as(raw[:, 1:])
        return -base.log().flatten(1).sum(1)

    def parameters(self) -> dict[str, Any]:
        return {"stepwise": self.stepwise}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        if not isinstance(values.get("stepwise"), bool):
            raise damaged()
        return cls(values["stepwise"])
