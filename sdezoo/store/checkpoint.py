"""Checkpoints: a training at one step, as tensors (safetensors) and JSON; no code is ever read from them.

A run folder::

    config.yaml  env.json  metrics.jsonl  checkpoints/step-N/{model,ema,optimizer,times}.safetensors + state.json + SHA256SUMS  samples/

`state.json` records everything a sample needs that is not a tensor: the resolved process, network, output
parameterization, and the encoding of the user's units.

With `config.yaml` a checkpoint is all that a training needs to go on as if never interrupted. There is no state of a random generator
in it: what is random at a step is keyed by the seed, the step and the position in the batch, and the order of the data by the seed and
the epoch, for any number of processes (see `sdezoo.runs.train`). The learning rate, and the place in the data, follow from the step.

A folder `step-N` is whole: it was written beside its place, put on the disk, and renamed. `SHA256SUMS` tells whether it still is what
was written; `sha256sum --check SHA256SUMS` says so too. A damaged checkpoint is never taken for another one: sampling refuses it, since
the same command would give other samples, and names the newest that is whole. Training goes on from that one, which costs time alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from sdezoo.data.bounds import Bounds
from sdezoo.data.dataset import Kind
from sdezoo.errors import RunError
from sdezoo.store.files import atomic_folder, remove, writing
from sdezoo.store.upgrade import upgrade_state

FORMAT = 4
_READ = (2, 3, 4)
"""Formats that are read; the second had no `SHA256SUMS`, the second and third had other names, see `sdezoo.store.upgrade`."""

_SUMS = "SHA256SUMS"
_REMEDY = "Make room, or make it writable: the checkpoints that are there stay good, and --resume goes on from the newest."


class DamagedError(RunError):
    """A checkpoint that is not what was saved.

    Args:
        checkpoint: its folder. what: is wrong with it.
    """

    def __init__(self, checkpoint: Path, what: str) -> None:
        super().__init__(f"The checkpoint '{checkpoint}' is damaged ({what}).", "Remove it to go on from the one before, or train again.")
        self.checkpoint, self.what = checkpoint, what


@dataclass(frozen=True)
class State:
    """What `state.json` holds."""

    step: int
    sde: str
    """Full spec string of the process, with everything filled in that was left to the data."""
    net: str
    """Full spec string of the network; empty where the task has none."""
    output: str
    """What the network's output means; empty where the task has none."""
    event: tuple[int, ...]
    kind: Kind
    columns: tuple[str, ...]
    levels: int | None
    range: tuple[list[float] | float, list[float] | float]
    """Smallest and largest value of the data, in the user's units."""
    encoding: dict[str, Any]
    """Of the data, see `sdezoo.data.encoding.Encoding.to_json`."""
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
    seed: int | None = None
    """Of all that is random in training."""
    batch: int | None = None
    """Samples a step: the next step takes the rows from `step · batch` on, in the order of the data that the seed fixes."""
    lr: float | None = None
    """Peak learning rate."""
    loss: float | None = None
    """Mean over the steps since the last line of the metrics, for one entry of the state."""
    validation_loss: float | None = None
    """The loss on held-out rows, see `sdezoo.training.validation`; None where there is none."""
    computing: dict[str, str | int | bool] = field(default_factory=dict)
    """What rounding depends on: device, precision, threads, workers, …"""
    format: int = FORMAT
    versions: dict[str, str] = field(default_factory=dict)
    """Of Python, sdezoo and torch."""
    data: str | None = None
    """Fingerprint of the data and of their encoding, see `sdezoo.store.provenance`."""
    task: str = "score"
    """Spec string of what was learned, see `sdezoo.training.task`."""
    plugins: dict[str, str] = field(default_factory=dict)
    """The distribution and version, or the file, behind each plugin, `REGISTRY/NAME`."""

    @property
    def bounds(self) -> Bounds:
        """The range of the data and their lattice, which samples are compared with."""
        low, high = (torch.tensor(bound) for bound in self.range)
        return Bounds(low, high, self.levels)


_STATE = TypeAdapter(State)


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return run / "checkpoints" / f"step-{step}"


def steps(run: Path) -> dict[int, Path]:
    """The checkpoints of a run folder by their steps, from the first to the last; damaged ones among them."""
    found = {int(m[1]): p for p in (run / "checkpoints").glob("step-*") if (m := re.fullmatch(r"step-(\d{1,18})", p.name))}
    return dict(sorted(found.items()))


def newest(run: Path) -> Path | None:
    """The checkpoint with the most steps, or None."""
    return next(reversed(steps(run).values()), None)


def newest_whole(run: Path) -> tuple[Path | None, list[DamagedError]]:
    """The newest checkpoint that is what was saved, and what is wrong with those after it."""
    wrong = []
    for folder in reversed(steps(run).values()):
        try:
            read_state(folder)
            check(folder)
        except DamagedError as error:
            wrong.append(error)
        else:
            return folder, wrong
    return None, wrong


def best(run: Path) -> int | None:
    """The step of the checkpoint with the least loss on held-out rows, the first of several; damaged ones are passed over."""
    losses = {}
    for step, folder in steps(run).items():
        try:
            loss = read_state(folder).validation_loss
        except RunError:
            continue
        if loss is not None:
            losses[step] = loss
    return min(losses, key=losses.__getitem__, default=None)


def choose(run: Path, which: str = "newest") -> Path:
    """The checkpoint of a run folder that is called `newest`, `best` (the least loss on held-out rows), or by its step.

    Raises:
        RunError: where there is none, naming those that there are; for `best` also, where one is damaged.
    """
    there = steps(run)
    if not there:
        found = "holds no checkpoint" if run.is_dir() else "does not exist"
        raise RunError(f"The run folder '{run}' {found}.", "Give the folder that `sdezoo train` wrote.")
    if which == "newest":
        return there[max(there)]
    if which == "best":
        for folder in there.values():
            read_state(folder)
        step = best(run)
        if step is not None:
            return there[step]
        raise RunError(f"No checkpoint of '{run}' has a loss on held-out rows.", "Leave out --checkpoint, or give a step.")
    if which.isdecimal() and int(which) in there:
        return there[int(which)]
    raise RunError(f"'{run}' has no checkpoint '{which}'.", f"Give newest, best, or a step: {', '.join(map(str, there))}.")


def save(run: Path, state: State, parts: dict[str, dict[str, Tensor]]) -> Path:
    """Write a checkpoint, its `parts` and its state, so that at any moment it is whole or not there.

    Raises:
        RunError: where the system does not let it be written; others stay as they are.
    """
    folder = folder_of(run, state.step)
    with atomic_folder(folder, _REMEDY) as beside:
        sums = _put(beside / "state.json", json.dumps(asdict(state), indent=1).encode())
        for name, tensors in parts.items():
            values = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            sums += _put(beside / f"{name}.safetensors", serialize(values))
        (beside / _SUMS).write_text(sums, encoding="ascii")
    return folder


def prune(run: Path, step: int, keep: int) -> None:
    """Remove all checkpoints but the `keep` newest and the best up to `step`. Later ones were damaged, or training were there.

    Raises:
        RunError: where they cannot be removed.
    """
    there = steps(run)
    with writing(run / "checkpoints", _REMEDY):
        for later in [k for k in there if k > step]:
            remove(there.pop(later))
        for old in there.keys() - {*list(there)[-keep:], best(run)}:
            remove(there[old])


def check(checkpoint: Path, *names: str) -> None:
    """Check that files of a checkpoint are what was saved; all of them, where none are named.

    Raises:
        DamagedError: where one is not.
    """
    if not (checkpoint / _SUMS).exists() and _values(checkpoint)["format"] < 3:
        return
    try:
        content = (checkpoint / _SUMS).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        raise DamagedError(checkpoint, f"'{_SUMS}' cannot be read") from None
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in content.splitlines())}
    for name in names or {"state.json", *(file.name for file in checkpoint.glob("*.safetensors"))} | sums.keys():
        try:
            with (checkpoint / Path(name).name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError):
            raise DamagedError(checkpoint, f"'{name}' cannot be read") from None
        if found != sums.get(name):
            raise DamagedError(checkpoint, f"'{name}' is not what was saved")


def read_state(checkpoint: Path) -> State:
    """The state of a checkpoint.

    Raises:
        DamagedError: where it is damaged.
        RunError: where it is of a format that this version does not know.
    """
    values = _values(checkpoint)
    check(checkpoint, "state.json")
    try:
        return _STATE.validate_python(upgrade_state(values))
    except ValueError:
        raise DamagedError(checkpoint, "'state.json' lacks what it should hold") from None


def _values(checkpoint: Path) -> dict[str, Any]:
    """What `state.json` holds, of a format that this version reads."""
    try:
        values = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        known = values["format"] in _READ
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise DamagedError(checkpoint, "'state.json' cannot be read") from None
    if not known:
        raise RunError(
            f"'{checkpoint}' is of format {values['format']}; this version reads {', '.join(map(str, _READ))}.",
            "Use the version that wrote it.",
        )
    return values


def read_tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """One of the tensor files of a checkpoint.

    Raises:
        DamagedError: where it is damaged.
    """
    check(checkpoint, f"{name}.safetensors")
    try:
        return load_file(checkpoint / f"{name}.safetensors")
    except (OSError, SafetensorError, ValueError):
        raise DamagedError(checkpoint, f"'{name}.safetensors' cannot be read") from None


def _put(path: Path, content: bytes) -> str:
    """Write a file; its line of `SHA256SUMS`."""
    path.write_bytes(content)
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
