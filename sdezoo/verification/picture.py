"""The plot of a verification: strong errors against steps, and sample errors against evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from sdezoo.plots import Axes, Figure, colormaps, label, plain, save
from sdezoo.store.files import atomic_write
from sdezoo.verification.cross_check import STRONG
from sdezoo.verification.efficiency import ERROR, FLOOR
from sdezoo.verification.findings import Curve
from sdezoo.verification.verify import Verification

_MARKS = "osv^D<>Phd*"
_COLOURS = [*colormaps["tab20"].colors[::2], *colormaps["tab20"].colors[1::2]]  # pyright: ignore[reportAttributeAccessIssue]


@plain()
def draw(verification: Verification, path: Path) -> bool:
    """Plot a verification as a PNG.

    Args:
        verification: The results.
        path: File to write.

    Returns:
        False, and no file, if there is nothing to plot.
    """
    strong = [curve for curve in verification.curves if curve.part == STRONG]
    spent = [curve for curve in verification.curves if curve.part == ERROR]
    panels = [(curves, fill) for curves, fill in ((strong, _strong), (spent, _spent)) if curves]
    if not panels:
        return False
    figure = Figure(figsize=(5.6 * len(panels), 4.2), dpi=80, layout="constrained")
    for k, (_, fill) in enumerate(panels, start=1):
        fill(figure.add_subplot(1, len(panels), k), verification)
    figure.suptitle(label(verification.spec))
    with atomic_write(path, "Give --out another place.") as file:
        save(figure, file)
    return True


def _strong(axes: Axes, verification: Verification) -> None:
    curves = [curve for curve in verification.curves if curve.part == STRONG]
    _lines(axes, curves)
    first = min(curve.x[0] for curve in curves)
    last = max(curve.x[-1] for curve in curves)
    heights = [y for curve in curves for y in curve.y if y]
    top, bottom = max(heights), min(heights)
    for order, name in ((0.5, "½"), (1.0, "1"), (1.5, "1½")):
        end = top * (last / first) ** -order
        axes.plot([first, last], [top, end], color="0.8", lw=1, zorder=0)
        axes.annotate(name, (last, end), (3, 0), textcoords="offset points", color="0.5", fontsize=8, va="center")
    axes.set(yscale="log", xlabel="steps", ylabel="mean |x_h − x| at the end", title="strong order", ylim=(bottom / 30, 2 * top))
    axes.set_xscale("log", base=2)
    axes.legend(fontsize=7, loc="lower left")


def _spent(axes: Axes, verification: Verification) -> None:
    curves = [curve for curve in verification.curves if curve.part == ERROR]
    floor = verification.finding(ERROR, FLOOR)
    if floor.value:
        spread = floor.error or 0.0
        axes.axhspan(max(floor.value - spread, floor.value / 10), floor.value + spread, color="0.92", zorder=0)
        axes.axhline(floor.value, color="0.6", lw=1, zorder=0, label="samples of the data")
    _lines(axes, curves)
    top = max((y for curve in curves for y in curve.y if y), default=1.0)
    for curve in curves:
        lost = [x for x, y in zip(curve.x, curve.y, strict=True) if y is None]
        if lost:
            axes.plot(lost, [1.6 * top] * len(lost), "x", color="0.3", ms=5, label=f"{label(curve.name)} left the support")
    axes.set(xscale="log", yscale="log", xlabel="evaluations of the score", ylabel="Wasserstein-1 to the data", title="samples")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _lines(axes: Axes, curves: Sequence[Curve]) -> None:
    """Plot curves that agree as one line, so that none is hidden behind another."""
    axes.set_prop_cycle(color=_COLOURS)
    groups: list[list[Curve]] = []
    for curve in curves:
        if any(y is not None for y in curve.y):
            like = next((group for group in groups if _agree(group[0], curve)), None)
            if like is None:
                groups.append([curve])
            else:
                like.append(curve)
    for group, mark in zip(groups, cycle(_MARKS), strict=False):
        y = [math.nan if value is None else value for value in group[0].y]
        axes.plot(list(group[0].x), y, marker=mark, ms=4, lw=1.2, label="\n= ".join(label(curve.name) for curve in group))


def _agree(a: Curve, b: Curve) -> bool:
    return list(a.x) == list(b.x) and all(p == q or (p and q and abs(p - q) < 1e-3 * q) for p, q in zip(a.y, b.y, strict=True))
