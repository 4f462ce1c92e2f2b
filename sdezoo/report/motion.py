"""The motion of a trained model: paths of its process from data to noise, and of its sampler from noise to samples.

One entry of a row is drawn, in the user's units: the first column that holds numbers, of images the pixel that varies most. Paths from
data begin at samples of the model, so that the data themselves need not be there. A process that is no SDE is drawn at several times
with the same noise.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler
from sdezoo.learning.paths.simulated import is_simulated
from sdezoo.plots import GREY, Axes, Figure, label, plain, shade, tidy
from sdezoo.process.noise import KeyedNoise
from sdezoo.process.sde import ForwardSDE
from sdezoo.report.pictures import Drawn, drawing, or_reason
from sdezoo.store.restoring import Trained, restore

_PATHS, _STEPS, _SAMPLER_STEPS = 24, 60, 40
_WIDE, _FAR = 20.0, 12.0  # ranges from which an axis is logarithmic


def motion(run: Path) -> Drawn:
    """Draw the paths of a model.

    Args:
        run: the run folder.

    Returns:
        The picture as SVG, and what is drawn. None, and the reason, if there is none.
    """
    return or_reason(lambda: _motion(restore(run)))


@torch.no_grad()
def _motion(trained: Trained) -> Drawn:
    if is_simulated(trained.model):
        return (
            None,
            "This model has learned an SDE from paths, so no noise is turned into samples. Draw paths: sdezoo sample RUN --out new.npz.",
        )
    sampler = choose_sampler(trained, None)
    draw = Draw(trained, sampler, SampleIndices.first(_PATHS), _SAMPLER_STEPS, label="each" if trained.state.classes else None)
    view, rows = sampler.view(trained.model), list(range(_PATHS))
    start = draw.start.states(view, (_PATHS, *trained.encoded_event), rows, KeyedNoise(0, rows), torch.empty(()))
    seen = [(view.sde.t_span[1], _shown(trained, view.sde.decode_unchecked(start)))]
    x0 = draw.sample(draw.rows, lambda _k, z, t: seen.append((float(t), _shown(trained, view.sde.decode_unchecked(z)))))
    times, backward = [t for t, _ in seen], torch.stack([x for _, x in seen])
    noised, forward = _forward(trained, x0)
    place = _entry(trained, backward[-1])
    back, on = backward[:, :, place].double().numpy(), forward[:, :, place].double().numpy()
    figure = _figure((noised, on), (times, back), sampler.spec)
    name = _name(trained, place)
    how = "paths of the process" if isinstance(trained.model.sde, ForwardSDE) else "states with the same noise at all times"
    return drawing(figure), f"{name}: {how} from {_PATHS} samples to noise, and {sampler.spec} back in {_SAMPLER_STEPS} steps."


def _forward(trained: Trained, x0: Tensor) -> tuple[list[float], Tensor]:
    """Times from 0 to the last, denser at both ends, and the data decoded at each, `(steps + 1, n, entries)`."""
    sde, rows = trained.model.sde, range(_PATHS)
    times = sde.t_span[1] * torch.sin(torch.linspace(0, math.pi / 2, _STEPS + 1, dtype=torch.float64)) ** 2
    if not isinstance(sde, ForwardSDE):
        states = [sde.encode(x0, KeyedNoise(1, rows)), *(sde.perturb(x0, t, KeyedNoise(1, rows)) for t in times[1:].unbind())]
    else:
        noise = KeyedNoise(1, rows)
        states = [sde.encode(x0.double(), noise)]
        for t, s in pairwise(times.unbind()):
            states.append(sde.forward_step(states[-1], t, s - t, noise))
    return times.tolist(), torch.stack([_shown(trained, sde.decode_unchecked(z)) for z in states])


def _shown(trained: Trained, x: Tensor) -> Tensor:
    return trained.encoding.decode(x.float().cpu()).flatten(1)


def _entry(trained: Trained, x: Tensor) -> int:
    words = set(trained.encoding.categories) if trained.state.columns else set()
    numbers = [i for i in range(x.shape[1]) if i not in words] or [0]
    return numbers[0] if trained.state.kind == "table" else int(x.nan_to_num().std(0).argmax())


def _name(trained: Trained, place: int) -> str:
    """The column of an entry of a row, of series with the step."""
    columns = trained.state.columns
    if not columns:
        return f"entry {place}"
    step, column = divmod(place, len(columns))
    return columns[column] if len(trained.state.event) == 1 else f"{columns[column]} at step {step}"


@plain()
def _figure(forward: tuple[list[float], np.ndarray], backward: tuple[list[float], np.ndarray], name: str) -> Figure:
    figure = Figure(figsize=(9.2, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, "from data to noise", *forward, forward[1][0])
    _panel(right, label(f"from noise to samples: {name}"), *backward, backward[1][-1])
    right.invert_xaxis()
    both = np.concatenate([forward[1].ravel(), backward[1].ravel()])
    known = both[np.isfinite(both)]
    if len(known) and known.min() > 0 and known.max() > _WIDE * max(known.min(), 1e-3):
        left.set_yscale("log")
    elif len(known) and np.abs(known).max() > _FAR * max(np.abs(forward[1][0]).max(), 1e-9):
        left.set_yscale("symlog", linthresh=float(np.abs(forward[1][0]).max()))
    left.set_ylabel("value", color=GREY)
    return figure


def _panel(axes: Axes, title: str, times: list[float], values: np.ndarray, ends: np.ndarray) -> None:
    for k, path in enumerate(values.T[np.argsort(ends)]):
        axes.plot(times, path, color=shade(k, len(ends)), lw=0.8)
    tidy(axes, title)
    axes.set_xlabel("t")
