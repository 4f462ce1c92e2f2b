"""Checkpoints: a training at one step, as tensors (safetensors) and JSON; no code is ever read from them.

A run folder::

    config.yaml  env.json  metrics.jsonl  checkpoints/step-N/{model,ema,optimizer,times}.safetensors + state.json  samples/

`state.json` records everything a sample needs that is not a tensor: the resolved process, network, output
parameterization, and the map from the user's units.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdezoo.errors import RunError, SdezooError
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.prior import FittedPrior, Moments
from sdezoo.runs.data import Kind
from sdezoo.runs.placement import AffineMap
from sdezoo.sampling.likelihood import Estimate, estimate
from sdezoo.zoo.registry import NETWORKS, SDES

FORMAT = 2


@dataclass(frozen=True)
class State:
    """What `state.json` holds."""

    step: int
    sde: str
    """Full spec string of the process, with everything filled in that was left to the data."""
    net: str
    """Full spec string of the network."""
    output: str
    event: tuple[int, ...]
    kind: Kind
    columns: tuple[str, ...]
    levels: int | None
    range: tuple[list[float] | float, list[float] | float]
    """Smallest and largest value of the data, in the user's units."""
    map: dict[str, Any]
    averaged: int
    """Updates that the moving average has seen."""
    seconds: float
    """Time spent training."""
    classes: int | None = None
    """How many labels the network was trained with; None: without."""
    optimizer: str = "adamw"
    """Its name."""
    scaling: dict[str, float] | None = None
    """State of the scaling of gradients, in fp16."""
    format: int = FORMAT
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A model ready to sample, and the way from and back to the user's units."""

    model: ScoreModel
    state: State
    map: AffineMap

    def log_prob(self, x: Tensor, **options: Any) -> Tensor:
        """The log-density of data `x` in the user's own units, in nats, float64 `(B,)` on the CPU: the first half of `likelihood`."""
        return self.likelihood(x, **options).nats

    def likelihood(self, x: Tensor, *, noised: bool = True, **options: Any) -> Estimate:
        """`log p(x) = log p(map(x)) + Σ log |scale|` for `x` `(B, *event)` in the user's own units, with its standard error.

        `options` are those of `sdezoo.sampling.likelihood.estimate`. By default the law is the one at the smallest noise level that
        the network knows (`noised`): that one integrates to 1 whatever the network has learnt.

        Raises:
            SdezooError: as `estimate` does.
        """
        found = estimate(self.model, self.map(x), noised=noised, **options)
        return found._replace(nats=found.nats + self.log_scale)

    @property
    def log_scale(self) -> float:
        """`Σ log |scale|` of the map: what a log-density in the user's units has more than one in the process's domain."""
        return float(self.map.scale.abs().log().expand(self.state.event).sum())


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return run / "checkpoints" / f"step-{step}"


def newest(run: Path) -> Path | None:
    """The checkpoint with the most steps, or None."""
    found = {int(m[1]): p for p in (run / "checkpoints").glob("step-*") if (m := re.fullmatch(r"step-(\d+)", p.name))}
    return found[max(found)] if found else None


def save(run: Path, state: State, parts: dict[str, dict[str, Tensor]]) -> Path:
    """Write a checkpoint, its `parts` and its state, beside its place and rename it there, so that a folder called `step-N` is whole."""
    folder = folder_of(run, state.step)
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, tensors in parts.items():
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, beside / f"{name}.safetensors")
    (beside / "state.json").write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return folder


def read_state(checkpoint: Path) -> State:
    """The state of a checkpoint.

    Raises:
        RunError: where it is damaged, or of a format that this version does not know.
    """
    try:
        values = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise RunError(
                f"'{checkpoint}' is of format {values['format']}; this version reads {FORMAT}.", "Use the version that wrote it."
            )
        lists = {key: tuple(values[key]) for key in ("event", "columns", "range")}
        return State(**{**values, **lists})
    except (OSError, ValueError, TypeError, KeyError):
        raise damaged(checkpoint) from None


def read_tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """One of the tensor files of a checkpoint.

    Raises:
        RunError: where it is damaged.
    """
    try:
        return load_file(checkpoint / f"{name}.safetensors")
    except (OSError, SafetensorError, ValueError):
        raise damaged(checkpoint) from None


def restore(run: Path) -> Trained:
    """The newest model of a run folder, with the moving average of its weights, on the CPU.

    Raises:
        RunError: where there is none, or it is damaged.
        PluginError: where a plugin that it was trained with is not installed.
    """
    checkpoint = newest(run)
    if checkpoint is None:
        found = "holds no checkpoint" if run.is_dir() else "does not exist"
        raise RunError(f"The run folder '{run}' {found}.", "Give the folder that `sdezoo train` wrote.")
    state, tensors = read_state(checkpoint), read_tensors(checkpoint, "ema")
    net = NETWORKS.build(state.net).module(state.event, state.classes)
    try:
        moments = Moments(tensors["mean"], tensors["std"])
        parts = [tensors[f"fitted.{part}"] for part in FittedPrior.PARTS] if "fitted.mean" in tensors else None
        model = ScoreModel(SDES.build(state.sde), net, state.output, moments=moments, fitted=FittedPrior(*parts) if parts else None)
        model.load_state_dict(tensors)
    except SdezooError:
        raise
    except (KeyError, RuntimeError):
        raise damaged(checkpoint) from None
    return Trained(model.eval().requires_grad_(False), state, AffineMap.from_json(state.map))


def flatten(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as named tensors, `PARAMETER.KEY`."""
    entries = optimizer.state_dict()["state"].items()
    return {f"{index}.{key}": torch.as_tensor(value) for index, values in entries for key, value in values.items()}


def unflatten(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer the state that `flatten` took."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        like = parameters[int(index)]
        # Fused kernels walk through memory: what is shaped like a parameter must lie as it does, channels last or not.
        state.setdefault(int(index), {})[key] = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def damaged(checkpoint: Path) -> RunError:
    """The error for a checkpoint that cannot be read."""
    return RunError(f"The checkpoint '{checkpoint}' is damaged.", "Remove it to go on from the one before, or train again.")
