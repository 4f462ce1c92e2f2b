"""Drawings of a report, in middle greys and two colours, for light and dark pages."""

from __future__ import annotations

import io
from collections.abc import Callable

from sdezoo.errors import SdezooError
from sdezoo.plots import Figure, save_drawing


def drawing(figure: Figure) -> bytes:
    """A figure as SVG.

    Args:
        figure: the figure.
    """
    buffer = io.BytesIO()
    save_drawing(figure, buffer)
    return buffer.getvalue()


Drawn = tuple[bytes | None, str]
"""A picture as SVG, and what is drawn; or None, and the reason."""


def or_reason(draw: Callable[[], Drawn]) -> Drawn:
    """Draw paths, or say why they could not be drawn.

    Args:
        draw: draws them.
    """
    try:
        return draw()
    except SdezooError as error:
        return None, error.problem
    except Exception as error:  # a third party's process or sampler may raise anything, and the page is made without its picture
        return None, f"Its paths could not be drawn ({type(error).__name__}: {error})."
