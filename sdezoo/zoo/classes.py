"""Plugins as classes: from the name of a class to the entry of a registry that holds it, for `from sdezoo.samplers import DPMpp2M`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TypeVar

from sdezoo.errors import PluginError
from sdezoo.zoo.registry import Entry, Registry

T = TypeVar("T")


def class_names(registry: Registry[T]) -> list[str]:
    """The names of the classes of all plugins in `registry`, sorted; imports nothing."""
    return sorted({entry.attribute for entry in _entries(registry)})


def find_class(registry: Registry[T], module: str, name: str) -> type[T]:
    """The plugin class called `name`, as `registry.load` gives it.

    Args:
        registry: the plugins to look through.
        module: the module that the class is asked of, for the message.
        name: the name of the class, such as `DPMpp2M`.

    Raises:
        AttributeError: where no plugin has a class of that name; the message offers the nearest names.
        PluginError: where several plugins have one, and as `registry.load`.
    """
    claims = {(entry.module, entry.attribute): entry for entry in _entries(registry) if entry.attribute == name}
    if len(claims) > 1:
        which = " and ".join(f"'{entry.name}' of {entry.provider} ({entry.module})" for entry in claims.values())
        raise PluginError(
            f"Several {registry.kind} plugins have a class '{name}': {which}.",
            "Import the one that you mean from its own module.",
        )
    if not claims:
        raise AttributeError(f"module '{module}' has no plugin class '{name}'{_near(registry, name)}", name=name)
    (entry,) = claims.values()
    return registry.load(entry.name)


def _entries(registry: Registry[T]) -> list[Entry]:
    return [entry for name in registry.names() for entry in registry.entries(name)]


def _near(registry: Registry[T], name: str) -> str:
    if name.startswith("__"):  # the import system asks for such names
        return ""
    # A plugin is looked for by the name that specs use too, and in any case: `gbm` and `Gbm` are `GBM`.
    known = {alias.lower(): entry.attribute for entry in _entries(registry) for alias in (entry.name.replace("-", "_"), entry.attribute)}
    near = list(dict.fromkeys(known[alias] for alias in get_close_matches(name.lower(), known, 3)))
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are: {', '.join(class_names(registry))}"
