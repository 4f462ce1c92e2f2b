"""Resuming a run: which settings must match, and which may change.

Settings that affect the result must equal those in the run's `config.yaml`, and the model and data built from them must equal what the
checkpoint records. The number of processes, the device, the precision and the other settings in `sdezoo.training.config.FREE` may change:
noise is keyed by the position in the batch, so results differ in rounding only, and the user is notified.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdezoo.errors import RunError, SdezooError
from sdezoo.store.checkpoint import DamagedError, State
from sdezoo.store.origin import Origin
from sdezoo.training.config import FREE, TrainingConfig
from sdezoo.zoo.registry import NETWORKS, OPTIMIZERS, SDES, TASKS, Registry
from sdezoo.zoo.spec import shown

_SAME = ("task", "sde", "net", "output", "event", "encoding", "classes", "optimizer", "seed", "batch", "lr", "data")
_REGISTRIES: dict[str, Registry[Any]] = {"task": TASKS, "sde": SDES, "net": NETWORKS, "optimizer": OPTIMIZERS}
_NOT_IN_FORMAT_2 = ("seed", "batch", "lr", "data")


def refuse_other_settings(run: Path, config: TrainingConfig) -> None:
    """Check settings against those of the run. Settings left open are checked later, against the checkpoint.

    Args:
        run: the run folder.
        config: the new settings.

    Raises:
        RunError: if the folder holds no run, or a setting differs that must not change.
    """
    if not (run / "config.yaml").is_file():
        raise RunError(f"There is no run in '{run}' to resume.", "Omit --resume to start a new run.")
    before = TrainingConfig.of_run(run)
    for key in TrainingConfig.model_fields:
        old, new = getattr(before, key), getattr(config, key)
        if key not in FREE and new is not None and new != old:
            raise RunError(
                f"The run was trained with {key}={old}, not {new}.", f"Omit --{key.replace('_', '-')} to resume, or choose another --out."
            )


_OF_THE_MODEL = ("task", "sde", "column", "missing", "net", "output", "prior", "shift", "condition")


def trained_on(config: TrainingConfig, origin: Origin) -> TrainingConfig:
    """Take the settings that define a model from the run whose model is trained on.

    Args:
        config: the new settings.
        origin: the earlier run.

    Raises:
        RunError: if a setting of the model is given and differs, or the run would replace the one that it starts from.
    """
    before = TrainingConfig.of_run(origin.run)
    if config.out and Path(config.out).resolve() == origin.run.resolve():
        raise RunError(f"'{origin.run}' is the run that is trained on.", "Choose another --out.")
    kept = before.model_dump(include=set(_OF_THE_MODEL))
    for key, value in kept.items():
        new = getattr(config, key)
        if new not in (TrainingConfig.model_fields[key].default, value, origin.state.sde if key == "sde" else value):
            raise RunError(
                f"The run '{origin.run}' was trained with {key}={value}, not {new}.", f"Omit --{key.replace('_', '-')}, or omit --from."
            )
    own = before.task is not None and TASKS.build(before.task).process() is not None
    kept |= {"sde": before.sde if own else origin.state.sde, "loss": config.loss or before.loss}
    return config.model_copy(update={**kept, "steps": config.steps or origin.state.step})


def refuse_other_model(checkpoint: Path, before: State, now: State) -> None:
    """Check that model and data are those that the checkpoint was saved with.

    Args:
        checkpoint: folder of the checkpoint.
        before: state recorded in the checkpoint.
        now: current state.

    Raises:
        RunError: if an entry differs; the message names it.
    """
    for name in _SAME:
        old, new = (_written_out(name, getattr(state, name)) for state in (before, now))
        if old != new and not (old is None and name in _NOT_IN_FORMAT_2):
            raise RunError(
                f"The checkpoint '{checkpoint}' has {name}={shown(str(old))}, not {shown(str(new))}.",
                "Resume with the settings and data of the run, or choose another --out.",
            )


def _written_out(name: str, value: Any) -> Any:
    """Spell out a spec string with all fields of the installed plugin: fields newer than the record get their defaults."""
    if name not in _REGISTRIES or not value:
        return value
    try:
        return _REGISTRIES[name].build(value).full_spec
    except SdezooError:
        return value


def rounding(before: State, now: State) -> str | None:
    """Message on changes of software, device or precision since the checkpoint, if any.

    Args:
        before: state recorded in the checkpoint.
        now: current state.
    """
    old, new = ({**state.versions, **state.plugins, **state.computing} for state in (before, now))
    changed = [f"{key}={old[key]} (now {value})" for key, value in new.items() if key in old and old[key] != value]
    if not changed:
        return None
    return f"Up to step {before.step} the run was trained with {', '.join(changed)}: results will differ in rounding."


def passed_over(damaged: Sequence[DamagedError], step: int) -> str:
    """Message on damaged checkpoints that are skipped.

    Args:
        damaged: why each is damaged.
        step: step of the checkpoint that training resumes from.
    """
    which = " and ".join(f"'{error.checkpoint}' is damaged ({error.what})" for error in damaged)
    return f"{which}, so training resumes from step {step}."
