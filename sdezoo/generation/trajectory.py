"""The way from the prior to the samples, as a picture: an animation of all samples, or a strip of moments.

A state `z_t` is shown as the data `φ(z_t)` that it would be at `t = 0`, in the user's units. Early states lie far outside the range
of the data, some outside of what float32 can hold. Images saturate in the picture; points outside its frame, the range of the
data and a quarter more on each side, are not seen. The samples themselves are not touched.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from sdezoo.errors import RunError
from sdezoo.generation.export import check_place
from sdezoo.generation.pictures import sheet
from sdezoo.generation.samples import Draw, SampleIndices
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import KeyedNoise
from sdezoo.process.process import Process
from sdezoo.store.files import atomic_write

_MOMENTS = {".gif": 48, ".png": 8}  # frames at most
_IMAGES = {".gif": 64, ".png": 8}  # samples at most
_POINTS = 1000  # likewise
_MILLISECONDS, _REST = 80, 1500  # that a frame stays, and the last one
_MARGIN = 0.25


def check_trajectory(path: Path, out: Path, overwrite: bool = False) -> None:
    """Whether a trajectory can be written to `path` beside samples in `out`; to be asked before any work is done.

    Raises:
        RunError: another ending than .gif or .png, a path that is `out`, or a place that cannot be written to.
    """
    if path.suffix.lower() not in _MOMENTS:
        raise RunError(f"A trajectory cannot be written to '{path}'.", "Give a name that ends in .gif or .png.")
    if path.absolute() == out.absolute():
        raise RunError(f"'{path}' is to hold both the samples and their trajectory.", "Give --trajectory another name than --out.")
    check_place(path, overwrite)


def record(draw: Draw, path: Path) -> int:
    """Draw the first samples again, with the same numbers, and write their way to `path`; how many samples it shows.

    - `.gif`: up to 48 moments, evenly spaced in steps, of the first 64 images or 1000 points.
    - `.png`: up to 8 moments, of 8 images, one a row, or 1000 points.

    Of data with more than two columns the first two are shown, of a single one a histogram. No states but those shown are kept.

    Raises:
        RunError: where `path` cannot be written.
        SupportError: where the sampler leaves the support.
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
    """Data of `count` samples, float32 on the CPU in the user's units, from the prior to the last step."""
    view, event = draw.sampler.view(draw.trained.model), draw.trained.encoded_event
    kept: dict[int, list[Tensor]] = {round(k): [] for k in np.linspace(0, draw.steps, min(moments, draw.steps + 1))}

    def keep(k: int, z: Tensor, _: Tensor | None = None) -> None:
        if k in kept:
            kept[k].append(draw.trained.encoding.decode(_shown(view.sde, z).float().cpu()))

    for rows in _cut(draw.rows, count, draw.batch_size):
        with torch.no_grad():
            keep(0, view.prior((len(rows), *event), KeyedNoise(draw.seed, rows), torch.empty((), device=draw.device)))
        draw.sample(rows, keep)
    return [torch.cat(parts) for parts in kept.values()]


def _cut(rows: SampleIndices, count: int, size: int) -> Iterator[SampleIndices]:
    for start in range(0, count, size):
        yield rows.cut(start, min(start + size, count))


def _shown(sde: Process, z: Tensor) -> Tensor:
    # `decode` would refuse what lies outside of float32, which a picture saturates.
    x = sde.coordinates(z) if isinstance(sde, AffineSDE) else sde.decode(z)
    assert isinstance(x, Tensor)
    return x


def _rows(frames: list[Tensor], levels: int | None) -> Image.Image:
    """One sample a row, one moment a column; the channels of other images than grey or coloured ones lie side by side."""
    images = torch.stack(frames, 1)
    channels = images.shape[2]
    return sheet(images.flatten(0, 1), levels, columns=len(frames) * (1 if channels in (1, 3, 4) else channels))


class _Plot:
    """Samples of points or tables, in a frame that is the same at each moment."""

    def __init__(self, draw: Draw) -> None:
        state = draw.trained.state
        columns = state.event[0]
        low, high = (np.broadcast_to(np.asarray(bound, dtype=np.float64), (columns,)) for bound in state.range)
        margin = _MARGIN * np.where(high > low, high - low, 1)
        self._limits = list(zip(low - margin, high + margin, strict=True))
        self._names = list(state.columns) or [f"x{i}" for i in range(columns)]

    def picture(self, frames: list[Tensor]) -> Image.Image:
        figure = Figure(figsize=(4 if len(frames) == 1 else 2.2 * len(frames), 4 if len(frames) == 1 else 2.4), layout="constrained")
        for i, x in enumerate(frames):
            self._draw(figure.add_subplot(1, len(frames), i + 1), x.double().numpy(), labelled=i == 0)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
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
