"""Plugin registries, filled from entry points. Built-in and third-party plugins are registered the same way.

A package registers a plugin by an entry point, for example in its `pyproject.toml`::

    [project.entry-points."sdezoo.sdes"]
    my-process = "my_package.my_module:MyProcess"

Names are read from the metadata of installed packages: a plugin is imported only when it is used. A plugin that
fails to import does not affect the others.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
import sys
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from sdezoo.errors import ParameterError, PluginError
from sdezoo.zoo.source import read_summary
from sdezoo.zoo.spec import Value, parse, shown, suggestion

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is known about a plugin before it is imported."""

    name: str
    """Name of the plugin, such as `gbm`."""
    module: str
    """Dotted name of the module that defines it."""
    attribute: str
    """Name of the class."""
    provider: str
    """The package or file that provides it."""
    loaded: type | None = None
    """The class, if it came from a file."""


class Registry(Generic[T]):
    """The plugins of one kind.

    Args:
        kind: kind of the plugins, in the singular, for messages.
        group: the entry-point group.
        contract: `module:class` of their abstract base class.
    """

    def __init__(self, kind: str, group: str, contract: str) -> None:
        self.kind = kind
        self.group = group
        self._contract = contract
        self._from_files: list[Entry] = []

    @cached_property
    def _installed(self) -> list[Entry]:
        return [_entry(point) for point in _entry_points(tuple(sys.path)).select(group=self.group)]

    def entries(self, name: str) -> list[Entry]:
        """All entries that claim `name`."""
        return [entry for entry in [*self._installed, *self._from_files] if entry.name == name]

    def names(self) -> list[str]:
        """All names, sorted; imports nothing."""
        return sorted({entry.name for entry in [*self._installed, *self._from_files]})

    def load(self, name: str) -> type[T]:
        """Load the class registered under `name`.

        Raises:
            PluginError: if the name is unknown or claimed twice, or the class fails to import or is not of this kind.
        """
        entry = self._sole(name)
        cls = entry.loaded or self._import(entry)
        contract = self.contract()
        if not (isinstance(cls, type) and issubclass(cls, contract)):
            raise PluginError(f"{self._broken(entry)}: it is not a {contract.__name__}.", f"Derive it from sdezoo.{contract.__name__}.")
        parameters = getattr(cls, "__dataclass_params__", None)
        if parameters is None or not parameters.frozen or "__dataclass_params__" not in vars(cls):
            raise PluginError(f"{self._broken(entry)}: it is not a frozen dataclass.", "Decorate it with @dataclass(frozen=True).")
        if inspect.isabstract(cls):
            raise PluginError(f"{self._broken(entry)}: it does not define {_missing(cls)}.", "Implement the abstract members.")
        if "name" not in vars(cls):
            cls.name = name  # pyright: ignore[reportAttributeAccessIssue]
        return cls

    def build(self, spec: str) -> T:
        """Build the object that a spec string describes, for example `SDES.build("gbm:sigma=0.8")`.

        Raises:
            PluginError: if `load` fails.
            ParameterError: if the spec string is malformed, or a hyper-parameter is unknown, missing or out of range.
        """
        name, values = parse(spec)
        cls = self.load(name)
        known = [f.name for f in dataclasses.fields(cls)]  # pyright: ignore[reportArgumentType]
        if (unnamed := values.pop("", None)) is not None:
            key = getattr(cls, "positional", None)
            if key is None or key in values:
                raise ParameterError(f"{name}: '{shown(unnamed[0])}' is not of the form key=value.", f"Write {name}:key=value,key=value.")
            values[key] = unnamed
        for key in values:
            if key not in known:
                raise ParameterError(f"{name} has no parameter '{shown(key)}'.", suggestion(key, known))
        return _construct(cls, name, values)

    def summary(self, name: str) -> tuple[str, str | None]:
        """Summarize a plugin without importing it.

        Checks that module and class exist, that the file parses, and that the modules it imports are installed.

        Returns:
            The first line of the docstring and None, or an empty string and why the plugin is broken.
        """
        claims = self.entries(name)
        if len(claims) > 1:
            return "", f"claimed by {_providers(claims)}"
        entry = claims[0]
        if entry.loaded:
            return (inspect.getdoc(entry.loaded) or "").partition("\n")[0], None
        try:
            return read_summary(entry.module, entry.attribute), None
        except (OSError, SyntaxError, LookupError, ImportError, ValueError) as error:
            return "", f"{type(error).__name__}: {error}"

    def contract(self) -> type[T]:
        """The abstract base class of this kind; imports torch."""
        module, _, attribute = self._contract.partition(":")
        return getattr(import_module(module), attribute)

    def add(self, cls: type, provider: str) -> str:
        """Register a class from a file under its name in kebab case.

        Args:
            cls: the class.
            provider: path of the file.

        Returns:
            The name in kebab case.
        """
        name = kebab(cls.__name__)
        self._from_files = [entry for entry in self._from_files if (entry.name, entry.provider) != (name, provider)]
        self._from_files.append(Entry(name, cls.__module__, cls.__name__, provider, cls))
        return name

    def remove(self, name: str) -> None:
        """Unregister the plugins of this name that came from files."""
        self._from_files = [entry for entry in self._from_files if entry.name != name]

    def _sole(self, name: str) -> Entry:
        claims = self.entries(name)
        if not claims:
            raise PluginError(f"There is no {self.kind} '{shown(name)}'.", suggestion(name, self.names()))
        if len(claims) > 1:
            own = next((entry for entry in claims if entry.loaded), None)
            remedy = f"Rename the class {own.attribute} in {own.provider}." if own else "Uninstall or rename one of them."
            raise PluginError(f"The {self.kind} '{name}' is claimed by {_providers(claims)}.", remedy)
        return claims[0]

    def _import(self, entry: Entry) -> Any:
        try:
            return getattr(import_module(entry.module), entry.attribute)
        except Exception as error:  # a third-party module may raise anything at import
            raise PluginError(
                f"{self._broken(entry)}: {type(error).__name__}: {error}.",
                f"Fix or uninstall {entry.provider}; other plugins are not affected.",
            ) from error

    def _broken(self, entry: Entry) -> str:
        return f"The {self.kind} '{entry.name}' of {entry.provider} is broken"


SDES: Registry[Any] = Registry("SDE", "sdezoo.sdes", "sdezoo.process.process:Process")
LOSSES: Registry[Any] = Registry("loss", "sdezoo.losses", "sdezoo.learning.loss:ScoreLoss")
SAMPLERS: Registry[Any] = Registry("sampler", "sdezoo.samplers", "sdezoo.sampling.sampler:Sampler")
NETWORKS: Registry[Any] = Registry("network", "sdezoo.networks", "sdezoo.learning.network:Network")
DATASETS: Registry[Any] = Registry("dataset", "sdezoo.datasets", "sdezoo.data.dataset:Dataset")
FORMATS: Registry[Any] = Registry("file format", "sdezoo.formats", "sdezoo.data.formats:FileFormat")
TASKS: Registry[Any] = Registry("task", "sdezoo.tasks", "sdezoo.training.task:Task")
GUIDES: Registry[Any] = Registry("guide", "sdezoo.guides", "sdezoo.sampling.guide:Guide")
OPTIMIZERS: Registry[Any] = Registry("optimizer", "sdezoo.optimizers", "sdezoo.learning.optimizer:Optimizer")
REGISTRIES: dict[str, Registry[Any]] = {
    "sdes": SDES,
    "losses": LOSSES,
    "samplers": SAMPLERS,
    "networks": NETWORKS,
    "datasets": DATASETS,
    "formats": FORMATS,
    "tasks": TASKS,
    "guides": GUIDES,
    "optimizers": OPTIMIZERS,
}


def load(named: Path) -> None:
    """Load a Python file with plugins (see `load_file`), or import a module.

    Args:
        named: path of a file, or the dotted name of a module. Modules are also looked up in the working directory, and need not define
            plugins.

    Raises:
        PluginError: if it cannot be loaded.
    """
    name = str(named)
    if named.exists() or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name) or name.endswith(".py"):
        load_file(named)
        return
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        importlib.import_module(name)
    except Exception as error:  # a user's module may raise anything
        raise PluginError(
            f"The module '{name}' cannot be imported: {type(error).__name__}: {error}.", "Install it, or give the path of a file."
        ) from error


def load_file(path: str | Path) -> list[str]:
    """Run a Python file and register every concrete plugin class that it defines, but those whose names begin with an underscore.

    Args:
        path: path of the file, ending in `.py`.

    Returns:
        The names of the registered plugins.

    Raises:
        PluginError: if the file fails to run, or defines no plugin.
    """
    path = Path(path)
    spec = importlib.util.spec_from_file_location(f"sdezoo_plugin_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise PluginError(f"There is no Python file '{path}'.", "Give the path of a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses resolve annotations there
    keeps_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # no __pycache__ next to a user's file
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything
        del sys.modules[spec.name]
        raise PluginError(f"The plugin file '{path}' fails: {type(error).__name__}: {error}.", "Fix the file and try again.") from error
    finally:
        sys.dont_write_bytecode = keeps_bytecode
    defined = [
        (registry, cls)
        for cls in vars(module).values()
        for registry in REGISTRIES.values()
        if isinstance(cls, type) and cls.__module__ == module.__name__ and issubclass(cls, registry.contract())
        if not cls.__name__.startswith("_")
    ]
    names = [registry.add(cls, str(path)) for registry, cls in defined if not inspect.isabstract(cls)]
    if defined and not names:
        missing = "; ".join(f"{cls.__name__} does not define {_missing(cls)}" for _, cls in defined)
        raise PluginError(f"The plugin file '{path}' defines no complete plugin: {missing}.", "Implement the abstract members.")
    if not names:
        raise PluginError(
            f"The plugin file '{path}' defines no plugin.",
            "Derive a class from ForwardSDE, ScoreLoss, Sampler, Network, Dataset, Guide or Optimizer.",
        )
    return names


def with_parts(registry: Registry[Any], spec: str) -> list[tuple[Registry[Any], str]]:
    """The plugin, and those that its items name, as `product:gbm[price],(vp:beta_max=5)[age]`, or `product:parts=(gbm[0],vp[1])`.

    Args:
        registry: its kind.
        spec: its spec string.

    Returns:
        The registry and the spec string of each.

    Raises:
        ParameterError: if a spec string is malformed.
    """
    found: list[tuple[Registry[Any], str]] = [(registry, spec)]
    for item in (item for value in parse(spec)[1].values() if isinstance(value, tuple) for item in value):
        inner = item.rpartition("[")[0].strip().removeprefix("(").removesuffix(")")
        if inner and registry.entries(parse(inner)[0]):
            found += with_parts(registry, inner)
    return found


def kebab(name: str) -> str:
    """Convert a class name to a plugin name: `MyProcess` to `my-process`, `CIR` to `cir`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower().strip("_")


@cache
def _entry_points(path: tuple[str, ...]) -> Any:
    """The entry points of all packages on the import path: one reading of their metadata serves every registry."""
    return entry_points()


def _entry(point: EntryPoint) -> Entry:
    return Entry(point.name, point.module, point.attr, _provider(point.dist) if point.dist else "an unknown distribution")


@cache
def _provider(distribution: Distribution) -> str:
    # The name stands in the metadata, which end with the whole README.
    return distribution.name


def _missing(cls: type) -> str:
    return ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))


def _providers(claims: list[Entry]) -> str:
    return " and ".join(f"{entry.provider} ({entry.module})" for entry in claims)


def _construct(cls: type, name: str, values: dict[str, Value]) -> Any:
    # Import the validation only when a plugin is built.
    from sdezoo.parameters import admits_none, required

    for key in sorted(required(cls) - values.keys()):
        raise ParameterError(f"{name} needs the parameter '{key}'.", f"Write {name}:{key}=….")
    return cls(**{key: None if value == "none" and admits_none(cls, key) else value for key, value in values.items()})
