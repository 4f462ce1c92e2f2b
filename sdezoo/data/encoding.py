"""The recorded, invertible map from the user's units into the domain of a process, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdezoo.errors import DataError, RunError


@dataclass(frozen=True, eq=False)
class AffineMap:
    """x = scale · raw + shift, the way from the user's units into the domain of a process.

    Args:
        scale: finite, not zero; 0-dim, or (d,): broadcasts over an event. Kept in float64 on the CPU, as is `shift`.
        shift: finite; likewise.

    Raises:
        DataError: where the map has no inverse.
    """

    scale: Tensor
    shift: Tensor

    def __post_init__(self) -> None:
        for name in ("scale", "shift"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64, device="cpu"))
        if not (self.scale.isfinite().all() and self.shift.isfinite().all() and self.scale.all()):
            raise DataError(
                "The map from the data into the process's domain has a scale of zero or a value that is not finite.",
                "Give every column a finite shift and a finite scale other than zero.",
            )

    def __call__(self, raw: Tensor) -> Tensor:
        """scale · raw + shift, of `raw`'s shape; computed in float64, returned in float32 on `raw`'s device."""
        return _float64(raw).mul_(self.scale).add_(self.shift).to(raw.device, torch.float32)

    def inverse(self, x: Tensor) -> Tensor:
        """(x − shift) / scale, never clamped; computed in float64, returned in float32 on `x`'s device."""
        return _float64(x).sub_(self.shift).div_(self.scale).to(x.device, torch.float32)

    def to_json(self) -> dict[str, Any]:
        """Numbers, or lists of them, from which `from_json` builds the very same map."""
        return {"scale": self.scale.tolist(), "shift": self.shift.tolist()}

    @classmethod
    def from_json(cls, d: dict[str, Any]) -> AffineMap:
        """The map that `to_json` wrote.

        Raises:
            DataError: when an entry is missing or is not a number or a list of numbers.
        """
        try:
            scale, shift = (torch.tensor(d[key], dtype=torch.float64) for key in ("scale", "shift"))
        except (KeyError, TypeError, ValueError):
            raise DataError(
                "The record of the map from the data into the process's domain is damaged.",
                "Restore the run's files, or train again.",
            ) from None
        return cls(scale, shift)


def _float64(values: Tensor) -> Tensor:
    # By way of the CPU: not every device has float64. The copy is the caller's to overwrite.
    return values.detach().cpu().to(torch.float64, copy=True)


_WHOLE = 2.0**62


def typed(values: np.ndarray, kind: str, name: str) -> np.ndarray:
    """Samples of one column, as the dtype that NumPy calls `kind`; whole numbers are rounded, in int64 where `kind` is too small.

    Raises:
        RunError: where int64 is too small, with the column's `name`.
    """
    dtype = np.dtype(kind)
    if dtype.kind not in "iu":
        return values.astype(dtype)
    low, high = values.min(initial=0), values.max(initial=0)
    if not -_WHOLE <= low <= high <= _WHOLE:
        raise RunError(
            f"'{name}' is a column of whole numbers, and its samples reach from {low:g} to {high:g}, too far for int64.",
            "Write a .npy, which keeps them as they are, or train longer.",
        )
    whole = values.astype(np.float64).round().astype(np.int64)
    return whole.astype(dtype) if np.iinfo(dtype).min <= whole.min(initial=0) and whole.max(initial=0) <= np.iinfo(dtype).max else whole
