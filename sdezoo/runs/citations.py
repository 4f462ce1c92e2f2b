"""Citations: the papers behind plugins and runs, as `sdezoo cite` prints them. Imports no plugin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sdezoo.errors import PluginError
from sdezoo.zoo.registry import LOSSES, NETWORKS, REGISTRIES, SDES, TASKS, Entry, Registry, with_parts
from sdezoo.zoo.source import read_papers
from sdezoo.zoo.spec import parse, suggestion

_KINDS = ("sdes", "losses", "samplers", "networks", "tasks")
_FILE = "references.bib"
_KEY = re.compile(r"@\w+\s*\{\s*([^\s,]+)\s*,")


def cite(names: Sequence[str]) -> dict[str, list[str]]:
    """The papers behind plugins and runs.

    Args:
        names: spec strings of SDEs, losses, samplers, networks and tasks, and run folders. A run stands for its process, loss, network,
            and task if that has papers.

    Returns:
        For each BibTeX entry, in the order of `names`, the names of the plugins that cite it. Plugins without a paper are listed under
        the empty text.

    Raises:
        PluginError: if a plugin does not exist, or names a paper that no entry describes.
        RunError: if a folder is not a run.
    """
    found: dict[str, list[str]] = {}
    for registry, spec in [pair for name in names for pair in _plugins(name)]:
        name = parse(spec)[0]
        for entry in entries(registry, name) or [""]:
            users = found.setdefault(entry, [])
            if name not in users:
                users.append(name)
    return found


def entries(registry: Registry[object], name: str) -> list[str]:
    """The BibTeX entries of the papers that a plugin names.

    Args:
        registry: the kind of the plugin.
        name: its name.

    Raises:
        PluginError: if it names a paper that no entry describes, or its source cannot be read.
    """
    plugin = registry.entries(name)[0]
    papers, folders = _stated(plugin)
    known: dict[str, str] = {}
    for folder in reversed(folders):
        if (folder / _FILE).is_file():
            known |= read((folder / _FILE).read_text(encoding="utf-8"))
    missing = [paper for paper in papers if not paper.lstrip().startswith("@") and paper not in known]
    if missing:
        raise PluginError(
            f"'{name}' names the paper '{missing[0]}', and no {_FILE} beside {plugin.module} or above has an entry for it.",
            f"Add the entry to a {_FILE}, or write it into `papers` in full.",
        )
    return [paper.strip() if paper.lstrip().startswith("@") else known[paper] for paper in papers]


def read(text: str) -> dict[str, str]:
    """The entries of a BibTeX file by their keys; entries are separated by empty lines.

    Args:
        text: the contents of the file.
    """
    parts = [part.strip() for part in re.split(r"\n\s*\n", text)]
    return {found[1]: part for part in parts if (found := _KEY.match(part))}


def _stated(plugin: Entry) -> tuple[tuple[str, ...], list[Path]]:
    """What a plugin states as `papers`, and the folders that may have the entries, nearest first."""
    if plugin.loaded:
        return vars(plugin.loaded).get("papers", ()), [Path(plugin.provider).parent]
    try:
        papers, file = read_papers(plugin.module, plugin.attribute)
    except (OSError, SyntaxError, LookupError, ImportError, ValueError) as error:
        raise PluginError(
            f"The source of '{plugin.name}' cannot be read: {type(error).__name__}: {error}.", f"Fix or uninstall {plugin.provider}."
        ) from error
    return papers, list(file.parents)[: plugin.module.count(".")] if file else []


def _plugins(name: str) -> list[tuple[Registry[object], str]]:
    """The plugins that a spec string or a run folder names, the parts of a product included."""
    if "/" in name or Path(name).is_dir():
        return [pair for registry, spec in _of_run(Path(name)) for pair in with_parts(registry, spec)]
    plugin = parse(name)[0]
    registries = [REGISTRIES[kind] for kind in _KINDS if REGISTRIES[kind].entries(plugin)]
    if not registries:
        known = [other for kind in _KINDS for other in REGISTRIES[kind].names()]
        raise PluginError(f"There is no SDE, loss, sampler, network or task '{plugin}'.", suggestion(plugin, known))
    return [pair for registry in registries for pair in with_parts(registry, name)]


def _of_run(folder: Path) -> list[tuple[Registry[object], str]]:
    from sdezoo.runs.overview import overview

    run = overview(folder)
    state, config = run["state"] or {}, run["config"]
    named = (
        (SDES, state.get("sde") or config.get("sde")),
        (LOSSES, config.get("loss")),
        (NETWORKS, state.get("net") or config.get("net")),
        (TASKS, config.get("task")),
    )
    found = [(registry, spec) for registry, spec in named if spec and registry.entries(parse(spec)[0])]
    return [(registry, spec) for registry, spec in found if registry is not TASKS or entries(TASKS, parse(spec)[0])]
