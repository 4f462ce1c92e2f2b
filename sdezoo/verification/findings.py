"""Findings: measured numbers with their bounds, and the curves that they come from."""

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
    """One number of a verification, with the bounds that are expected of it."""

    part: str
    """Part of the verification, for example `strong order`."""
    what: str
    """What is measured."""
    value: float | None = None
    """The number. None: it does not apply, and `note` says why. NaN: it could not be measured, which is a failure."""
    low: float | None = None
    """Lower bound; None: none."""
    high: float | None = None
    """Upper bound; None: none."""
    error: float | None = None
    """Its standard error, if it is an average over samples."""
    note: str = ""
    """Remark for the table."""

    @property
    def outcome(self) -> Outcome:
        """`off` if the value is outside its bounds or NaN; `measured` if it has no bounds."""
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
        """As a dictionary that can be written as JSON."""
        fields = {key: number(value) if isinstance(value, float) else value for key, value in vars(self).items()}
        return fields | {"expected": self.expected, "outcome": self.outcome}


@dataclass(frozen=True)
class Curve:
    """Errors against a number of steps or evaluations."""

    part: str
    """Part of the verification that it belongs to."""
    name: str
    """Name of the method or sampler."""
    x: Sequence[float]
    """Numbers of steps or evaluations."""
    y: Sequence[float | None]
    """The errors; None if there is none, and `note` says why."""
    note: str = ""
    """Remark."""

    def record(self) -> dict[str, Any]:
        """As a dictionary that can be written as JSON."""
        return {**vars(self), "x": list(self.x), "y": [None if y is None else number(y) for y in self.y]}


def columns(curves: Sequence[Curve]) -> tuple[list[float], list[dict[float, float | None]]]:
    """Arrange curves in the columns of a table.

    A method with two evaluations per step may stop one short of a round count; its value goes into the column of that count.

    Args:
        curves: The curves.

    Returns:
        The numbers that head the columns, and for each curve a dictionary from these numbers to errors.
    """
    heads = list(max((curve.x for curve in curves), key=sum, default=()))
    return heads, [
        {min((head for head in heads if head >= x), default=heads[-1]): y for x, y in zip(curve.x, curve.y, strict=True)}
        for curve in curves
    ]


@dataclass
class Part:
    """The results of one part of a verification."""

    findings: list[Finding] = field(default_factory=list)
    """The measured numbers."""
    curves: list[Curve] = field(default_factory=list)
    """The curves behind them."""
    setting: dict[str, str] = field(default_factory=dict)
    """The data and times that it was measured on, in words."""


def number(value: float) -> float | None:
    """`value` if it is finite, else None: JSON has no NaN."""
    return value if math.isfinite(value) else None


def order(steps: Sequence[int], errors: Tensor) -> float:
    """The order of convergence: the slope of `−log error` over `log steps`, by least squares.

    Args:
        steps: Numbers of steps.
        errors: Error at each of them, `(len(steps),)`.
    """
    x = torch.tensor(steps, dtype=torch.float64).log()
    x = x - x.mean()
    return -float((x * errors.log()).sum() / (x**2).sum())


def order_with_error(steps: Sequence[int], rows: Tensor, groups: int = 8) -> tuple[float, float]:
    """The order of averaged errors, and its standard error.

    Args:
        steps: Numbers of steps.
        rows: Error of each path at each of them, `(len(steps), B)`.
        groups: Number of groups of paths; the standard error is that of the orders of separate groups.
    """
    apart = torch.tensor([order(steps, group.mean(1)) for group in rows.chunk(groups, 1)])
    return order(steps, rows.mean(1)), float(apart.std() / math.sqrt(len(apart)))
