"""Options of a command in groups, for its help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from typer.models import OptionInfo

TRAINING: Mapping[str, Sequence[str]] = {
    "Data": ("data", "origin", "snapshots", "target", "column", "missing", "label_column", "shift"),
    "Process and model": ("sde", "task", "net", "output", "prior", "condition"),
    "Loss and optimizer": (
        *(
            "loss",
            "noise_levels",
            "steps",
            "rounds",
            "batch_size",
            "accumulate",
            "optimizer",
            "lr",
            "schedule",
            "warmup_steps",
            "grad_clip_norm",
        ),
        *("ema_half_life_images", "label_dropout", "order"),
    ),
    "Run": ("out", "config", "resume", "overwrite", "checkpoint_every", "keep", "tensorboard", "seed", "deterministic"),
    "Machine": ("device", "precision", "compile"),
}
"""Groups of the options of `sdezoo train`. Those that are not named come first."""

F = TypeVar("F", bound=Callable[..., Any])


def in_panels(panels: Mapping[str, Sequence[str]]) -> Callable[[F], F]:
    """Put the options of a command in groups. Options that several commands share are left as they are.

    Args:
        panels: names of parameters by the title of their group; names that the command has not are passed over.

    Returns:
        A decorator of the function of a command.
    """
    titles = {name: title for title, names in panels.items() for name in names}

    def decorate(command: F) -> F:
        hints = get_type_hints(command, include_extras=True)
        command.__annotations__ = {name: _titled(hint, titles[name]) if name in titles else hint for name, hint in hints.items()}
        return command

    return decorate


def _titled(hint: Any, title: str) -> Any:
    if get_origin(hint) is not Annotated:
        return hint
    kind, *extras = get_args(hint)
    made = [copy(extra) if isinstance(extra, OptionInfo) else extra for extra in extras]
    for extra in made:
        if isinstance(extra, OptionInfo):
            extra.rich_help_panel = title
    return Annotated[(kind, *made)]
