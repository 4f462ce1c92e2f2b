"""Going on with a training: what must be as it was, what may be another, and what is then said.

Settings that the result depends on must be those in the run's `config.yaml`, and what they have led to must be what the checkpoint
records. Number of processes, device, precision and the other settings of `sdezoo.training.config.FREE` may change: noise is keyed by the
place in the batch, not in a process, so that numbers differ in rounding alone, which is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sdezoo.errors import RunError
from sdezoo.store.checkpoint import DamagedError, State
from sdezoo.training.config import FREE, TrainingConfig

_SAME = ("sde", "net", "output", "event", "encoding", "classes", "optimizer", "seed", "batch", "lr", "data")
_NOT_IN_FORMAT_2 = ("seed", "batch", "lr", "data")


def refuse_other_settings(run: Path, config: TrainingConfig) -> None:
    """Check `config` against that of the run; what it leaves open, the checkpoint will tell.

    Raises:
        RunError: where there is no run, or a setting is another that must not be.
    """
    if not (run / "config.yaml").is_file():
        raise RunError(f"There is no run in '{run}' to go on with.", "Leave out --resume to start anew.")
    before = TrainingConfig.build(TrainingConfig.read(run / "config.yaml"))
    for key in TrainingConfig.model_fields:
        old, new = getattr(before, key), getattr(config, key)
        if key not in FREE and new is not None and new != old:
            raise RunError(f"The run was trained with {key}={old}, not {new}.", f"Leave out {key} to resume, or choose another --out.")


def refuse_other_model(checkpoint: Path, before: State, now: State) -> None:
    """Check what the settings have led to, now and when `checkpoint` was saved.

    Raises:
        RunError: naming what differs.
    """
    for name in _SAME:
        old, new = getattr(before, name), getattr(now, name)
        if old != new and not (old is None and name in _NOT_IN_FORMAT_2):
            raise RunError(
                f"The checkpoint '{checkpoint}' is of {name}={old}, not {new}.",
                "Resume with its own settings and data, or train into another --out.",
            )


def rounding(before: State, now: State) -> str | None:
    """The sentence on what computes now in the place of what has computed before, if anything."""
    old, new = ({**state.versions, **state.plugins, **state.computing} for state in (before, now))
    changed = [f"{key}={old[key]} and now {value}" for key, value in new.items() if key in old and old[key] != value]
    if not changed:
        return None
    return f"Until step {before.step} the run was trained with {', '.join(changed)}: numbers will differ in rounding from before."


def passed_over(damaged: Sequence[DamagedError], step: int) -> str:
    """The sentence on checkpoints that are not gone on from."""
    which = " and ".join(f"'{error.checkpoint}' is damaged ({error.what})" for error in damaged)
    return f"{which}, so that training goes on from step {step}."
