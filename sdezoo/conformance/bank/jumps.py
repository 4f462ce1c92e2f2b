"""Jumps of functions on a line, found by halving intervals that differ from those around them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

LINES = 8
"""Number of functions that are followed at once."""
_PLACES, _LIKELY, _TRIED, _HALVINGS, _APART = 192, 30.0, 3, 32, 4
"""Places on each line; how far below its peak a density counts, in nats; how many intervals of a line are halved, how often, and how many
intervals away the farther neighbours are."""
_AROUND = (-2, -1, 2, 3)
"""Places around an interval, which goes from 0 to 1."""


def largest_jump(along: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """The largest jump of functions on [0, 1], and where: intervals that differ most from neighbours, or from farther ones, are halved.

    Args:
        along: Takes places `(LINES k,)`, one for each of the functions in turn; returns their values there, in nats.

    Returns:
        The jump, in nats, and its place.
    """
    places = torch.linspace(0, 1, _PLACES, dtype=torch.float64)
    values = along(places.repeat_interleave(LINES)).reshape(_PLACES, LINES)
    known = values.isfinite()
    known &= values > torch.where(known, values, -math.inf).amax(0) - _LIKELY
    change = torch.where(known[1:] & known[:-1], values.diff(dim=0), torch.nan)
    odd = (change[2:-2] - (4 * (change[1:-3] + change[3:-1]) - change[:-4] - change[4:]) / 6).abs().nan_to_num(0.0)
    around = torch.nn.functional.pad(odd, (0, 0, _APART, _APART))
    alone = odd / (torch.maximum(around[: -2 * _APART], around[2 * _APART :]) + 1e-9)  # a small jump, where others change fast
    first = (torch.cat([each.topk(_TRIED, 0).indices for each in (odd, alone)]) + 2).flatten()
    return _halved(along, values, first)


def _halved(along: Callable[[Tensor], Tensor], values: Tensor, first: Tensor) -> tuple[float, float]:
    """The largest jump in the intervals that begin at the places `first`, and where; each half is kept that changes more."""
    # A large jump changes more than the function itself does. A small one shows once the cubic through the points around is taken off.
    taken_off = torch.tensor([0.0, 1.0]).repeat_interleave(len(first))
    first, lines = first.repeat(2), torch.arange(LINES).repeat(4 * _TRIED)
    places, around = torch.linspace(0, 1, _PLACES, dtype=torch.float64), [values[first + k, lines] for k in _AROUND]
    low, high, f, g = places[first], places[first + 1], values[first, lines], values[first + 1, lines]
    start = low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        here = along(middle)
        a, b, c = (taken_off * _cubic((u - start) * (_PLACES - 1), around).nan_to_num(0.0) for u in (low, middle, high))
        left = (here - f - b + a).abs() > (g - here - c + b).abs()
        low, high = torch.where(left, low, middle), torch.where(left, middle, high)
        f, g = torch.where(left, f, here), torch.where(left, here, g)
    jumps = (g - f).abs().nan_to_num(0.0)
    return float(jumps.max()), float(low[jumps.argmax()])


def _cubic(u: Tensor, values: list[Tensor]) -> Tensor:
    """The cubic through `values` at the places `_AROUND`, at `u`."""
    found = torch.zeros_like(u)
    for k, value in zip(_AROUND, values, strict=True):
        factors = [(u - j) / (k - j) for j in _AROUND if j != k]
        found = found + value * factors[0] * factors[1] * factors[2]
    return found
