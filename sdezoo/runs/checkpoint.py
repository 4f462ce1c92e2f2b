"""Checkpoints: a training at one step, as tensors (safetensors) and JSON; no code is ever read from them.

A run folder::

    config.yaml  env.json  metrics.jsonl  checkpoints/step-N/{model,ema,optimizer,times}.safetensors + state.json + SHA256SUMS  samples/

`state.json` records everything a sample needs that is not a tensor: the resolved process, network, output
parameterization, and the map from the user's units.

With `config.yaml` a checkpoint is all that a training needs to go on as if never interrupted. There is no state of a random generator
in it: what is random at a step is keyed by the seed, the step and the position in the batch, and the order of the data by the seed and
the epoch, for any number of processes (see `sdezoo.runs.training`). The learning rate, and the place in the data, follow from the step.

A folder `step-N` is whole: it was written beside its place, put on the disk, and renamed. `SHA256SUMS` tells whether it still is what
was written; `sha256sum --check SHA256SUMS` says so too. A damaged checkpoint is never taken for another one: sampling refuses it, since
the same command would give other samples, and names the newest that is whole. Training goes on from that one, which costs time alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from sdezoo.errors import RunError, SdezooError
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.prior import FittedPrior, Moments
from sdezoo.runs.data import Kind
from sdezoo.runs.files import discard, replacing_folder, writing
from sdezoo.runs.placement import AffineMap
from sdezoo.runs.provenance import check_providers
from sdezoo.sampling.likelihood import Estimate, estimate
from sdezoo.zoo.registry import NETWORKS, SDES

FORMAT = 3
_READ = (2, 3)
"""Formats that are read; the second had no `SHA256SUMS`."""

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
    seed: int | None = None
    """Of all that is random in training."""
    batch: int | None = None
    """Samples a step: the next step takes the rows from `step · batch` on, in the order of the data that the seed fixes."""
    lr: float | None = None
    """Peak learning rate."""
    loss: float | None = None
    """Mean over the steps since the last line of the metrics, for one entry of the state."""
    held_out: float | None = None
    """The loss on held-out rows, see `sdezoo.runs.objective`; None where there is none."""
    computing: dict[str, str | int | bool] = field(default_factory=dict)
    """What rounding depends on: device, precision, threads, workers, …"""
    format: int = FORMAT
    versions: dict[str, str] = field(default_factory=dict)
    """Of Python, sdezoo and torch."""
    data: str | None = None
    """Fingerprint of the data and of the map, see `sdezoo.runs.provenance`."""
    types: tuple[str, ...] = ()
    """Of the columns, see `sdezoo.runs.data.Data`."""
    plugins: dict[str, str] = field(default_factory=dict)
    """The distribution and version, or the file, behind each plugin, `REGISTRY/NAME`."""


_STATE = TypeAdapter(State)


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
            loss = read_state(folder).held_out
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
    with replacing_folder(folder, _REMEDY) as beside:
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
            discard(there.pop(later))
        for old in there.keys() - {*list(there)[-keep:], best(run)}:
            discard(there[old])


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
        return _STATE.validate_python(values)
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
            f"'{checkpoint}' is of format {values['format']}; this version reads {' and '.join(map(str, _READ))}.",
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


def restore(run: Path, which: str = "newest") -> Trained:
    """A model of a run folder (see `choose`), with the moving average of its weights, on the CPU.

    A training may be writing there.

    Raises:
        RunError: where there is none, or it is damaged, naming the newest that is not.
        PluginError: where a plugin that it was trained with is not installed.
    """
    while True:
        try:
            return _restored(choose(run, which))
        except DamagedError as error:
            if not error.checkpoint.exists():
                continue  # a training has just replaced it by a newer one
            whole, _ = newest_whole(run)
            other = f"Give --checkpoint {whole.name.removeprefix('step-')}, the newest that is whole, or train" if whole else "Train"
            raise RunError(error.problem, f"{other} again.") from None


def _restored(checkpoint: Path) -> Trained:
    state, tensors = read_state(checkpoint), read_tensors(checkpoint, "ema")
    check_providers({key: provider for key, provider in state.plugins.items() if key.startswith(("sdes/", "networks/"))})
    sde = SDES.build(state.sde)
    network = NETWORKS.build(state.net)
    try:
        with torch.device("meta"), _at_most(sum(values.numel() for values in tensors.values()), checkpoint):
            shape = sde.observed_shape(state.event)
            network.module(shape, state.classes)
        net = network.module(shape, state.classes)
        moments = Moments(tensors["mean"], tensors["std"])
        parts = [tensors[f"fitted.{part}"] for part in FittedPrior.PARTS] if "fitted.mean" in tensors else None
        model = ScoreModel(sde, net, state.output, moments=moments, fitted=FittedPrior(*parts) if parts else None)
        model.load_state_dict(tensors)
    except SdezooError:
        raise
    except (KeyError, RuntimeError, ValueError):
        raise DamagedError(checkpoint, "'ema.safetensors' does not fit the network") from None
    return Trained(model.eval().requires_grad_(False), state, AffineMap.from_json(state.map))


@contextmanager
def _at_most(numbers: int, checkpoint: Path) -> Iterator[None]:
    """A network with more parameters than a checkpoint holds is not finished: `state.json` may ask for any width and depth."""
    left = numbers

    def see(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if parameter is None else parameter.numel()
        if left < 0:
            raise DamagedError(checkpoint, "'ema.safetensors' does not fit the network")

    handle = register_module_parameter_registration_hook(see)
    try:
        yield
    finally:
        handle.remove()


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


def _put(path: Path, content: bytes) -> str:
    """Write a file; its line of `SHA256SUMS`."""
    path.write_bytes(content)
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
