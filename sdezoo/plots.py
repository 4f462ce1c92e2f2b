"""Plots by matplotlib, which no other module imports: the same whatever the working folder and the names of the data hold.

On import, matplotlib reads a file `matplotlibrc` of the working folder, which may be somebody else's. Such a file may have every text
set by LaTeX, another program. Here matplotlib is imported without it, and draws with its own defaults.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import BinaryIO

from sdezoo.errors import printable

if "matplotlib" not in sys.modules and Path("matplotlibrc").exists():
    with chdir(Path(__file__).parent):
        import matplotlib as mpl
else:
    import matplotlib as mpl

from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

__all__ = ["FIRST", "GREY", "SECOND", "Axes", "Figure", "SubFigure", "colormaps", "label", "plain", "save", "save_drawing", "shade", "tidy"]

GREY, FIRST, SECOND = "#808890", "#3a86d8", "#e07b39"
"""Colours that are readable on white and on black: of axes and text, and of two lines."""

_LONGEST = 200


@contextmanager
def plain() -> Iterator[None]:
    """Draw with matplotlib's own defaults in the block, or in a function that this decorates."""
    with style.context("default"), mpl.rc_context({"text.usetex": False}):
        yield


def label(text: str) -> str:
    """Turn text into a label that shows it as it is, cut if it is very long.

    Args:
        text: text of a user's, such as the name of a column. Dollar signs begin no formula, and control characters are shown as in Python.
    """
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return printable(shown).replace("$", r"\$")


@plain()
def save(figure: Figure, file: BinaryIO, dpi: float | None = None) -> None:
    """Write a figure as a PNG.

    Args:
        figure: the figure.
        file: the output.
        dpi: resolution in dots per inch; None: the figure's own.
    """
    figure.savefig(file, format="png", dpi="figure" if dpi is None else dpi, pil_kwargs={"optimize": True})


def save_drawing(figure: Figure, file: BinaryIO) -> None:
    """Write a figure as an SVG on no background, text as outlines: the same bytes for the same figure, and no reference to anything else.

    Args:
        figure: the figure.
        file: the output.
    """
    with style.context("default"), mpl.rc_context({"text.usetex": False, "svg.hashsalt": "sdezoo", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))


def shade(k: int, count: int) -> tuple[float, float, float, float]:
    """The colour of one line of several in an order, from blue to green, readable on white and on black.

    Args:
        k: the line, from 0.
        count: number of lines.
    """
    return colormaps["viridis"](0.3 + 0.45 * k / max(count - 1, 1))


def tidy(axes: Axes, title: str) -> None:
    """Set a title, and colour what is no data grey.

    Args:
        axes: a panel.
        title: its title.
    """
    axes.set_title(title, fontsize=9, color=GREY)
    axes.tick_params(colors=GREY, labelsize=8)
    axes.xaxis.label.set_color(GREY)
    axes.yaxis.label.set_color(GREY)
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_color(GREY)
        spine.set_visible(side in ("left", "bottom"))
