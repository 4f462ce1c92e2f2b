"""Spec strings, `NAME[:key=value,…]`, which describe a plugin and its hyper-parameters on the command line, in configs and in Python.

Values are numbers, strings, `none`, `true`/`false`, or lists in parentheses: `unet:width=64,multipliers=(1,2,4)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import pairwise

from sdezoo.errors import ParameterError

_FORM = "Write it as NAME or NAME:key=value,key=value, for example gbm:sigma=0.8."
_SHOWN = 200
_PARENTHESIS = re.compile(r"(?=[()])")

Value = str | tuple[str, ...]


def parse(spec: str) -> tuple[str, dict[str, Value]]:
    """Parse a spec string into a name and values. Values stay strings, or tuples of strings for lists.

    Raises:
        ParameterError: if the spec string is malformed, or a key is given twice.
    """
    name, colon, rest = spec.strip().partition(":")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or (colon and not rest):
        raise ParameterError(f"'{shown(spec)}' is not a spec string.", _FORM)
    values: dict[str, Value] = {}
    for item in _items(rest) if rest else []:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key.isidentifier() or not value:
            raise ParameterError(f"'{shown(item)}' in the spec string '{shown(spec)}' is not of the form key=value.", _FORM)
        if key in values:
            raise ParameterError(f"The spec string '{shown(spec)}' gives {shown(key)} twice.", "Give it once.")
        listed = value.startswith("(") and value.endswith(")")
        values[key] = tuple(part.strip() for part in value[1:-1].split(",") if part.strip()) if listed else value
    return name, values


def _items(text: str) -> list[str]:
    """Split `text` at commas outside parentheses."""
    items = [""]
    for part, following in pairwise([*_PARENTHESIS.split(text), ""]):
        first, *more = [part] if following.startswith(")") else part.split(",")
        items[-1] += first
        items += more
    return items


def shown(text: str) -> str:
    """Shorten a string from the user for a message."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Suggest the most similar known name, or list all of them."""
    known = sorted(known)
    near = get_close_matches(name[:_SHOWN], known, 1)
    return f"Did you mean '{near[0]}'?" if near else f"Choose one of: {', '.join(known) or '(none)'}."
