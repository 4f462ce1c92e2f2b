"""The notation of the setting `column`: names in quotation marks, and what is said of columns."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

_QUOTED = re.compile(r'(?:^|(?<=[=+,]))\s*"(?:[^"]|"")+"')
_MARKS = re.compile(r'[,=+"]|^\s|\s$')


def setting(name: str, what: str) -> str:
    """Write what is said of a column, as the setting `column` says it.

    Args:
        name: of the column.
        what: a spec string of a process, `category`, `negative` or `drop`.
    """
    return f"{quoted(name)}={f'({what})' if ',' in what else what}"


def ordered(chain: Sequence[str]) -> str:
    """Write that each column is at most the next, as the setting `column` says it.

    Args:
        chain: names of the columns.
    """
    return "<=".join(map(quoted, chain))


def summed(group: Sequence[str], total: str) -> str:
    """Write that columns sum to a constant or to another column, as the setting `column` says it.

    Args:
        group: names of the columns.
        total: the constant, or the name of the column as `quoted` writes it.
    """
    return f"{'+'.join(map(quoted, group))}={total}"


def option(text: str) -> str:
    """Write a setting as an option of the command line, quoted for a shell.

    Args:
        text: the setting `column`.
    """
    return f"--column {in_quotes(text)}"


def in_quotes(text: str) -> str:
    """Quote a setting for a shell.

    Args:
        text: the setting `column`.
    """
    return shlex.quote(text) if "'" in text else f"'{text}'"


def quoted(name: str) -> str:
    """Write the name of a column, in quotation marks if the setting `column` needs them.

    Args:
        name: of the column.
    """
    paired = name.count("(") == name.count(")") and name.count("[") == name.count("]")
    return name if paired and not _MARKS.search(name) else '"{}"'.format(name.replace('"', '""'))


def cut(text: str, mark: str) -> list[str]:
    """Split a text at a mark, except inside quotation marks.

    Args:
        text: a part of the setting `column`.
        mark: such as `<=`.
    """
    masked = _QUOTED.sub(lambda found: "\0" * len(found[0]), text)
    places = [0, *(end for found in re.finditer(re.escape(mark), masked) for end in found.span()), len(text)]
    return [text[first:last].strip() for first, last in zip(places[::2], places[1::2], strict=True)]


def unquoted(texts: Iterable[str]) -> tuple[str, ...]:
    """Take the quotation marks off names.

    Args:
        texts: names, with or without.
    """
    return tuple(text[1:-1].replace('""', '"') if _QUOTED.fullmatch(text) else text for text in texts)
