"""Hyper-parameters: a plugin is a frozen dataclass, and its fields are its hyper-parameters.

The annotation of a field is its contract, for pyright and for users alike: `Positive`, `NonNegative`, `Fraction` and
`Count` carry their ranges, `Literal["a", "b"]` its choices, `float | None` a value that may be left open. They are
checked once, when the object is built, whether from Python, from a spec string or from a config; so an object that
exists is valid.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
from functools import cache
from typing import Annotated, Any, ClassVar, get_args, get_type_hints

from annotated_types import Ge, Gt, Interval
from pydantic import ConfigDict, TypeAdapter, ValidationError

from sdezoo.errors import ParameterError

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
Count = Annotated[int, Ge(1)]

_CONFIG = ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True)


class Plugin:
    """Base of everything that a registry holds.

    A subclass is decorated with `@dataclass(frozen=True)`. Equality, hashing and `repr` follow from its fields.

    Raises:
        ParameterError: when a field's value does not satisfy its annotation.
    """

    name: ClassVar[str] = ""
    """The name it was registered under; the class's own name until then."""
    preference: ClassVar[int] = 0
    """Where the user names no loss, sampler or network, the highest of all that fit is taken; among equals, the first. Not inherited."""
    preferred_for: ClassVar[tuple[str, ...]] = ()
    """The kinds of data, such as `table`, that `preference` is stated for; for others it is 0. Empty: for all. Not inherited."""

    positional: ClassVar[str | None] = None
    """The parameter, a tuple of texts, that takes the items of a spec string without a key. None: no such parameter."""

    def __post_init__(self) -> None:
        for key, value in self.parameters().items():
            object.__setattr__(self, key, convert(type(self), key, value))

    def check_rising(self, **values: float) -> None:
        """Refuse values, by the names that a user knows them by, unless each is below the next.

        Raises:
            ParameterError: naming the first two that are not.
        """
        for (small, a), (large, b) in itertools.pairwise(values.items()):
            if not a < b:
                raise ParameterError(f"{self.title()}: {small}={a:g} is not below {large}={b:g}.", f"Give {small} below {large}.")

    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters, in the order of their declaration."""
        return {field.name: getattr(self, field.name) for field in _fields(type(self))}

    @classmethod
    def title(cls) -> str:
        """The name for messages."""
        return vars(cls).get("name") or cls.__name__

    @property
    def spec(self) -> str:
        """The spec string that builds an equal object: `NAME[:key=value,…]`, fields at their default left out."""
        defaults = {field.name: field.default for field in _fields(type(self))}
        return self._spec({key: value for key, value in self.parameters().items() if value != defaults[key]})

    @property
    def full_spec(self) -> str:
        """As `spec`, with every field: for records that outlive today's defaults."""
        return self._spec(self.parameters())

    def _spec(self, values: dict[str, Any]) -> str:
        listed = ",".join(f"{key}={format_value(value)}" for key, value in values.items())
        return f"{self.title()}:{listed}" if listed else self.title()


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One hyper-parameter as a user sees it: its name, what it means, its range in words, its default."""

    name: str
    meaning: str
    """The text that follows the field in its class."""
    allowed: str
    default: Any
    required: bool


def describe(plugin: type[Plugin]) -> list[Parameter]:
    """The hyper-parameters of a plugin class, with their allowed ranges in words."""
    meanings, needed = _meanings(plugin), required(plugin)
    return [Parameter(f.name, meanings.get(f.name, ""), _allowed(plugin, f.name), f.default, f.name in needed) for f in _fields(plugin)]


def convert(plugin: type[Plugin], key: str, value: object) -> Any:
    """`value` as the field `key` of `plugin` wants it (`"0.8"` becomes `0.8`).

    Raises:
        ParameterError: naming the field, the value and the allowed range.
    """
    try:
        return _adapter(plugin, key).validate_python(value)
    except ValidationError as error:
        raise not_allowed(f"{plugin.title()}: {key}", format_value(value), error, f"Give {key} {_allowed(plugin, key)}.") from None


def not_allowed(what: str, value: object, error: ValidationError, remedy: str) -> ParameterError:
    """The error for a value that its annotation refuses, with pydantic's first reason."""
    reason = error.errors()[0]["msg"]
    return ParameterError(f"{what}={value} is not allowed ({reason[:1].lower()}{reason[1:]}).", remedy)


def required(plugin: type[Plugin]) -> set[str]:
    """The fields that have no default."""
    missing = dataclasses.MISSING
    return {field.name for field in _fields(plugin) if field.default is missing and field.default_factory is missing}


def admits_none(plugin: type[Plugin], key: str) -> bool:
    """Whether the field `key` may be left open."""
    return type(None) in get_args(_hints(plugin)[key])


def format_value(value: object) -> str:
    """A hyper-parameter as a spec string writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "(" + ",".join(map(format_value, value)) + ")"
    return str(value)


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
_KINDS = {"number": "a number", "integer": "a whole number", "string": "a text", "boolean": "true or false", "null": "none"}


@cache
def _allowed(plugin: type[Plugin], key: str) -> str:
    return in_words(_adapter(plugin, key).json_schema())


def in_words(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, in words."""
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
