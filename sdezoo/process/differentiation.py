"""Forward-mode differentiation: correct under `no_grad` and `inference_mode`, where a summed `autograd.grad` silently returns zeros.

And what is kept between calls: a tensor made inside a transform of `torch.func` belongs to it, and breaks later calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache, wraps
from threading import Thread
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_KEPT = 512

T = TypeVar("T")
P = ParamSpec("P")

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


def outside_transforms(fn: Callable[P, T]) -> Callable[P, T]:
    """Compute constants that are kept, such as tables, as if no transform of `torch.func` and no `inference_mode` were under way.

    Both hold for one thread alone, so `fn` runs in a thread of its own. Put `lru_cache`, `cache` or `cached_property` before it.

    Args:
        fn: a function of numbers and objects; it must not take tensors that are differentiated, nor fill a `cached_property` of the class
            whose `cached_property` it fills: until Python 3.12 one thread alone may do that.
    """

    @wraps(fn)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        found: Future[T] = Future()

        def compute() -> None:
            try:
                found.set_result(fn(*args, **kwargs))
            except BaseException as error:  # raised again in the thread that waits
                found.set_exception(error)

        Thread(target=compute, daemon=True).start()
        return found.result()

    return alone


@lru_cache(maxsize=256)
@outside_transforms
def kept(values: tuple[float, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers as a tensor, the same one for equal numbers; do not modify it in place.

    Args:
        values: the numbers.
        dtype: of the tensor.
    """
    return torch.tensor(values, dtype=dtype)


def transforming() -> bool:
    """Whether new tensors belong to a transform of `torch.func`; such tensors have no memory of their own."""
    try:
        torch.empty(0).data_ptr()
    except RuntimeError:
        return True
    return False


class Last(Generic[T]):
    """A cache of one entry: what was computed for the same object and the same tensor, if that was not modified in place.

    Values are not compared: equal tensors may belong to different autograd graphs. Inside transforms of `torch.func` nothing is kept.
    """

    def __init__(self) -> None:
        self._last: tuple[object, Tensor, int, T] | None = None

    def get(self, owner: object, at: Tensor, compute: Callable[[], T]) -> T:
        """What was computed last for `owner` and `at`, or what `compute` returns now."""
        if at.is_inference() or transforming():  # inference tensors have no version counter
            return compute()
        last = self._last
        if last is None or last[0] is not owner or last[1] is not at or last[2] != at._version:
            last = self._last = owner, at, at._version, compute()
        return last[3]


class AtTimes(Last[T]):
    """A cache of what depends on a time alone: also of the latest 512 pairs of an object and the value of a 0-dim tensor.

    Such a value is a constant unless it is differentiated. Grids are the same for every batch, and so are the times of their steps. What is
    kept is computed outside `inference_mode`, so that gradients may go through products with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: OrderedDict[tuple[int, float], tuple[object, T]] = OrderedDict()

    def get(self, owner: object, at: Tensor, compute: Callable[[], T]) -> T:
        if at.ndim or at.requires_grad or at.device.type != "cpu" or transforming():
            return super().get(owner, at, compute)
        key = id(owner), float(at)
        if (known := self._known.get(key)) is None:
            with torch.inference_mode(False), torch.no_grad():
                known = self._known[key] = owner, compute()
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return known[1]
