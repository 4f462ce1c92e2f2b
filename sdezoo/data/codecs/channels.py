"""Channels of images that have one value only, such as an opaque alpha."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sdezoo.data.codecs.codec import Codec, damaged, indices


@dataclass(frozen=True, eq=False)
class ConstantChannelCodec(Codec):
    """Leaves out channels of one value each, and restores it exactly. Entire images `(C, H, W)` are encoded.

    Args:
        channels: increasing indices of the channels.
        values: the value of each.
    """

    kind: ClassVar[str] = "constant-channel"

    channels: tuple[int, ...]
    values: tuple[float, ...] = ()

    def encoded_event(self, event: tuple[int, ...]) -> tuple[int, ...]:
        if len(event) != 3 or self.channels[-1] >= event[0] or len(self.channels) == event[0]:
            raise damaged()
        return (event[0] - len(self.channels), *event[1:])

    def encode(self, raw: Tensor) -> Tensor:
        return raw[:, [i for i in range(raw.shape[1]) if i not in self.channels]]

    def decode(self, x: Tensor) -> Tensor:
        found = list(x.unbind(1))
        for channel, value in zip(self.channels, self.values, strict=True):
            found.insert(channel, torch.full_like(x[:, 0], value))
        return torch.stack(found, 1)

    def log_det(self, raw: Tensor) -> None:
        """None: a constant channel has no density.

        Args:
            raw: images `(N, C, H, W)`.
        """

    def parameters(self) -> dict[str, Any]:
        return {"channels": list(self.channels), "values": list(self.values)}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        channels, constants = indices(values, "channels"), values.get("values")
        if not isinstance(constants, list) or len(constants) != len(channels) or not all(isinstance(v, int | float) for v in constants):
            raise damaged()
        return cls(channels, tuple(float(value) for value in constants))
