"""The models in a run folder: one, or for a bridge the newest round of each direction.

A folder of `write_models` is a run folder to every command: a bridge's has `rounds/K-DIRECTION` with the model of each direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdezoo.bridging.rounds import DIRECTIONS, newest_round, round_folders
from sdezoo.errors import CompositionError, RunError
from sdezoo.store import checkpoint
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig
from sdezoo.training.metrics import history


@dataclass(frozen=True, eq=False)
class Direction:
    """The model of one direction of a bridge.

    Args:
        trained: the model.
        number: its round.
        config: the settings of that round.
    """

    trained: Trained
    number: int
    config: TrainingConfig


def read_directions(run: Path) -> dict[str, Direction]:
    """Read the models of a bridge, by direction, in the order of their rounds; none if the run is no bridge.

    Args:
        run: the run folder.

    Raises:
        RunError: if a folder cannot be read, or the run is a bridge without a trained round.
    """
    if not (run / "rounds").is_dir():
        return {}
    found = {}
    for name in DIRECTIONS:
        try:
            folder = newest_round(run, name)
        except RunError:
            if name == DIRECTIONS[0]:  # the first round is backward
                raise
            continue
        config = TrainingConfig.of_run(folder)
        found[name] = Direction(restore(folder), int(folder.name.partition("-")[0]), config)
    return dict(sorted(found.items(), key=lambda pair: pair[1].number))


def write_models(path: Path, trained: Trained, directions: Mapping[str, Direction], config: TrainingConfig) -> None:
    """Write a run folder with the newest models.

    Args:
        path: a new or empty folder.
        trained: the model, if there are no directions.
        directions: the models of a bridge, see `read_directions`.
        config: the settings of the run.

    Raises:
        RunError: if the folder cannot be written to.
    """
    for name, one in directions.items():
        folder = path / "rounds" / f"{one.number}-{name}"
        folder.mkdir(parents=True)
        checkpoint.save(folder, one.trained.state, {"ema": one.trained.model.state_dict()})
        one.config.model_copy(update={"out": str(folder)}).write(folder / "config.yaml")
    if not directions:
        checkpoint.save(path, trained.state, {"ema": trained.model.state_dict()})
    config.write(path / "config.yaml")


def toward(directions: Mapping[str, Direction], direction: str | None) -> Trained:
    """The model of a direction.

    Args:
        directions: the models of a bridge.
        direction: `forward` or `backward`; None: none is asked for.

    Raises:
        CompositionError: if there is none.
    """
    if not directions:
        raise CompositionError("This model is no bridge, and has no directions.", 'Leave out direction, or fit sde="bridge" with target.')
    if direction is None:
        raise CompositionError("A bridge has two directions.", 'Give direction="forward", or direction="backward".')
    if direction not in DIRECTIONS:
        raise CompositionError(f"There is no direction '{direction}'.", 'Give direction="forward", or direction="backward".')
    if direction not in directions:
        raise CompositionError(f"One round of a bridge trains {DIRECTIONS[0]} alone.", "Fit it with rounds=2 or more.")
    return directions[direction].trained


def all_history(run: Path) -> dict[str, list[Any]]:
    """The history of a run folder, see `history`; of a bridge, that of its rounds one after the other, with steps counted through.

    Args:
        run: the run folder.
    """
    rounds = round_folders(run)
    if not rounds:
        return dict(history(run))
    found: dict[str, list[Any]] = {}
    before = 0
    for folder in rounds.values():
        part: dict[str, list[Any]] = dict(history(folder))
        part["step"] = [before + int(step) for step in part["step"] if step is not None]
        before = max(part["step"], default=before)
        found = {name: [*found.get(name, ()), *values] for name, values in part.items()}
    return found
