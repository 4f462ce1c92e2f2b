"""Spec strings, `NAME[:item,…]`, which describe a plugin and its hyper-parameters on the command line, in configs and in Python.

An item is `key=value`. Values are numbers, strings, `none`, `true`/`false`, or lists in parentheses: `unet:width=64,multipliers=(1,2,4)`.
Parentheses may be nested. A plugin with a `positional` parameter also takes items without a key, such as the parts of
`product:gbm[price;area],vp[temperature]`; their commas may stand in parentheses or brackets too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from sdezoo.errors import ParameterError

_FORM = "Write it as NAME or NAME:key=value,key=value, for example gbm:sigma=0.8."
_SHOWN = 200
_KEY = re.compile(r"\s*([^\W\d]\w*)\s*=\s*(\S.*)", re.DOTALL)

Value = str | tuple[str, ...]


def parse(spec: str) -> tuple[str, dict[str, Value]]:
    """Parse a spec string.

    Args:
        spec: the spec string.

    Returns:
        The name, and the values by their keys, still strings, or tuples of strings for lists. Items without a key are listed under
        the empty key.

    Raises:
        ParameterError: if it is malformed, or gives a key twice.
    """
    name, colon, rest = spec.strip().partition(":")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or (colon and not rest):
        raise ParameterError(f"'{shown(spec)}' is not a spec string.", _FORM)
    values: dict[str, Value] = {}
    unnamed: list[str] = []
    for item in split(rest) if rest else []:
        found = _KEY.fullmatch(item)
        if not found:
            if not re.fullmatch(r".+\[.*\]", item.strip(), re.DOTALL):
                raise ParameterError(f"'{shown(item.strip())}' in the spec string '{shown(spec)}' is not of the form key=value.", _FORM)
            unnamed.append(item.strip())
            continue
        key, value = found[1], found[2].strip()
        if key in values:
            raise ParameterError(f"The spec string '{shown(spec)}' gives {shown(key)} twice.", "Give it once.")
        values[key] = listed(value) if value.startswith("(") and value.endswith(")") else value
    return name, {**values, "": tuple(unnamed)} if unnamed else values


def listed(text: str) -> tuple[str, ...]:
    """Parse a list in parentheses.

    Args:
        text: the list, such as `(1,2,4)`.
    """
    return tuple(item.strip() for item in split(text[1:-1]) if item.strip())


def split(text: str, at: str = ",") -> list[str]:
    """Split a text at its separators, except inside parentheses or brackets.

    Args:
        text: the text.
        at: the separator, one character.
    """
    items, depth = [""], 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if c == at and depth <= 0:
            items.append("")
        else:
            items[-1] += c
    return items


def shown(text: str) -> str:
    """Shorten a string from the user for a message."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Suggest the most similar known name, or list all of them."""
    known = sorted(known)
    near = get_close_matches(name[:_SHOWN], known, 1)
    return f"Did you mean '{near[0]}'?" if near else f"Choose one of: {', '.join(known) or '(none)'}."
