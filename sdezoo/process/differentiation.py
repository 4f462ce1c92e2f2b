"""Forward-mode differentiation: correct under `no_grad` and `inference_mode`, where a summed `autograd.grad` silently returns zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def along(fn: Callable[[Tensor], T], point: Tensor, direction: Tensor | None = None) -> tuple[T, T]:
    """Return `fn(point)` and its derivative along `direction`.

    Args:
        fn: a differentiable function of a tensor; it may return a tuple of tensors.
        point: where to evaluate `fn`.
        direction: the tangent, shaped like `point`. Default: all ones, which gives the derivative of an element-wise function.
    """
    point = point.contiguous()  # an expanded tensor cannot carry a tangent
    tangent = torch.ones_like(point) if direction is None else direction
    with torch.inference_mode(False):  # torch before 2.13 returns zero tangents under inference_mode
        value, slope, *_ = torch.func.jvp(fn, (point,), (tangent,))
    return value, slope
