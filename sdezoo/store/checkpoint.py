"""Checkpoints: the state of a training run at one step, as tensors (safetensors) and JSON. Reading one never executes code.

A run folder::

    config.yaml  env.json  metrics.jsonl  checkpoints/step-N/{model,ema,optimizer,times}.safetensors + state.json + SHA256SUMS  samples/

`state.json` records everything but tensors that sampling needs: the resolved process, network, output parameterization, and the encoding
of the user's units.

A checkpoint and `config.yaml` are all that a training run needs to resume as if never interrupted. A checkpoint stores no generator state.
Randomness at a step is keyed by the seed, the step and the position in the batch; the order of the data is keyed by the seed and the
epoch. Both hold for any number of processes (see `sdezoo.runs.train`). The learning rate and the position in the data follow from the
step.

A folder `step-N` is written atomically: to a temporary folder, flushed to disk, then renamed. `SHA256SUMS` detects later damage;
`sha256sum --check SHA256SUMS` checks it by hand. A damaged checkpoint is never silently replaced by another. Sampling rejects it and names
the newest intact one, because another checkpoint would give other samples. Training resumes from that one, which costs only time.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from sdezoo.errors import RunError
from sdezoo.store.files import atomic_folder, is_link, opened, read_small, remove, writing
from sdezoo.store.state import State
from sdezoo.store.upgrade import upgrade_state

_READ = (2, 3, 4)
"""Readable formats. Format 2 has no `SHA256SUMS`; formats 2 and 3 use older names, see `sdezoo.store.upgrade`."""

METADATA = 2**21
"""Most bytes of `state.json`, of `SHA256SUMS`, and of the header of a tensor file: reading takes up to 45 times as much memory."""

_NAME = re.compile(r"step-(\d{1,18})")
_SUMS = "SHA256SUMS"
_REMEDY = "Make room, or make it writable, then give --resume: existing checkpoints stay intact, and training continues from the newest."


class DamagedError(RunError):
    """A checkpoint differs from what was saved.

    Args:
        checkpoint: the folder of the checkpoint.
        what: what is wrong with it, for the message.
    """

    def __init__(self, checkpoint: Path, what: str) -> None:
        super().__init__(
            f"The checkpoint '{checkpoint}' is damaged ({what}).", "Remove it to resume from the previous one, or train again."
        )
        self.checkpoint, self.what = checkpoint, what


def folder_of(run: Path, step: int) -> Path:
    """Path of the checkpoint folder of a step.

    Args:
        run: the run folder.
        step: the optimizer step.
    """
    return run / "checkpoints" / f"step-{step}"


def steps(run: Path) -> dict[int, Path]:
    """List the checkpoints of a run, including damaged ones.

    Args:
        run: the run folder.

    Returns:
        Checkpoint folders by step, in increasing order.
    """
    found = {int(m[1]): p for p in (run / "checkpoints").glob("step-*") if (m := _NAME.fullmatch(p.name))}
    return dict(sorted(found.items()))


def newest(run: Path) -> Path | None:
    """Find the checkpoint with the most steps, damaged or not.

    Args:
        run: the run folder.

    Returns:
        Its folder; None if there is no checkpoint.
    """
    return next(reversed(steps(run).values()), None)


def newest_whole(run: Path) -> tuple[Path | None, list[DamagedError]]:
    """Find the newest intact checkpoint.

    Args:
        run: the run folder.

    Returns:
        Its folder, or None if there is none, and the errors of the newer, damaged ones.

    Raises:
        RunError: if a checkpoint has an unknown format.
    """
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
    """Find the checkpoint with the lowest validation loss. Unreadable checkpoints are skipped.

    Args:
        run: the run folder.

    Returns:
        Its step, the earliest if several tie; None if no checkpoint has a validation loss.
    """
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
    """Choose a checkpoint of a run folder.

    Args:
        run: the run folder.
        which: `newest`, `best` (lowest validation loss), or a step.

    Returns:
        The folder of the checkpoint. With `newest` or a step, its files are not checked.

    Raises:
        RunError: if there is no such checkpoint; with `best`, also if any checkpoint is damaged.
    """
    there = steps(run)
    if not there:
        rounds = sorted((run / "rounds").glob("*-*")) if run.is_dir() else []
        if rounds:
            raise RunError(f"The run folder '{run}' holds rounds, each a run.", f"Give one of them, such as {rounds[-1]}.")
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
        raise RunError(f"No checkpoint of '{run}' has a validation loss.", "Leave out --checkpoint, or give a step.")
    if which.isdecimal() and int(which) in there:
        return there[int(which)]
    raise RunError(f"'{run}' has no checkpoint '{which}'.", f"Give newest, best, or a step: {', '.join(map(str, there))}.")


def save(run: Path, state: State, parts: dict[str, dict[str, Tensor]]) -> Path:
    """Write a checkpoint atomically.

    Args:
        run: the run folder.
        state: contents of `state.json`.
        parts: tensors of each `NAME.safetensors`, by name.

    Returns:
        The folder of the checkpoint.

    Raises:
        RunError: if the checkpoint cannot be written; other checkpoints are left unchanged.
    """
    folder = folder_of(run, state.step)
    with atomic_folder(folder, _REMEDY) as beside:
        sums = _put(beside / "state.json", state.write())
        for name, tensors in parts.items():
            values = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            sums += _put(beside / f"{name}.safetensors", serialize(values))
        (beside / _SUMS).write_text(sums, encoding="ascii")
    return folder


def check_size(state: State) -> None:
    """Check that a state can be read once it is written.

    Args:
        state: the state.

    Raises:
        RunError: if it is too large.
    """
    if (size := len(state.write())) > METADATA:
        raise RunError(
            f"What a checkpoint records of the {state.event[-1]} columns takes {size / 2**20:.1f} MiB, more than {METADATA // 2**20}.",
            "Give a table with fewer columns, or with fewer different texts in a column.",
        )


def prune(run: Path, step: int, keep: int) -> None:
    """Remove old checkpoints, and all later than `step`: those are damaged, or training would have resumed from them.

    Args:
        run: the run folder.
        step: step of the last saved checkpoint.
        keep: number of newest checkpoints to keep; the best one is kept as well.

    Raises:
        RunError: if a checkpoint cannot be removed.
    """
    there = {k: folder for k, folder in steps(run).items() if folder.is_dir() and not is_link(folder)}
    with writing(run / "checkpoints", _REMEDY):
        for later in [k for k in there if k > step]:
            remove(there.pop(later))
        for old in there.keys() - {*list(there)[-keep:], best(run)}:
            remove(there[old])


def check(checkpoint: Path, *names: str) -> None:
    """Verify files of a checkpoint against `SHA256SUMS`.

    Args:
        checkpoint: the folder.
        names: names of the files to verify; none: all of them.

    Raises:
        DamagedError: if a file is missing or differs from what was saved.
    """
    if not (checkpoint / _SUMS).exists() and _values(checkpoint)["format"] < 3:
        return
    try:
        content = read_small(checkpoint / _SUMS, METADATA).decode("ascii")
    except (OSError, UnicodeDecodeError):
        raise DamagedError(checkpoint, f"'{_SUMS}' cannot be read") from None
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in content.splitlines())}
    for name in names or {"state.json", *(file.name for file in checkpoint.glob("*.safetensors"))} | sums.keys():
        try:
            with opened(checkpoint / Path(name).name) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError):
            raise DamagedError(checkpoint, f"'{name}' cannot be read") from None
        if found != sums.get(name):
            raise DamagedError(checkpoint, f"'{name}' is not what was saved")


def read_state(checkpoint: Path) -> State:
    """Read and verify the state of a checkpoint.

    Args:
        checkpoint: the folder.

    Raises:
        DamagedError: if `state.json` is damaged.
        RunError: if this version does not read its format.
    """
    values = _values(checkpoint)
    check(checkpoint, "state.json")
    try:
        step = _NAME.fullmatch(checkpoint.name)
        return State.read(upgrade_state(values), int(step[1]) if step else None)
    except ValueError:
        raise DamagedError(checkpoint, "'state.json' has missing or invalid entries") from None


def _values(checkpoint: Path) -> dict[str, Any]:
    """Read the raw values of `state.json`, and check the format."""
    try:
        values = json.loads(read_small(checkpoint / "state.json", METADATA).decode("utf-8"))
        known = values["format"] in _READ
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise DamagedError(checkpoint, "'state.json' cannot be read") from None
    if not known:
        raise RunError(
            f"'{checkpoint}' has format {values['format']}; this version reads {', '.join(map(str, _READ))}.",
            "Use the version of sdezoo that wrote it.",
        )
    return values


def read_tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """Read and verify a tensor file of a checkpoint.

    Args:
        checkpoint: the folder.
        name: name of the file, without `.safetensors`.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        DamagedError: if the file is missing or damaged.
    """
    check(checkpoint, f"{name}.safetensors")
    try:
        return load_tensors(checkpoint / f"{name}.safetensors")
    except (OSError, ValueError):
        raise DamagedError(checkpoint, f"'{name}.safetensors' cannot be read") from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a tensor file of unknown origin, on the CPU.

    Args:
        path: the file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is none, or lists too many tensors.
    """
    with opened(path) as file:
        if int.from_bytes(file.read(8), "little") > METADATA:
            raise ValueError("lists too many tensors")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _put(path: Path, content: bytes) -> str:
    """Write a file, and return its line of `SHA256SUMS`."""
    path.write_bytes(content)
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
