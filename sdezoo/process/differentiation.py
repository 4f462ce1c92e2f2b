"""Forward-mode differentiation: correct under `no_grad` and `inference_mode`, where a summed `autograd.grad` silently returns zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

T = TypeVar("T")

_ATEN = torch.ops.aten
_BY_NUMBER: dict[Any, Any] = {
    **dict.fromkeys((Tensor.add, torch.add), _ATEN.add.Scalar),
    **dict.fromkeys((Tensor.sub, torch.sub), _ATEN.sub.Scalar),
    **dict.fromkeys((Tensor.mul, torch.mul), _ATEN.mul.Scalar),
    **dict.fromkeys((Tensor.div, torch.div), _ATEN.div.Scalar),
}


class _NumbersStayNumbers(TorchFunctionMode):
    """`tensor + number` and its like, without a tensor for the number, to which torch would give a slow tangent of 0."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if not kwargs and len(args) == 2 and type(args[1]) in (int, float) and isinstance(args[0], Tensor):
            func = _BY_NUMBER.get(func, func)
        return func(*args, **(kwargs or {}))


def along(fn: Callable[[Tensor], T], point: Tensor, direction: Tensor | None = None) -> tuple[T, T]:
    """Return `fn(point)` and its derivative along `direction`.

    Args:
        fn: a differentiable function of a tensor; it may return a tuple of tensors.
        point: where to evaluate `fn`.
        direction: the tangent, shaped like `point`. Default: all ones, which gives the derivative of an element-wise function.
    """
    point = point.contiguous()  # an expanded tensor cannot carry a tangent
    # Ones that depend on the point: inside another derivative, a constant would have the slow tangent of 0.
    tangent = (point.abs() + 1).sign() if direction is None else direction
    with torch.inference_mode(False), _NumbersStayNumbers():  # torch before 2.13 returns zero tangents under inference_mode
        value, slope, *_ = torch.func.jvp(fn, (point,), (tangent,))
    return value, slope


class Last(Generic[T]):
    """A cache of one entry: what was computed for the same object and the same tensor, if that was not modified in place.

    Values are not compared: equal tensors may belong to different autograd graphs.
    """

    def __init__(self) -> None:
        self._last: tuple[object, Tensor, int, T] | None = None

    def get(self, owner: object, at: Tensor, compute: Callable[[], T]) -> T:
        """What was computed last for `owner` and `at`, or what `compute` returns now."""
        if at.is_inference():  # inference tensors have no version counter
            return compute()
        last = self._last
        if last is None or last[0] is not owner or last[1] is not at or last[2] != at._version:
            last = self._last = owner, at, at._version, compute()
        return last[3]
