"""Look up plugins by class name, for `from sdezoo.samplers import DPMpp2M`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TypeVar

from sdezoo.errors import PluginError
from sdezoo.zoo.registry import Entry, Registry

T = TypeVar("T")


def class_names(registry: Registry[T]) -> list[str]:
    """Class names of all plugins in `registry`, sorted; imports nothing."""
    return sorted({entry.attribute for entry in _entries(registry)})


def find_class(registry: Registry[T], module: str, name: str) -> type[T]:
    """Load the plugin class called `name`.

    Args:
        registry: the registry to search.
        module: the module that the user imports from, for the message.
        name: name of the class, such as `DPMpp2M`.

    Raises:
        AttributeError: if no plugin has a class of that name; the message suggests similar names.
        PluginError: if several plugins have one, or if `registry.load` fails.
    """
    claims = {(entry.module, entry.attribute): entry for entry in _entries(registry) if entry.attribute == name}
    if len(claims) > 1:
        which = " and ".join(f"'{entry.name}' of {entry.provider} ({entry.module})" for entry in claims.values())
        raise PluginError(
            f"Several {registry.kind} plugins have a class '{name}': {which}.",
            "Import one of them from its own module.",
        )
    if not claims:
        raise AttributeError(f"module '{module}' has no plugin class '{name}'{_near(registry, name)}", name=name)
    (entry,) = claims.values()
    return registry.load(entry.name)


def _entries(registry: Registry[T]) -> list[Entry]:
    return [entry for name in registry.names() for entry in registry.entries(name)]


def _near(registry: Registry[T], name: str) -> str:
    if name.startswith("__"):  # the import system looks up such names
        return ""
    # Also match spec names, and ignore case: `gbm` and `Gbm` suggest `GBM`.
    known = {alias.lower(): entry.attribute for entry in _entries(registry) for alias in (entry.name.replace("-", "_"), entry.attribute)}
    near = list(dict.fromkeys(known[alias] for alias in get_close_matches(name.lower(), known, 3)))
    return f"; did you mean {' or '.join(near)}?" if near else f"; choose one of: {', '.join(class_names(registry))}"
