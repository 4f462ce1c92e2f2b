"""Findings: measured numbers beside what is expected of them, and the curves that they were read off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Outcome = Literal["ok", "off", "measured", "does not apply"]


@dataclass(frozen=True)
class Finding:
    """One number of a verification; its bounds are what is expected of it, where something is."""

    part: str
    """What it belongs to, for example `strong order`."""
    what: str
    value: float | None = None
    """None: it does not apply, and `note` says why; not a number: it could not be measured, which is a failure."""
    low: float | None = None
    high: float | None = None
    error: float | None = None
    """Its standard error, where it is an average over draws."""
    note: str = ""

    @property
    def outcome(self) -> Outcome:
        """`off` where the value is outside its bounds; `measured` where none are set."""
        if self.value is None:
            return "does not apply"
        if math.isnan(self.value):
            return "off"
        if self.low is None and self.high is None:
            return "measured"
        return "ok" if (self.low or -math.inf) <= self.value <= (math.inf if self.high is None else self.high) else "off"

    @property
    def expected(self) -> str:
        """The bounds in words."""
        if self.low is None:
            return "" if self.high is None else f"≤ {self.high:.2g}"
        if self.high is None:
            return f"≥ {self.low:.3g}"
        return f"{(self.low + self.high) / 2:.2g} ± {(self.high - self.low) / 2:.2g}"

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        fields = {key: number(value) if isinstance(value, float) else value for key, value in vars(self).items()}
        return fields | {"expected": self.expected, "outcome": self.outcome}


@dataclass(frozen=True)
class Curve:
    """Errors over sizes: of steps, or counts of evaluations; None where there is no number, and `note` says why."""

    part: str
    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    note: str = ""

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**vars(self), "x": list(self.x), "y": [None if y is None else number(y) for y in self.y]}


def columns(curves: Sequence[Curve]) -> tuple[list[float], list[dict[float, float | None]]]:
    """The sizes that a table of `curves` has columns for, and each curve by column.

    What takes two evaluations a step stops one short of a round count, and stands in its column all the same.
    """
    heads = list(max((curve.x for curve in curves), key=sum, default=()))
    return heads, [
        {min((head for head in heads if head >= x), default=heads[-1]): y for x, y in zip(curve.x, curve.y, strict=True)}
        for curve in curves
    ]


@dataclass
class Part:
    """What one part of a verification found."""

    findings: list[Finding] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    setting: dict[str, str] = field(default_factory=dict)
    """What it was measured on, in words."""


def number(value: float) -> float | None:
    """`value` as JSON can hold it."""
    return value if math.isfinite(value) else None


def order(steps: Sequence[int], errors: Tensor) -> float:
    """The slope of `−log error` over `log steps`, by least squares."""
    x = torch.tensor(steps, dtype=torch.float64).log()
    x = x - x.mean()
    return -float((x * errors.log()).sum() / (x**2).sum())


def order_with_error(steps: Sequence[int], rows: Tensor, groups: int = 8) -> tuple[float, float]:
    """The order of the row averages of `rows` `(levels, B)`, and its standard error, from that of separate groups of rows."""
    apart = torch.tensor([order(steps, group.mean(1)) for group in rows.chunk(groups, 1)])
    return order(steps, rows.mean(1)), float(apart.std() / math.sqrt(len(apart)))
