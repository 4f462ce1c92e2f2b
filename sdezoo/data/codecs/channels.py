"""Channels of images that have one value only, such as an opaque alpha."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sdezoo.data.codecs.codec import Codec, damaged, indices, numbers


@dataclass(frozen=True, eq=False)
class ConstantChannelCodec(Codec):
    """Restores channels of one value each exactly; the process sees them as they are. Entire images `(C, H, W)` are encoded.

    Unlike columns, channels stay in the state, so that an encoded image has the shape of the image.

    Args:
        channels: increasing indices of the channels.
        values: the value of each.
    """

    kind: ClassVar[str] = "constant-channel"

    channels: tuple[int, ...]
    values: tuple[float, ...] = ()

    def encoded_event(self, event: tuple[int, ...]) -> tuple[int, ...]:
        if len(event) != 3 or self.channels[-1] >= event[0]:
            raise damaged()
        return event

    def encode(self, raw: Tensor) -> Tensor:
        return raw

    def decode(self, x: Tensor) -> Tensor:
        x[..., self.channels, :, :] = torch.tensor(self.values, dtype=torch.float64)[:, None, None]
        return x

    def log_det(self, raw: Tensor) -> Tensor:
        """0: nothing is changed."""
        return torch.zeros(len(raw), dtype=torch.float64)

    def parameters(self) -> dict[str, Any]:
        return {"channels": list(self.channels), "values": list(self.values)}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        channels = indices(values, "channels")
        return cls(channels, numbers(values, "values", len(channels)))
