"""Pictures of sampling trajectories, from the prior to the samples: an animation, or a strip of frames.

A state `z_t` is shown as the data `φ(z_t)` that it would decode to at `t = 0`, in the user's units. Early states lie far outside the range
of the data, some outside the range of float32. Images are clamped in the picture. Points outside the frame (the range of the data plus a
quarter on each side) are not visible. The samples themselves are unaffected.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdezoo.errors import RunError
from sdezoo.generation.export import check_place
from sdezoo.generation.pictures import sheet
from sdezoo.generation.samples import Draw, SampleIndices
from sdezoo.plots import Axes, Figure, label, plain, save
from sdezoo.process.noise import KeyedNoise
from sdezoo.store.files import atomic_write

_MOMENTS = {".gif": 48, ".png": 8}  # most frames
_IMAGES = {".gif": 64, ".png": 8}  # most images shown
_POINTS = 1000  # most points shown
_MILLISECONDS, _REST = 80, 1500  # duration of a frame, and of the last one
_MARGIN = 0.25


def check_trajectory(path: Path, out: Path, overwrite: bool = False) -> None:
    """Check that a trajectory can be written to `path`, without writing. Call it before sampling.

    Args:
        path: file of the trajectory.
        out: file of the samples.
        overwrite: whether an existing file may be replaced.

    Raises:
        RunError: if `path` does not end in .gif or .png, equals `out`, or cannot be written to.
    """
    if path.suffix.lower() not in _MOMENTS:
        raise RunError(f"A trajectory cannot be written to '{path}'.", "Give a name that ends in .gif or .png.")
    if path.absolute() == out.absolute():
        raise RunError(f"'{path}' is given for both the samples and their trajectory.", "Give --trajectory another name than --out.")
    check_place(path, overwrite)


def record(draw: Draw, path: Path) -> int:
    """Draw the first samples again, with the same noise, and write a picture of their trajectories.

    - `.gif`: up to 48 frames, evenly spaced in steps, of the first 64 images or 1000 points.
    - `.png`: up to 8 frames, of 8 images, one a row, or 1000 points.

    Data with more than two columns show the first two; data with one column show a histogram. Only the states shown are kept in memory.

    Args:
        draw: specification of the samples.
        path: output file.

    Returns:
        The number of samples shown.

    Raises:
        RunError: if `path` cannot be written.
        SupportError: if the sampler leaves the support.
    """
    ending, state = path.suffix.lower(), draw.trained.state
    count = min(len(draw.rows), _IMAGES[ending] if state.kind == "image" else _POINTS)
    frames = _frames(draw, count, _MOMENTS[ending])
    moving = ending == ".gif"
    if state.kind == "image":
        pictures = [sheet(x, state.levels) for x in frames] if moving else [_rows(frames, state.levels)]
    else:
        plot = _Plot(draw)
        pictures = (plot.picture([x]) for x in frames) if moving else [plot.picture(frames)]
    first, *others = pictures
    with atomic_write(path, "Give --trajectory another place.") as file:
        if moving:
            rests = [_MILLISECONDS] * len(others) + [_REST]
            first.save(file, format="GIF", save_all=True, append_images=others, duration=rests, loop=0)
        else:
            first.save(file, format="PNG")
    return count


def _frames(draw: Draw, count: int, moments: int) -> list[Tensor]:
    """Compute up to `moments` frames of `count` samples, float32 on the CPU in the user's units, from the start to the last step."""
    view, event = draw.sampler.view(draw.trained.model), draw.trained.encoded_event
    kept: dict[int, list[Tensor]] = {round(k): [] for k in np.linspace(0, draw.taken, min(moments, draw.taken + 1))}

    def keep(k: int, z: Tensor, _: Tensor | None = None) -> None:
        if k in kept:
            kept[k].append(draw.trained.encoding.decode(view.sde.decode_unchecked(z).float().cpu()))

    for rows in _cut(draw.rows, count, draw.batch):
        like, noise = torch.empty((), device=draw.device), KeyedNoise(draw.seed, rows)
        with torch.no_grad():
            keep(0, draw.start.states(view, (len(rows), *event), list(rows), noise, like))
        draw.sample(rows, keep)
    return [torch.cat(parts) for parts in kept.values()]


def _cut(rows: SampleIndices, count: int, size: int) -> Iterator[SampleIndices]:
    for start in range(0, count, size):
        yield rows.cut(start, min(start + size, count))


def _rows(frames: list[Tensor], levels: int | None) -> Image.Image:
    """Arrange one sample a row and one frame a column. Images with 2 or more than 4 channels show their channels side by side."""
    images = torch.stack(frames, 1)
    channels = images.shape[2]
    return sheet(images.flatten(0, 1), levels, columns=len(frames) * (1 if channels in (1, 3, 4) else channels))


class _Plot:
    """Plots of points or tables, with the same axis limits in every frame."""

    def __init__(self, draw: Draw) -> None:
        state = draw.trained.state
        columns = state.event[0]
        low, high = (np.broadcast_to(np.asarray(bound, dtype=np.float64), (columns,)) for bound in state.range)
        margin = _MARGIN * np.where(high > low, high - low, 1)
        self._limits = list(zip(low - margin, high + margin, strict=True))
        self._names = [label(name) for name in state.columns] or [f"x{i}" for i in range(columns)]

    @plain()
    def picture(self, frames: list[Tensor]) -> Image.Image:
        figure = Figure(figsize=(4 if len(frames) == 1 else 2.2 * len(frames), 4 if len(frames) == 1 else 2.4), layout="constrained")
        for i, x in enumerate(frames):
            self._draw(figure.add_subplot(1, len(frames), i + 1), x.double().numpy(), labelled=i == 0)
        buffer = io.BytesIO()
        save(figure, buffer, 100)
        return Image.open(buffer).convert("RGB")

    def _draw(self, axes: Axes, values: np.ndarray, *, labelled: bool) -> None:
        across, *rest = self._limits
        axes.set_xlim(across)
        axes.set_xlabel(self._names[0])
        axes.tick_params(labelsize=7, labelleft=labelled)
        if not rest:
            axes.hist(values[:, 0], bins=40, range=across)
            return
        axes.set_ylim(rest[0])
        axes.set_ylabel(self._names[1] if labelled else "")
        axes.scatter(values[:, 0], values[:, 1], s=4, alpha=0.5, linewidths=0)
