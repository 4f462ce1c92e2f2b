"""Spec strings, `NAME[:item,…]`, which describe a plugin and its hyper-parameters on the command line, in configs and in Python.

An item is `key=value`. Values are numbers, strings, `none`, `true`/`false`, or lists in parentheses: `unet:width=64,multipliers=(1,2,4)`.
Parentheses may be nested. A plugin with a `positional` parameter also takes items without a key, such as the parts of
`product:gbm[price;area],vp[temperature]`; their commas may stand in parentheses or brackets too.

A value with commas or unpaired parentheses is put into quotation marks, `table:path="a, b.csv"`, and so is an entry of a list. A comma
alone needs none: `decimal=,`.
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
    if name.endswith(".py"):
        raise ParameterError(f"'{shown(spec)}' is a file, not the name of a plugin.", "Load it by --plugin FILE, then name a plugin of it.")
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
        if value.startswith('"') and (len(value) < 3 or value.find('"', 1) != len(value) - 1):
            raise ParameterError(f"The quotation marks of {shown(key)} in '{shown(spec)}' enclose no value.", 'Write key="value".')
        if key in values:
            raise ParameterError(f"The spec string '{shown(spec)}' gives {shown(key)} twice.", "Give it once.")
        values[key] = _value(value)
    return name, {**values, "": tuple(unnamed)} if unnamed else values


def _value(text: str) -> Value:
    if text.startswith('"'):
        return text[1:-1]
    return listed(text) if text.startswith("(") and text.endswith(")") else text


def listed(text: str) -> tuple[str, ...]:
    """Parse a list in parentheses.

    Args:
        text: the list, such as `(1,2,4)`.
    """
    items = (item.strip() for item in split(text[1:-1]))
    return tuple(item[1:-1] if len(item) > 2 and item[0] == item[-1] == '"' else item for item in items if item)


def split(text: str, at: str = ",") -> list[str]:
    """Split a text at its separators, except inside parentheses, brackets, or quotation marks.

    Quotation marks may enclose an item, a value after `=`, or what follows `+`; in them, two stand for one.

    Args:
        text: the text.
        at: the separator, one character. It is a value itself directly after `=`, if another separator or nothing follows.
    """
    items, depth, quoted, fresh, opens = [""], 0, False, False, True
    for i, c in enumerate(text):
        alone = fresh and c == at and (i + 1 == len(text) or text[i + 1] == at)
        closes = quoted and c == '"'
        if quoted:
            quoted = not closes
        elif opens and c == '"':
            quoted = True
        else:
            depth += (c in "([") - (c in ")]")
        if c == at and depth <= 0 and not quoted and not alone:
            items.append("")
        else:
            items[-1] += c
        fresh = not quoted and depth <= 0 and (c == "=" or (fresh and c == " "))
        opens = not quoted and depth <= 0 and (closes or c in ("=", "+", at) or (opens and c == " "))
    return items


def shown(text: str) -> str:
    """Shorten a string from the user for a message."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Suggest the most similar known name, or list all of them."""
    known = sorted(set(known))
    near = get_close_matches(name[:_SHOWN], known, 1)
    if not known:
        return "Leave it out: there are none."
    return f"Did you mean '{near[0]}'?" if near else f"Choose one of: {', '.join(known)}."
