"""Pictures of samples: image grids, scatter plots, histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdezoo.data.bounds import nearest_levels
from sdezoo.plots import Figure, label, plain

_PICTURE = 512  # largest size in pixels that a grid is enlarged to
_PANELS = 36  # most histograms in one picture
_GAP = 0.5  # the grey between images


def sheet(images: Tensor, levels: int | None, columns: int | None = None) -> Image.Image:
    """Draw a grid of images, clamped to [0, 1], rounded to the data's lattice, and enlarged by an integer factor.

    Args:
        images: `(n, C, H, W)`, float32 on the CPU. Unless C is 1, 3 or 4, each channel becomes a grey image.
        levels: lattice of the data: values are multiples of 1/levels; None: 255.
        columns: columns of the grid; None: nearly square.
    """
    levels = levels or 255
    if images.shape[1] not in (1, 3, 4):
        images = images.flatten(0, 1)[:, None]
    pixels = _grid(nearest_levels(images, levels), columns)
    factor = max(1, _PICTURE // max(pixels.shape[1:]))
    enlarged = pixels.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    array = (enlarged * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)


def _grid(images: Tensor, columns: int | None) -> Tensor:
    """Arrange (n, C, H, W) row by row into (C, rows · (H + 1) + 1, columns · (W + 1) + 1), with gaps of one pixel."""
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    grid = torch.full((channels, rows * (height + 1) + 1, columns * (width + 1) + 1), _GAP)
    for i, image in enumerate(images):
        top, left = i // columns * (height + 1) + 1, i % columns * (width + 1) + 1
        grid[:, top : top + height, left : left + width] = image
    return grid


@plain()
def figure(values: np.ndarray, names: Sequence[str]) -> Figure:
    """Plot samples: a scatter plot if there are two columns, else a histogram of each of the first 36 columns.

    Args:
        values: rows `(n, d)`, float32, finite.
        names: the `d` column names.
    """
    if values.shape[1] == 2:
        plane = Figure(figsize=(5, 5), layout="constrained")
        axes = plane.subplots()
        axes.scatter(values[:, 0], values[:, 1], s=4, alpha=0.5, linewidths=0)
        axes.set(xlabel=label(names[0]), ylabel=label(names[1]))
        return plane
    shown = min(values.shape[1], _PANELS)
    columns = math.ceil(math.sqrt(shown))
    rows = math.ceil(shown / columns)
    panels = Figure(figsize=(2.4 * columns, 2 * rows), layout="constrained")
    if shown < values.shape[1]:
        panels.suptitle(f"the first {shown} of {values.shape[1]} columns")
    for i in range(shown):
        axes = panels.add_subplot(rows, columns, i + 1)
        axes.hist(values[:, i].astype(np.float64), bins=30)
        axes.set_title(label(names[i]), fontsize=8)
        axes.tick_params(labelsize=6)
    return panels
