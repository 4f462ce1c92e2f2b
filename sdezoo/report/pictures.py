"""Drawings of a report, in middle greys and two colours, for light and dark pages."""

from __future__ import annotations

import io

from sdezoo.plots import Figure, save_drawing


def drawing(figure: Figure) -> bytes:
    """A figure as SVG.

    Args:
        figure: the figure.
    """
    buffer = io.BytesIO()
    save_drawing(figure, buffer)
    return buffer.getvalue()
