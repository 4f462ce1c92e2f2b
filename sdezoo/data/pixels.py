"""Levels of images as they are used: binary masks stored as 0 and 255 have two levels, and not 256."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from sdezoo.data.dataset import Data

_BYTE, _DEEP = 255, 4095
_DARK = 8
"""Images are noted as dark if no pixel is above this part of the largest that their type can hold."""
_IMAGES = 64  # images of a block


def examined(data: Data) -> Data:
    """Give images the coarsest levels that all pixels have, and note those of which all pixels are dark.

    The levels stay above 255 if they were: images of 16 bits are written with 16 bits.

    Args:
        data: images in memory; other data stay as they are.
    """
    if data.kind != "image" or data.levels is None or data.stored is not None:
        return data
    stored, common = data.levels, 0
    for block in _blocks(data):
        common = math.gcd(common, *(block * stored).round().long().unique().tolist())
        if common == 1:
            break
    coarse = stored // common if common and stored % common == 0 else stored
    if (coarse > _BYTE) == (stored > _BYTE):
        data = replace(data, levels=coarse)
    brightest = max(float(block.max()) for block in _blocks(data))
    if 0 < brightest <= 1 / _DARK and data.maximum is None:
        level = round(brightest * stored)
        deep = ", or maximum=4095 of 12 bits" if _BYTE < level <= _DEEP else ""
        note = f"No pixel is above {level} of {stored}. If pixels cannot be brighter, give the dataset maximum={level}{deep}."
        data = replace(data, notes=(*data.notes, note))
    return data


def _blocks(data: Data) -> Iterator[Tensor]:
    return (block for part in (data.train, data.test) for block in part.split(_IMAGES) if len(block))
