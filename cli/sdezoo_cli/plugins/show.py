"""`sdezoo show`: show one plugin or one run in full."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from sdezoo_cli.options import Json, Plugins, load_plugins
from sdezoo_cli.plugins.listing import print_plugins
from sdezoo_cli.printing import say, say_json


def show(
    name: Annotated[
        str | None,
        typer.Argument(help="Name of a plugin, such as gbm, or a run folder. Default: list all plugins.", show_default=False),
    ] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Show a plugin (equation, parameters, what it works with) or a run (model, settings, environment, checkpoints)."""
    load_plugins(plugin)
    from sdezoo.errors import PluginError
    from sdezoo.zoo.registry import REGISTRIES
    from sdezoo.zoo.spec import suggestion

    if name is None:
        print_plugins(REGISTRIES, as_json=as_json)
        if not as_json:
            say("For details:  sdezoo show NAME   For a run:  sdezoo show FOLDER\n")
        return
    found = [registry for registry in REGISTRIES.values() if registry.entries(name)]
    if not found and ("/" in name or Path(name).is_dir()):
        _show_run(Path(name), as_json)
        return
    if not found:
        known = [other for registry in REGISTRIES.values() for other in registry.names()]
        raise PluginError(f"There is no plugin '{name}'.", suggestion(name, known))
    shown = [_describe(registry, name) for registry in found]
    if as_json:
        say_json(shown)
        return
    for one in shown:
        say(f"{one['kind']} {name}  ({one['class']}, from {one['provider']})\n\n{one['equation']}\n\n")
        for key in one["parameters"]:
            say(f"  {key['name']:<14} {key['default']:<12} {key['allowed']}. {' '.join(key['meaning'].split())}".rstrip() + "\n")
        for key in ("same as", "support", "learns", "losses", "samplers", "outputs", "sdes"):
            if key in one:
                value = one[key] if isinstance(one[key], str) else ", ".join(one[key])
                say(f"  {key:<14} {value}\n")
        say("\n")


def _show_run(folder: Path, as_json: bool) -> None:
    from sdezoo.runs.overview import overview

    run = overview(folder)
    if as_json:
        say_json(run)
        return
    state, environment = run["state"] or {}, dict(run["environment"])
    plugins = environment.pop("plugins", {})
    parts = {
        "run": {
            key: state.get(key) for key in ("task", "sde", "net", "output", "event", "kind", "columns", "classes", "class_names", "seconds")
        },
        "settings": run["config"],
        "environment": {**environment, **plugins},
        "last metrics": {key: value for key, value in (run["metrics"] or {}).items() if key != "levels"},
    }
    for title, values in parts.items():
        say(f"{title}\n")
        for key, value in values.items():
            if value not in (None, [], ()):
                say(f"  {key:<18} {_in_words(value)}\n")
        say("\n")
    say("checkpoints\n" if run["checkpoints"] else "no checkpoint\n")
    for entry in run["checkpoints"]:
        loss = "" if entry["validation_loss"] is None else f"  validation loss {entry['validation_loss']:.4g}"
        mark = "  damaged: " + entry["damaged"] if entry["damaged"] else "  best" if entry["step"] == run["best"] else ""
        say(f"  step {entry['step']:<8} {entry['bytes'] / 2**20:7.1f} MiB{loss}{mark}\n")


def _in_words(value: Any) -> str:
    from sdezoo.zoo.spec import shown

    if isinstance(value, float):
        return f"{value:.6g}"
    return shown(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


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
        **({"same as": cls.same_as} if vars(cls).get("same_as") else {}),
        **_composition(registry, name),
    }


def _composition(registry: Any, name: str) -> dict[str, Any]:
    from sdezoo.learning.output import OUTPUTS
    from sdezoo.process.process import Supervised
    from sdezoo.zoo.composition import defaults, fitting, support_in_words
    from sdezoo.zoo.registry import GUIDES, LOSSES, SAMPLERS, SDES

    part = dict(defaults(registry)).get(name)
    if registry is SDES and part is not None:
        return {
            "support": support_in_words(part.support),
            **({"learns": part.learns} if isinstance(part, Supervised) else {}),
            "losses": fitting(part, LOSSES),
            "samplers": fitting(part, SAMPLERS),
            "outputs": [key for key, output in OUTPUTS.items() if output.refuses(part) is None],
        }
    if registry in (GUIDES, LOSSES, SAMPLERS) and part is not None:
        return {"sdes": [key for key, sde in defaults(SDES) if part.refuses(sde) is None]}
    return {}
