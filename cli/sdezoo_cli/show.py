"""`sdezoo show`: one plugin in full."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Annotated, Any

import typer

from sdezoo_cli.options import Json, Plugins, load_plugins


def show(
    name: Annotated[str, typer.Argument(help="Name of a plugin, for example gbm.", show_default=False)],
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Show a plugin: its equation, parameters with defaults, support, and what it composes with."""
    load_plugins(plugin)
    from sdezoo.errors import PluginError
    from sdezoo.zoo.registry import REGISTRIES
    from sdezoo.zoo.spec import suggestion

    found = [registry for registry in REGISTRIES.values() if registry.entries(name)]
    if not found:
        known = [other for registry in REGISTRIES.values() for other in registry.names()]
        raise PluginError(f"There is no plugin '{name}'.", suggestion(name, known))
    shown = [_describe(registry, name) for registry in found]
    if as_json:
        sys.stdout.write(json.dumps(shown, ensure_ascii=False) + "\n")
        return
    for one in shown:
        sys.stdout.write(f"{one['kind']} {name}  ({one['class']}, from {one['provider']})\n\n{one['equation']}\n\n")
        for key in one["parameters"]:
            sys.stdout.write(f"  {key['name']:<14} {key['default']:<12} {key['allowed']}. {key['meaning']}".rstrip() + "\n")
        for key in ("support", "losses", "samplers", "outputs", "sdes"):
            if key in one:
                value = one[key] if isinstance(one[key], str) else ", ".join(one[key])
                sys.stdout.write(f"  {key:<14} {value}\n")
        sys.stdout.write("\n")


def _describe(registry: Any, name: str) -> dict[str, Any]:
    from sdezoo.parameters import describe, format_value

    cls = registry.load(name)
    module = inspect.getmodule(cls)
    parameters = [
        {"name": p.name, "meaning": p.meaning, "default": "required" if p.required else format_value(p.default), "allowed": p.allowed}
        for p in describe(cls)
    ]
    return {
        "kind": registry.kind,
        "name": name,
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "provider": registry.entries(name)[0].provider,
        "equation": inspect.getdoc(module) or inspect.getdoc(cls) or "",
        "parameters": parameters,
        **_composition(registry, name),
    }


def _composition(registry: Any, name: str) -> dict[str, Any]:
    from sdezoo.learning.output import OUTPUTS
    from sdezoo.zoo.composition import defaults, fitting, support_in_words
    from sdezoo.zoo.registry import LOSSES, SAMPLERS, SDES

    part = dict(defaults(registry)).get(name)
    if registry is SDES and part is not None:
        return {
            "support": support_in_words(part),
            "losses": fitting(part, LOSSES),
            "samplers": fitting(part, SAMPLERS),
            "outputs": [key for key, output in OUTPUTS.items() if output.refuses(part) is None],
        }
    if registry in (LOSSES, SAMPLERS) and part is not None:
        return {"sdes": [key for key, sde in defaults(SDES) if part.refuses(sde) is None]}
    return {}
