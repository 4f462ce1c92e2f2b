"""A trained model as graphs of ONNX, with a script of numpy beside them that samples.

A folder of an export holds

- `denoiser.onnx`: `D(z, t) = E[z_0 | z_t = z]`, float32 `(rows, *state)`, of a state `z` and a time `t`, float64 without dimensions; of a
  model with classes also of `label`, the class of each row, int64 `(rows,)`;
- `decoder.onnx`: from states at `t = 0` to rows in the user's units, categories as numbers;
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
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdezoo.bridging.rounds import round_folders
from sdezoo.data.column_types import CategoryType, or_numbers
from sdezoo.errors import CompositionError, RunError, shortened
from sdezoo.generation.classes import class_names
from sdezoo.generation.samples import SERIES_STEPS
from sdezoo.learning.model import ScoreModel
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import KeyedNoise
from sdezoo.sampling.grid import grid
from sdezoo.store.files import atomic_folder, writable_folder
from sdezoo.store.restoring import Trained, restore

FILES = ("denoiser.onnx", "decoder.onnx", "plan.npz", "columns.json", "sample.py")
"""Names of the files of an export."""

_SCRIPT = Path(__file__).parent / "sampling_script.txt"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_DENOISED = 1e-5
"""Largest error of a denoised state, in units of the largest value, or absolute below 1."""
_DECODED = 1e-5
_STEPS = 20
_OTHER = "Export a run of an affine process, such as gbm or vp."
_NETWORK = ("The network", "Export a run with a built-in network.")
_DECODING = ("The way back to the units of the data", "Export a run whose columns are numbers or categories, images, points, or series.")
"""What is exported, and what to do if it cannot be."""
_TIMES = (0.02, 0.35, 0.98)
_INT64 = 7  # number of the type in ONNX
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
    decoder = _decoder(trained, start)
    columns = [
        {"name": name, "values": [str(value) for value in kind.values] if isinstance(kind, CategoryType) else None}
        for name, kind in zip(trained.state.columns, or_numbers(trained.encoding.types, len(trained.state.columns)), strict=True)
    ]
    arrays = io.BytesIO()
    np.savez(arrays, allow_pickle=False, **plan)
    contents = (denoiser, decoder, arrays.getvalue(), json.dumps(columns, ensure_ascii=False, indent=1).encode(), _SCRIPT.read_bytes())
    with atomic_folder(folder, "Give another folder.") as beside:
        for name, content in zip(FILES, contents, strict=True):
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

    def forward(self, z: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self.model.denoise(z, t, label)


class _Decode(nn.Module):
    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.trained = trained

    def forward(self, z: Tensor) -> Tensor:
        return self.trained.encoding.decode(self.trained.model.sde.decode_unchecked(z))


@torch.no_grad()
def _denoiser(trained: Trained, start: Tensor) -> tuple[bytes, float]:
    module = _Denoise(trained.model).eval()
    times = [torch.tensor(share * trained.model.sde.t_span[1], dtype=torch.float64) for share in _TIMES]
    few = start[:_ROWS].repeat(2, *[1] * (start.ndim - 1))
    content = _graph(module, {"z": few, "t": times[0], **_labels(trained, len(few))}, _NETWORK)
    error = 0.0
    for t in times:
        z = trained.model.sde.perturb(trained.model.sde.decode_unchecked(start.clamp(-1, 1)), t, KeyedNoise(0, range(len(start))))
        given = {"z": z, "t": t, **_labels(trained, len(z))}
        error = max(error, _apart(module(**given), _run(content, given, _NETWORK)))
    if not error <= _DENOISED:
        raise RunError(f"The graph of the network differs from torch's by {error:.1e}, more than {_DENOISED:g}.", "Train another network.")
    return content, error


def _labels(trained: Trained, rows: int) -> dict[str, Tensor]:
    """The classes in turn, an input of the graph if the model has any."""
    return {} if trained.state.classes is None else {"label": torch.arange(rows) % trained.state.classes}


@torch.no_grad()
def _decoder(trained: Trained, start: Tensor) -> bytes:
    module = _Decode(trained).eval()
    z = start.clamp(-2, 2)
    module(z.clone())  # constants of codecs are then known, and enter the graph as numbers
    content = _graph(module, {"z": z[:_ROWS].repeat(2, *[1] * (z.ndim - 1))}, _DECODING)
    error = _apart(module(z.clone()), _run(content, {"z": z}, _DECODING))
    if not error <= _DECODED:
        raise RunError(f"The graph of the decoding differs from torch's by {error:.1e}.", "Train on data with plainer columns.")
    return content


def _apart(expected: Tensor, found: np.ndarray) -> float:
    """The largest error, in units of the largest value, or absolute below 1; infinite where only one has a value."""
    a, b = expected.double().numpy(), found.astype(np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    known = np.isfinite(a)
    return float(np.abs(a - b)[known].max(initial=0.0) / max(1.0, np.abs(a)[known].max(initial=0.0)))


def _run(content: bytes, inputs: dict[str, Tensor], words: tuple[str, str]) -> np.ndarray:
    try:
        session = import_module("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
        return session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    except Exception as error:  # a graph that lacks an operation of onnxruntime, or of which tracing fixed the number of rows
        raise RunError(f"{words[0]} was written as ONNX, but does not run: {_reason(error)}.", words[1]) from error


def _graph(module: nn.Module, inputs: dict[str, Tensor], words: tuple[str, str]) -> bytes:
    """Trace a module into a graph whose number of rows is free."""
    rows = torch.export.Dim("rows")
    shapes = [{} if name == "t" else {0: rows} for name in inputs]
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                verbose=False,
                external_data=False,
                input_names=list(inputs),
                output_names=["x"],
                dynamic_shapes=tuple(shapes),
                custom_translation_table={
                    torch.ops.aten.searchsorted.Tensor: _searchsorted,
                    torch.ops.aten.cumprod.default: _cumprod,
                    torch.ops.aten.index_add.default: _index_add,
                },
            )
        except Exception as error:  # whatever a third party's network does while it is traced
            raise RunError(f"{words[0]} cannot be written as ONNX: {_reason(error)}.", words[1]) from error
    return program.model_proto.SerializeToString()


def _reason(error: BaseException) -> str:
    """Name the operation that ONNX lacks, else the first line of what went wrong."""
    text = str(error)
    operation = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", text)
    if operation:
        return f"it has no operation '{operation[1]}'"
    lines = [line.strip() for line in re.sub(r"\x1b\[\d*m", "", text).splitlines() if line.strip()]
    inner = error.__cause__
    return shortened(
        [f"{type(inner or error).__name__}: {str(inner).strip().splitlines()[0] if inner and str(inner).strip() else lines[0]}"], 1
    )


def _searchsorted(
    sorted_sequence: Any, self: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None, sorter: Any = None
) -> Any:
    """`torch.searchsorted` in operations of ONNX: the number of entries below, or not above."""
    op: Any = import_module("onnxscript").opset18
    entries, values = op.Unsqueeze(sorted_sequence, op.Constant(value_ints=[-2])), op.Unsqueeze(self, op.Constant(value_ints=[-1]))
    below = op.LessOrEqual(entries, values) if right or side == "right" else op.Less(entries, values)
    return op.ReduceSum(op.Cast(below, to=_INT64), op.Constant(value_ints=[-1]), keepdims=0)


def _cumprod(self: Any, dim: int, dtype: int | None = None) -> Any:
    """`torch.cumprod` in operations of ONNX: the size by logarithms, the sign by the number of negative factors."""
    op: Any = import_module("onnxscript").opset18
    axis = op.Constant(value_int=dim)
    size = op.Exp(op.CumSum(op.Log(op.Abs(self)), axis))
    negative = op.CumSum(op.Cast(op.Less(self, op.CastLike(op.Constant(value_float=0.0), self)), to=_INT64), axis)
    odd = op.Equal(op.Mod(negative, op.Constant(value_int=2)), op.Constant(value_int=1))
    return op.Where(odd, op.Neg(size), size)


def _index_add(self: Any, dim: int, index: Any, source: Any, alpha: float = 1) -> Any:
    """`torch.index_add` along the last axis in operations of ONNX."""
    op: Any = import_module("onnxscript").opset18
    added = op.Mul(source, op.CastLike(op.Constant(value_float=float(alpha)), source))
    return op.ScatterElements(self, op.Expand(index, op.Shape(source)), added, axis=dim, reduction="add")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of packages that are not there."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
