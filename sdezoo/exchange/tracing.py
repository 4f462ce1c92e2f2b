"""Modules as graphs of ONNX, run by onnxruntime, and what ONNX says when it cannot express one.

Operations that the exporter lacks are written in those of ONNX: `searchsorted`, `cumprod` and `index_add`.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdezoo.errors import RunError, shortened

_INT64 = 7  # number of the type in ONNX


@dataclass(frozen=True)
class Part:
    """What is exported.

    Args:
        words: what it is, at the beginning of a sentence.
        remedy: what to do if it cannot be exported.
    """

    words: str
    remedy: str


def apart(expected: Tensor, found: np.ndarray) -> float:
    """The largest error, in units of the largest value, or absolute below 1; infinite where only one has a value.

    Args:
        expected: what torch gives.
        found: what a graph gives, of the same shape.
    """
    a, b = expected.double().numpy(), found.astype(np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    known = np.isfinite(a)
    return float(np.abs(a - b)[known].max(initial=0.0) / max(1.0, np.abs(a)[known].max(initial=0.0)))


def run_graph(content: bytes, inputs: dict[str, Tensor], part: Part) -> np.ndarray:
    """Run a graph by onnxruntime on the CPU.

    Args:
        content: the graph.
        inputs: its inputs by name.
        part: what it is.

    Returns:
        Its output.

    Raises:
        RunError: if it does not run.
    """
    try:
        session = import_module("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
        return session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    except Exception as error:  # a graph that lacks an operation of onnxruntime, or of which tracing fixed the number of rows
        raise RunError(f"{part.words} was written as ONNX, but does not run: {_reason(error)}.", part.remedy) from error


def graph(module: nn.Module, inputs: dict[str, Tensor], part: Part) -> bytes:
    """Trace a module into a graph whose number of rows is free.

    Args:
        module: the module, of one output.
        inputs: an example of its inputs, by name; rows are their first axis, of all but the time `t`.
        part: what it is.

    Returns:
        The graph of ONNX, with its weights.

    Raises:
        RunError: if ONNX cannot express the module.
    """
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
            return _plain(program.model_proto).SerializeToString()
        except Exception as error:  # whatever a third party's network does while it is traced, and a model beyond 2 GiB
            raise RunError(f"{part.words} cannot be written as ONNX: {_reason(error)}.", part.remedy) from error


def _plain(model: Any) -> Any:
    """Without what the exporter notes of each operation: the lines of code that it comes from, with the folders of this machine."""
    model.ClearField("metadata_props")
    for inside in (model.graph, *model.functions):
        parts = [inside, *inside.node, *inside.value_info]
        for part in [*parts, *model.graph.input, *model.graph.output, *model.graph.initializer]:
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
    return model


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
