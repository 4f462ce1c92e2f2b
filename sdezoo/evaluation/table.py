"""Measures as text and for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from sdezoo.evaluation.suite import Measured

_HEADS = ("samples", "95 % interval", "real rows", "ideal")


def text(measured: Sequence[Measured]) -> str:
    """Return a table, one measure per line, with a heading for each group."""
    lines = [[m.name, number(m.value), _interval(m), "" if m.floor is None else number(m.floor), number(m.best)] for m in measured]
    widths = [max(len(line[k]) for line in [["", *_HEADS], *lines]) for k in range(5)]
    parts = []
    for group, members in groupby(zip(measured, lines, strict=True), key=lambda pair: pair[0].group):
        parts += ["", _row([group, *_HEADS], [max(widths[0], len(group) - 2) + 2, *widths[1:]])]
        parts += ["  " + _row(line, [max(widths[0], len(group) - 2), *widths[1:]]) for _, line in members]
    return "\n".join(parts[1:]) + "\n"


def record(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return the measures for JSON."""
    return [asdict(m) for m in measured]


def number(value: float) -> str:
    """Format with about three significant digits, and at least two decimals below 10; NaN is a dash."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if value and abs(value) < 5e-3:
        return f"{value:.1e}"
    digits = 3 - math.ceil(math.log10(max(abs(value), 1e-1)))
    return f"{value:.{min(max(digits, 0), 3)}f}"


def _interval(m: Measured) -> str:
    return "" if m.interval is None else f"{number(m.interval[0])} … {number(m.interval[1])}"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(cells, widths, strict=True)))
    return "  ".join([first, *rest]).rstrip()
