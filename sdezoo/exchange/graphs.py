"""A trained model as graphs of ONNX, with a script of numpy beside them that samples.

A folder of an export holds

- `denoiser.onnx`: `D(z, t) = E[z_0 | z_t = z]`, float32 `(rows, *state)`, of a state `z` and a time `t`, float64 without dimensions; of a
  model with classes also of `label`, the class of each row, int64 `(rows,)`; of a model that continues series also of `given`, float32
  `(rows, steps, d + 1)`: known steps and their marks, see `sdezoo.learning.forecast`, zeros if nothing is known;
- `decoder.onnx`: from states at `t = 0` to rows in the user's units, categories as numbers;
- `encoder.onnx`, of a model that continues series: from windows in the user's units, float32, to states;
- `plan.npz`: the times of a sampler, its coefficients, noise to start from, and names of classes;
- `columns.json`: names of columns, and the values of categories;
- `sample.py`: the loop. Of series it writes a row for each step, under the number of its series.

The sampler is DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2). With denoised states `D` it is linear, and its coefficients
follow from those of the process::

    z ← q z + (α_s − α_t q) (D + r (D − D₋)) + m_s − q m_t,      q = σ_s/σ_t,      r = h/(2 h₋)

`r = 0` in the first and the last step. Graphs are compared with torch before they are written.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdezoo.bridging.rounds import round_folders
from sdezoo.data.column_types import CategoryType, or_numbers
from sdezoo.errors import CompositionError, RunError
from sdezoo.exchange.tracing import Part, apart, graph, run_graph
from sdezoo.generation.classes import class_names
from sdezoo.generation.samples import SERIES_STEPS
from sdezoo.learning.forecast import ForecastModel, beginnings
from sdezoo.learning.model import ScoreModel
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import KeyedNoise
from sdezoo.sampling.grid import grid
from sdezoo.store.files import atomic_folder, writable_folder
from sdezoo.store.restoring import Trained, restore

FILES = ("denoiser.onnx", "decoder.onnx", "plan.npz", "columns.json", "sample.py")
"""Names of the files of an export."""
ENCODER = "encoder.onnx"
"""Name of one more, of a model that continues series."""

_SCRIPT = Path(__file__).parent / "sampling_script.txt"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_DENOISED = 1e-5
"""Largest error of a denoised state, in units of the largest value, or absolute below 1."""
_DECODED = 1e-5
_STEPS = 20
_OTHER = "Export a run of an affine process, such as gbm or vp."
_NETWORK = Part("The network", "Export a run with a built-in network.")
_DECODING = Part(
    "The way back to the units of the data", "Export a run whose columns are numbers or categories, images, points, or series."
)
_ENCODING = Part("The way from the units of the data", "Export a run of series of numbers.")
_TIMES = (0.02, 0.35, 0.98)
_ROWS = 3


@dataclass(frozen=True)
class Exported:
    """Summary of an export.

    Args:
        folder: the folder.
        error: largest error of the denoiser beside torch's, in units of the largest value, or absolute below 1.
        steps: steps of the sampler.
        rows: number of rows with noise of their own in `plan.npz`.
    """

    folder: Path
    error: float
    steps: int
    rows: int


def export_onnx(run: Path, folder: Path, *, checkpoint: str = "newest", steps: int | None = None, n: int = 64, seed: int = 0) -> Exported:
    """Write a trained model as graphs of ONNX, and a script that samples with numpy.

    Args:
        run: the run folder.
        folder: a new or empty folder.
        checkpoint: the checkpoint, see `sdezoo.store.checkpoint.choose`.
        steps: steps of the sampler. None: 20, of series as many as `sdezoo sample` takes.
        n: number of samples whose noise is written, those of `sdezoo sample` with this seed.
        seed: the seed.

    Raises:
        CompositionError: if the run has learned no denoiser, or the process is not affine.
        RunError: if a package is missing, the folder exists, the run cannot be read, ONNX cannot express the network, or a graph does not
            give what torch gives. Nothing is then written.
    """
    for name, value in {"steps": steps, "n": n}.items():
        if value is not None and value < 1:
            raise RunError(f"{name}={value} is too small.", f"Give {name} at least 1.")
    writable_folder(folder)
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"'{folder}' is not empty.", "Give a new folder.")
    if round_folders(run):
        raise CompositionError(
            f"The run '{run}' is a bridge, which starts from rows, not from noise: a denoiser is not enough to sample it.", _OTHER
        )
    trained = restore(run, checkpoint)
    if not isinstance(trained.model, ScoreModel):
        name = trained.state.task.partition(":")[0]
        raise CompositionError(f"The run '{run}' of the task '{name}' has learned no denoiser.", _OTHER)
    if not isinstance(trained.model.sde, AffineSDE):
        raise CompositionError(f"'{trained.model.sde.title()}' is not affine, so its sampler needs more than a denoiser.", _OTHER)
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise RunError(f"{' and '.join(missing)} cannot be imported.", 'Install what an export needs: pip install "sdezoo[onnx]".')
    steps = steps or (SERIES_STEPS if trained.state.kind == "series" else _STEPS)
    plan = _plan(trained, steps, n, seed)
    start = torch.from_numpy(plan["start"])
    denoiser, error = _denoiser(trained, start)
    coders = {"decoder.onnx": _coder(_Decode(trained).eval(), {"z": start.clamp(-2, 2)}, _DECODING)}
    if isinstance(trained.model, ForecastModel):
        windows = trained.encoding.decode(trained.model.sde.decode_unchecked(start.clamp(-2, 2)))
        coders[ENCODER] = _coder(_Encode(trained).eval(), {"windows": windows}, _ENCODING)
    columns = [
        {"name": name, "values": [str(value) for value in kind.values] if isinstance(kind, CategoryType) else None}
        for name, kind in zip(trained.state.columns, or_numbers(trained.encoding.types, len(trained.state.columns)), strict=True)
    ]
    arrays = io.BytesIO()
    np.savez(arrays, allow_pickle=False, **plan)
    contents = {
        "denoiser.onnx": denoiser,
        **coders,
        "plan.npz": arrays.getvalue(),
        "columns.json": json.dumps(columns, ensure_ascii=False, indent=1).encode(),
        "sample.py": _SCRIPT.read_bytes(),
    }
    with atomic_folder(folder, "Give another folder.") as beside:
        for name, content in contents.items():
            (beside / name).write_bytes(content)
    return Exported(folder, error, steps, n)


@torch.no_grad()
def _plan(trained: Trained, steps: int, n: int, seed: int) -> dict[str, np.ndarray]:
    """Times, coefficients of the steps, and noise."""
    model: ScoreModel[AffineSDE] = trained.model
    sde, event = model.sde, trained.encoded_event
    like = torch.zeros(sde.state_shape((1, *event)), dtype=torch.float64)
    times = grid(sde, steps, "auto")
    rows = {name: [] for name in ("shrink", "gain", "push", "offset")}
    last = None
    for t, s in pairwise(times.unbind()):
        p, q = sde.at(t, like), sde.at(s, like)
        shrink, h = q.sigma / p.sigma, (p.ratio / q.ratio).log()
        gain = q.alpha - p.alpha * shrink
        push = gain * h / (2 * last) if last is not None and s > 0 else torch.zeros_like(gain)
        for name, value in (("shrink", shrink), ("gain", gain), ("push", push), ("offset", q.shift - shrink * p.shift)):
            rows[name].append(torch.broadcast_to(value, like.shape)[0].numpy())
        last = h
    start = model.prior((n, *event), KeyedNoise(seed, range(n)), torch.empty(()))
    return {
        "times": times.numpy(),
        **{name: np.stack(values) for name, values in rows.items()},
        "start": start.numpy(),
        "classes": np.array([] if trained.state.classes is None else class_names(trained.state), dtype=str),
        "event": np.array(trained.state.event),
        "relative": np.array(trained.encoding.starts_at_one),
        **_noise(model, like),
    }


def _noise(model: ScoreModel[AffineSDE], like: Tensor) -> dict[str, np.ndarray]:
    """What new noise is made of: the normal distribution that sampling starts from; of a process without a fitted one, its own scale."""
    k = model.sde.at(torch.tensor(model.sde.t_span[1], dtype=torch.float64), like)
    size = like[0].numel()
    if model.fitted is None:
        center, base, directions, wider = (
            torch.zeros_like(like) + k.shift,
            torch.zeros_like(like) + k.sigma,
            torch.zeros(0, size),
            torch.zeros(0),
        )
    else:
        mean, floor, directions, excess = (getattr(model.fitted, name).double() for name in model.fitted.PARTS)
        root = (k.alpha**2 * floor + k.variance).sqrt()
        center, base = k.alpha * mean + k.shift, torch.broadcast_to(root, like.shape)
        wider = (k.alpha**2 * (floor + excess) + k.variance).sqrt() - root if len(directions) else torch.zeros(0)
    parts = {"center": torch.broadcast_to(center, like.shape)[0], "base": base[0], "directions": directions, "wider": wider}
    return {name: part.double().numpy() for name, part in parts.items()}


class _Denoise(nn.Module):
    def __init__(self, model: ScoreModel[Any]) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.model.denoise(z, t, condition)


class _Decode(nn.Module):
    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.trained, self.bounds = trained, trained.state.bounds

    def forward(self, z: Tensor) -> Tensor:
        return self.bounds.final(self.trained.encoding.decode(self.trained.model.sde.decode_unchecked(z)))


class _Encode(nn.Module):
    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.trained = trained

    def forward(self, windows: Tensor) -> Tensor:
        return self.trained.model.sde.encode(self.trained.encoding.encode_at_once(windows).float())


@torch.no_grad()
def _denoiser(trained: Trained, start: Tensor) -> tuple[bytes, float]:
    module, sde = _Denoise(trained.model).eval(), trained.model.sde
    times, few = [torch.tensor(share * sde.t_span[1], dtype=torch.float64) for share in _TIMES], _repeated(start)
    # States of rows as data have them: between two categories a small noise level magnifies the rounding of both.
    rows = trained.encoding.encode(trained.encoding.decode(sde.decode_unchecked(start.clamp(-1, 1))))
    clean = sde.encode(rows, KeyedNoise(1, range(len(rows))))
    content = graph(module, {"z": few, "t": times[0], **_condition(trained, few)}, _NETWORK)
    error = 0.0
    for t in times:
        z = sde.perturb(rows, t, KeyedNoise(0, range(len(rows))))
        given = {"z": z, "t": t, **_condition(trained, clean)}
        error = max(error, apart(module(*given.values()), run_graph(content, given, _NETWORK)))
    if not error <= _DENOISED:
        raise RunError(f"The graph of the network differs from torch's by {error:.1e}, more than {_DENOISED:g}.", "Train another network.")
    return content, error


def _condition(trained: Trained, clean: Tensor) -> dict[str, Tensor]:
    """The input of the graph beside state and time, if the model has one: classes in turn, or beginnings of every length in turn."""
    if trained.state.classes is not None:
        return {"label": torch.arange(len(clean)) % trained.state.classes}
    if isinstance(trained.model, ForecastModel):
        return {"given": beginnings(clean, torch.arange(len(clean)) % clean.shape[1])}
    return {}


@torch.no_grad()
def _coder(module: nn.Module, inputs: dict[str, Tensor], part: Part) -> bytes:
    """The graph of a module that works row by row."""
    expected = module(*(each.clone() for each in inputs.values()))  # constants of codecs are then known, and enter the graph as numbers
    content = graph(module, {name: _repeated(each) for name, each in inputs.items()}, part)
    error = apart(expected, run_graph(content, inputs, part))
    if not error <= _DECODED:
        raise RunError(f"{part.words} differs from torch's by {error:.1e} as ONNX.", "Train on data with plainer columns.")
    return content


def _repeated(rows: Tensor) -> Tensor:
    return rows[:_ROWS].repeat(2, *[1] * (rows.ndim - 1))
