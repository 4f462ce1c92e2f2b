"""Other values of hyper-parameters: numbers scaled, other choices, and for what is open numbers that its annotation allows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt

from sdezoo.parameters import Plugin

_FACTORS = (1.25, 0.5, 2.0)
_OPEN = (0.8, 0.5)
"""Numbers for an open hyper-parameter, and 0 if it may be. Where its bounds exclude one: shares of the way between them, or beyond one."""
_SIZES = (3, 2)
"""Whole numbers for an open hyper-parameter, or so many more than its lower bound."""
_COLUMNS = ((0.8,), (0.8, 0.3))
"""Values for an open list of numbers: one for all columns, or one for each of two."""
_SKEW = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.5), (0.0, -0.5, 0.0)), ((0.0, 0.0, 0.8), (0.0, 0.0, 0.0), (-0.8, 0.0, 0.0))
_SYMMETRIC = (((1.0, 0.5), (0.5, 2.0)),)
_MATRICES = _SKEW, _SYMMETRIC
"""Values for an open list of matrices: two that are skew-symmetric, and one that is symmetric."""


def alternatives(plugin: Plugin, key: str) -> Sequence[Any]:
    """Other values for a hyper-parameter: scaled, set if it is open, another choice; some may be out of range.

    Args:
        plugin: The plugin.
        key: Name of the hyper-parameter.
    """
    return others(type(plugin), key, plugin.parameters()[key])


def others(cls: type[Plugin], key: str, value: Any, on: float = 0.5) -> Sequence[Any]:
    """Other values than `value` for a hyper-parameter, as `alternatives`.

    Args:
        cls: The class of the plugin.
        key: Name of the hyper-parameter.
        value: Its value.
        on: What a number becomes that is 0.
    """
    hint = get_type_hints(cls, include_extras=True)[key]
    if found := choices(hint):
        return [choice for choice in found if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [factor * value for factor in _FACTORS] if value else [on]
    return _opened(hint) if value is None else []


def settings(hint: Any, small: float, large: float) -> Sequence[Any]:
    """Values for an open hyper-parameter: numbers, lists of one number or of a fixed length, or matrices.

    Args:
        hint: Its annotation.
        small: The number to try first.
        large: The number to try next.
    """
    if (depth := _depth(hint)) > 1:
        return _MATRICES
    return [((one,) if depth else one) for one in (small, large)] + [(one,) * 2 for one in (small, large)]


def choices(hint: Any) -> list[Any]:
    """The choices of an annotation; none if it is not one of choices.

    Args:
        hint: The annotation.
    """
    return [choice for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal for choice in get_args(kind)]


def is_whole(hint: Any) -> bool:
    """Whether an annotation is that of an open whole number.

    Args:
        hint: The annotation.
    """
    return any(kind is int or get_args(kind)[:1] == (int,) for kind in get_args(hint))


def _opened(hint: Any) -> Sequence[Any]:
    """Values for what is open, within the bounds of a single number."""
    if depth := _depth(hint):
        return (_COLUMNS, _MATRICES)[min(depth, 2) - 1]
    low, high = _bounds(hint)
    if is_whole(hint):
        return _SIZES if low < min(_SIZES) else [int(low) + more for more in _SIZES]
    if all(low < one < high for one in _OPEN):
        return (*_OPEN, 0.0)
    return [_between(low, high, share) for share in _OPEN]


def _between(low: float, high: float, share: float) -> float:
    if math.isfinite(low) and math.isfinite(high):
        return low + share * (high - low)
    end, sign = (low, 1) if math.isfinite(low) else (high, -1)
    return end + sign * share * max(1.0, abs(end))


def _bounds(hint: Any) -> tuple[float, float]:
    """The bounds of a number or of an open one, infinite where there are none."""
    low, high = -math.inf, math.inf
    for bound in _metadata(hint):
        for name in ("gt", "ge"):
            if (end := getattr(bound, name, None)) is not None:
                low = max(low, float(end))
        for name in ("lt", "le"):
            if (end := getattr(bound, name, None)) is not None:
                high = min(high, float(end))
    return low, high


def _metadata(hint: Any) -> Iterator[Any]:
    yield from (each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Gt | Ge | Lt | Le | Interval))
    for kind in get_args(hint):
        yield from _metadata(kind)


def _depth(hint: Any) -> int:
    """How many lists lie in one another: 1 for a list of numbers."""
    inner = max(map(_depth, get_args(hint)), default=0)
    return inner + (Ellipsis in get_args(hint))
