"""Hyper-parameters: a plugin is a frozen dataclass, and its fields are its hyper-parameters.

The annotation of a field declares the allowed values: a range for `Positive`, `NonNegative`, `Fraction` and `Count`, the
choices of `Literal["a", "b"]`, an optional value for `float | None`. Values are checked once, when the object is built
from Python, a spec string or a config. An object that exists is therefore valid.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
from functools import cache
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval
from pydantic import ConfigDict, TypeAdapter, ValidationError

from sdezoo.errors import ParameterError

Positive = Annotated[float, Gt(0)]
"""A number above 0."""
NonNegative = Annotated[float, Ge(0)]
"""A number at least 0."""
Fraction = Annotated[float, Interval(ge=0, le=1)]
"""A number in [0, 1]."""
Count = Annotated[int, Ge(1)]
"""An integer at least 1."""

_CONFIG = ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True)


class Plugin:
    """Base class of all plugins.

    Decorate a subclass with `@dataclass(frozen=True)`. Equality, hashing and `repr` follow from its fields.

    Raises:
        ParameterError: if the value of a field does not satisfy its annotation.
    """

    name: ClassVar[str] = ""
    """The registered name. Empty before registration; messages then use the name of the class."""
    preference: ClassVar[int] = 0
    """Rank as the default: of the losses, samplers or networks that fit, the highest wins; among equals, the first. Not inherited."""
    preferred_for: ClassVar[tuple[str, ...]] = ()
    """The kinds of data, such as `table`, to which `preference` applies; for others it is 0. Empty: all kinds. Not inherited."""
    preferred_with: ClassVar[str] = ""
    """Parameters that it has as the default, such as `order=3,spacing=optimized`. Empty: those of its fields. Not inherited."""

    positional: ClassVar[str | None] = None
    """The parameter, a tuple of texts, that takes the items of a spec string without a key. None: no such parameter."""

    same_as: ClassVar[str | None] = None
    """Spec of the plugin that computes the same, or `SPEC on SDE` if only on one process, with the other parameters at their defaults.
    None: none is known. Not inherited."""

    papers: ClassVar[tuple[str, ...]] = ()
    """The papers behind the plugin, which `sdezoo cite` prints: BibTeX entries, or keys of entries in a file `references.bib` beside the
    module or in a package above it, where entries are separated by empty lines. Literal texts. Not inherited."""

    def __post_init__(self) -> None:
        for key, value in self.parameters().items():
            object.__setattr__(self, key, convert(type(self), key, value))

    def check_rising(self, **values: float) -> None:
        """Check that the values are strictly increasing.

        Args:
            values: values in the expected order, under their names for the user.

        Raises:
            ParameterError: if a value is not below the next one.
        """
        for (small, a), (large, b) in itertools.pairwise(values.items()):
            if not a < b:
                raise ParameterError(f"{self.title()}: {small}={a:g} is not below {large}={b:g}.", f"Choose {small} below {large}.")

    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters by name, in the order of declaration."""
        return {field.name: getattr(self, field.name) for field in _fields(type(self))}

    @classmethod
    def title(cls) -> str:
        """The name used in messages: the registered name, else the name of the class."""
        return vars(cls).get("name") or cls.__name__

    @property
    def spec(self) -> str:
        """The spec string that builds an equal object: `NAME[:key=value,…]`, without fields at their defaults."""
        defaults = {field.name: field.default for field in _fields(type(self))}
        return self._spec({key: value for key, value in self.parameters().items() if value != defaults[key]})

    @property
    def full_spec(self) -> str:
        """The spec string with every field, for records that must not depend on defaults."""
        return self._spec(self.parameters())

    def _spec(self, values: dict[str, Any]) -> str:
        listed = ",".join(f"{key}={format_value(value)}" for key, value in values.items())
        return f"{self.title()}:{listed}" if listed else self.title()


@dataclasses.dataclass(frozen=True)
class Parameter:
    """The description of one hyper-parameter."""

    name: str
    """Name of the field."""
    meaning: str
    """Docstring of the field: the string literal below it."""
    allowed: str
    """Allowed values, in words."""
    default: Any
    """Default value; `dataclasses.MISSING` without one."""
    required: bool
    """Whether the field has no default."""


def describe(plugin: type[Plugin]) -> list[Parameter]:
    """Describe the hyper-parameters of a plugin class.

    Args:
        plugin: the class.

    Returns:
        One description for each field, in the order of declaration.
    """
    meanings, needed = _meanings(plugin), required(plugin)
    return [Parameter(f.name, meanings.get(f.name, ""), _allowed(plugin, f.name), f.default, f.name in needed) for f in _fields(plugin)]


def convert(plugin: type[Plugin], key: str, value: object) -> Any:
    """Convert a value to the type of a field and check it (`"0.8"` becomes `0.8`). For a list, one value is a list of one.

    Args:
        plugin: the plugin class.
        key: name of the field.
        value: the value, from Python or parsed from text.

    Raises:
        ParameterError: if the value does not satisfy the annotation of the field.
    """
    hint = _hints(plugin)[key]
    if get_origin(hint) is tuple and get_args(hint)[1:] == (...,) and isinstance(value, str | int | float):
        value = (value,)
    try:
        return _adapter(plugin, key).validate_python(value)
    except ValidationError as error:
        raise not_allowed(f"{plugin.title()}: {key}", format_value(value), error, f"Set {key} to {_allowed(plugin, key)}.") from None


def not_allowed(what: str, value: object, error: ValidationError, remedy: str) -> ParameterError:
    """Build the error for a value that does not satisfy its annotation. It quotes the first reason of pydantic.

    Args:
        what: the field, as named to the user.
        value: the rejected value.
        error: the error of pydantic.
        remedy: one sentence on what to do.
    """
    reason = error.errors()[0]["msg"]
    return ParameterError(f"{what}={value} is not allowed ({reason[:1].lower()}{reason[1:]}).", remedy)


def required(plugin: type[Plugin]) -> set[str]:
    """The names of the fields without a default.

    Args:
        plugin: the plugin class.
    """
    missing = dataclasses.MISSING
    return {field.name for field in _fields(plugin) if field.default is missing and field.default_factory is missing}


def admits_none(plugin: type[Plugin], key: str) -> bool:
    """Whether a field may be None.

    Args:
        plugin: the plugin class.
        key: name of the field.
    """
    return type(None) in get_args(_hints(plugin)[key])


def format_value(value: object) -> str:
    """Format a hyper-parameter for a spec string.

    Args:
        value: the value; None becomes `none`, a tuple a list in parentheses, a text with commas is put into quotation marks.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "(" + ",".join(map(format_value, value)) + ")"
    return f'"{value}"' if isinstance(value, str) and _needs_quotes(value) else str(value)


def _needs_quotes(text: str) -> bool:
    """Whether a text would not be one value in a spec string."""
    depth, lowest, parted = 0, 0, False
    for c in text:
        depth += (c in "([") - (c in ")]")
        lowest = min(lowest, depth)
        parted |= c == "," and depth <= 0
    listed = text.startswith("(") and text.endswith(")")
    return '"' not in text and text != "," and (parted or depth != 0 or lowest < 0 or listed or text != text.strip())


def _fields(plugin: type[Plugin]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(plugin) if dataclasses.is_dataclass(plugin) else ()


def _meanings(plugin: type[Plugin]) -> dict[str, str]:
    found = {}
    for cls in reversed(plugin.__mro__):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        except (OSError, TypeError, ValueError):
            continue
        for field, text in itertools.pairwise(getattr(tree, "body", ())):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                    found[name] = inspect.cleandoc(meaning)
    return found


@cache
def _hints(plugin: type[Plugin]) -> dict[str, Any]:
    return get_type_hints(plugin, include_extras=True)


@cache
def _adapter(plugin: type[Plugin], key: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(plugin)[key], config=_CONFIG)


_WORDS = {
    "exclusiveMinimum": "above {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "below {}",
    "maximum": "at most {}",
}
_KINDS = {"number": "a number", "integer": "an integer", "string": "a string", "boolean": "true or false", "null": "none"}


@cache
def _allowed(plugin: type[Plugin], key: str) -> str:
    return in_words(_adapter(plugin, key).json_schema())


def in_words(schema: dict[str, Any]) -> str:
    """Describe the values that a JSON schema allows, for example "a number above 0".

    Args:
        schema: the JSON schema of one value.
    """
    if "anyOf" in schema:
        return " or ".join(map(in_words, schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        inner = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"a list in parentheses, each {in_words(inner)}"
    bounds = " and ".join(words.format(schema[key]) for key, words in _WORDS.items() if key in schema)
    return " ".join(filter(None, (_KINDS.get(schema.get("type", ""), "a value"), bounds)))
