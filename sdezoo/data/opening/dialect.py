"""How a table in text is written: separator, decimal mark, thousands separator, encoding, comments, and the line of column names.

`Dialect` holds what the user says. `look` finds the rest in the first lines of a file, and refuses what could be read in two ways. Numbers
written with other marks, such as `1.234,50` or `$1,234`, are told apart by whole columns, see `sdezoo.data.opening.numerals`.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import shlex
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice, pairwise
from pathlib import Path
from typing import Self

from sdezoo.errors import DataError, ParameterError
from sdezoo.parameters import format_value

COLUMNS = 100_000
"""Most columns of a table in text."""
LINE = 2**24
"""Longest line of column names, in bytes."""

_WORDS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "pipe": "|", "point": ".", "apostrophe": "'"}
_MARKUP = {"JSON": re.compile(r'\s*(?:\{\s*"|\[\s*[\[{])'), "HTML or XML": re.compile(r"(?i)\s*<(?:!doctype|html|\?xml)\b")}
_SEPARATORS = (",", ";", "\t", "|")
_RARE = ("^", "~", "\x01", "\x1f")
"""Separators that are looked for if there is none of the others."""
_SAMPLE = 64  # lines that are looked at
_ROWS = 21  # records that are looked at, the column names included
_EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_LINE_ENDS = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_SHELL = "\"'!$`\\"  # what a shell does not leave alone in double quotation marks
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class DialectError(DataError):
    """A text that is read once the user says how it is written, by options of the dataset `table`."""


@dataclass(frozen=True)
class Dialect:
    """What the user says about a table's file; None and empty: found in the file.

    Args:
        separator: what separates columns, a character or a word: comma, semicolon, tab, space, pipe.
        decimal: decimal mark of numbers, a character or a word: point, comma.
        thousands: thousands separator of numbers, a character or a word: comma, point, space, apostrophe.
        encoding: encoding of the text, such as latin-1.
        comment: character that starts a line of comments.
        missing: texts that mark missing values, besides the empty text, NA and NaN; `COLUMN=TEXT` marks those of one column, see `marks`.
        text: columns that are read as text, such as postal codes; names that the table does not have are ignored.
        sheet: the sheet of an Excel file.

    Raises:
        ParameterError: if a mark is neither a character nor one of the words, two marks are equal, or the encoding is unknown.
    """

    separator: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    encoding: str | None = None
    comment: str | None = None
    missing: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    sheet: str | None = None

    def __post_init__(self) -> None:
        for name in ("separator", "decimal", "thousands", "comment"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, _mark(name, value))
        if self.decimal is not None and self.decimal not in ".,":
            raise ParameterError(f"decimal={self.decimal} is not a decimal mark.", "Give decimal=point or decimal=comma.")
        if self.thousands is not None and self.thousands not in ",. '":
            raise ParameterError(
                f"thousands={self.thousands} is not a thousands separator.", "Give thousands=comma, point, space or apostrophe."
            )
        if self.thousands is not None and self.thousands == self.decimal:
            raise ParameterError("decimal and thousands are the same character.", "Give two different ones.")
        if self.encoding is not None:
            _check_encoding(self.encoding)

    @classmethod
    def of(cls, source: object) -> Self:
        """What the user says in the parameters of a dataset.

        Args:
            source: anything that has some of the fields of a dialect.
        """
        return cls(**{one.name: getattr(source, one.name) for one in fields(cls) if hasattr(source, one.name)})

    def only(self, names: Sequence[str]) -> Dialect:
        """The dialect without what does not apply to a form of file.

        Args:
            names: names of the fields to keep.
        """
        return Dialect(**{name: getattr(self, name) for name in names})

    def marks(self, names: Container[str]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
        """The texts that mark missing values: those of all columns, and further ones by column.

        Args:
            names: the column names of the table: `COLUMN=TEXT` is the mark of a column only if there is such a column.
        """
        parts = [(text, text.partition("=")) for text in self.missing]
        own: dict[str, tuple[str, ...]] = {}
        for _, (name, sign, mark) in parts:
            if sign and name in names:
                own[name] = (*own.get(name, ()), mark)
        return tuple(text for text, (name, sign, _) in parts if not (sign and name in names)), own

    @property
    def decimal_mark(self) -> str | None:
        """The decimal mark: as given, else the one that the thousands separator leaves; None: not known."""
        if self.decimal is None and self.thousands is not None:
            return "," if self.thousands == "." else "."
        return self.decimal


@dataclass(frozen=True)
class Layout:
    """Where the columns of a table in text are, found by `look`.

    Args:
        names: column names, as many as there are columns; empty where a column has none.
        separator: what separates columns.
        comment: character that starts lines to leave out; None: there are none.
        first: number of characters before the first row of data.
        notes: what the user should know, a sentence each.
    """

    names: tuple[str, ...]
    separator: str
    comment: str | None
    first: int
    notes: tuple[str, ...] = field(default=())


def instead(path: Path, *options: str, **lists: str) -> str:
    """The sentence that tells the user to give options of the dataset `table`.

    Args:
        path: the file.
        options: the options, such as `decimal=comma`.
        lists: options that are lists, and the one text to give for each.
    """
    given = (f"path={path}", *options, *(f"{name}={format_value((text,))}" for name, text in lists.items()))
    if any(c in ',()[]" ' for c in str(path)):
        given = (f'path="{path}"', *given[1:])
    spec = f"table:{','.join(given)}"
    return "Give --data {}.".format(shlex.quote(spec) if set(spec) & set(_SHELL) else f'"{spec}"')


def correction(path: Path, name: str, text: str) -> str:
    """The sentence on a cell that is a mistake, or a mark of a missing value, or shows that its column is text.

    Args:
        path: the file.
        name: name of the column.
        text: what the cell has.
    """
    marked = instead(path, missing=f"{name}={text}")
    return f"Correct it, or if it marks a missing value, g{marked[1:-1]}, if the column is text, text={format_value((name,))}."


def byte_order(head: bytes) -> str | None:
    """The encoding that the byte-order mark of a file names; None without one.

    Args:
        head: the first bytes of the file.
    """
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)


def not_text(path: Path, head: bytes, at: int = 0) -> DataError:
    """The error for bytes that are not UTF-8, to be raised by the caller.

    Args:
        path: the file.
        head: bytes of the file that are not UTF-8.
        at: number of the first byte of them that is not.
    """
    if head.count(0) >= len(head) // 4:
        little = head[1::2].count(0) >= head[::2].count(0)
        return DialectError(
            f"'{path}' is not UTF-8 text; its zero bytes are those of UTF-16 or of a file that is no table.",
            instead(path, f"encoding=utf-16-{'le' if little else 'be'}"),
        )
    if 0 in head:
        return DataError(f"'{path}' has zero bytes, which no text has.", "Remove them, or check that the file is complete.")
    line = next((part for part in re.split(rb"[\r\n]+", head[head.rfind(b"\n", 0, at) + 1 :]) if not part.isascii()), b"")
    shown = "".join(c if c.isprintable() else "\ufffd" for c in line.decode("latin-1"))
    return DialectError(
        f"'{path}' is not UTF-8 text; in the encoding latin-1 a line of it reads: {shown[:80]}.",
        f"If that is right, g{instead(path, 'encoding=latin-1')[1:-1]}, else another encoding, such as cp1251.",
    )


def look(path: Path, head: str, dialect: Dialect, ending: str) -> Layout:
    """Find the column names, the separator and the comments of a table in text.

    Args:
        path: the file, for messages.
        head: the beginning of the file: the line of column names and some rows, or the whole file.
        dialect: what the user says.
        ending: lower-case ending of the file's name; `.tsv` and `.tab` are separated by tabs.

    Raises:
        DataError: if the file is empty, can be read in two ways, has too many columns, or has a line of numbers for names.
    """
    if markup := next((name for name, begun in _MARKUP.items() if begun.match(head)), None):
        raise DataError(f"'{path}' holds {markup}, not a table with a line of column names.", "Save it as .csv or .parquet.")
    lines, first = list(_lines(head, _SAMPLE)), 0
    separator = dialect.separator or ("\t" if ending in (".tsv", ".tab") else None)
    while lines and not lines[0].strip():
        first += len(lines.pop(0))
    if lines and dialect.separator is None and (excel := _EXCEL.fullmatch(lines[0])):
        separator = excel[1]
        first += len(lines.pop(0))
    if not lines:
        raise EOFError("it is empty, or its first line is")
    if max(lines[0].count(mark) for mark in (separator or ",", *_SEPARATORS)) >= COLUMNS or len(lines[0]) >= LINE:
        raise DataError(f"'{path}' has more than {COLUMNS} columns, or column names that are too long.", "Give fewer columns, or a .npy.")
    mark = dialect.comment or "#"
    comments: list[str] = []
    while lines and (lines[0].startswith(mark) or (comments and not lines[0].strip())):
        comments.append(lines[0])
        first += len(lines.pop(0))
    guessed, separator = separator is None, separator or _separator(path, lines or comments)
    shown = "spaces" if separator == " " else repr(separator)
    spaced = (f"The columns of '{path}' are taken to be separated by {shown}.",) if guessed and separator in (" ", *_RARE) else ()
    if comments and (named := _named_in_comment(path, comments, lines, mark, separator)) is not None:
        names, notes = named, (f"The column names of '{path}' are those of its line '{comments[-1].strip()[:80]}'.",)
    elif not lines:
        raise EOFError("it has nothing but comments" if comments else "it is empty, or its first line is")
    else:
        names, used = _record(lines, separator)
        first += sum(map(len, lines[:used]))
        lines = lines[used:]
        notes = tuple(_doubted(path, names, _records(lines, separator)))
    if names and all(map(is_number, names)):
        raise DataError(f"'{path}' starts with a line of numbers, not with column names.", "Add a first line with the column names.")
    return Layout(_completed(names, lines, separator), separator, mark if comments or dialect.comment else None, first, notes + spaced)


def aligned(head: str, dialect: Dialect) -> bool:
    """Whether the columns of a text are separated by any number of spaces, as in a table that is printed.

    Args:
        head: the beginning of the file.
        dialect: what the user says.
    """
    lines = [line for line in _lines(head, _SAMPLE) if line.strip() and not line.startswith(dialect.comment or "#")]
    rows = [line.split() for line in (lines[:-1] if len(lines) > _ROWS else lines)[:_ROWS]]
    if dialect.separator not in (None, " ") or len(rows) < 2 or len(rows[0]) < 2 or any(mark in lines[0] for mark in (*_SEPARATORS, '"')):
        return False
    several = any("  " in line.rstrip() or line.startswith(" ") for line in lines[: len(rows)])
    return several and {len(row) for row in rows[1:]} in ({len(rows[0])}, {len(rows[0]) + 1})


def is_number(text: str) -> bool:
    """Whether Python reads a text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _mark(name: str, value: str) -> str:
    mark = "\t" if value == r"\t" else _WORDS.get(value, value)
    if len(mark) != 1 or mark in '"\r\n\0' or (not mark.isascii() and name == "separator"):
        raise ParameterError(f"{name}={value} is not a mark.", f"Give a character, or one of {', '.join(_WORDS)}.")
    return mark


def _check_encoding(name: str) -> None:
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name)
    except (LookupError, ValueError):
        raise ParameterError(
            f"There is no encoding '{name}'.", "Give one that Python knows, such as utf-8, utf-16, latin-1 or cp1252."
        ) from None


def _lines(text: str, most: int) -> Iterator[str]:
    return (found[0] for found in islice(_LINE_ENDS.finditer(text), most) if found[0])


def _record(lines: list[str], separator: str) -> tuple[list[str], int]:
    """The first record of some lines, and the number of lines that it takes."""
    used = 0

    def counted() -> Iterator[str]:
        nonlocal used
        for line in lines:
            used += 1
            yield line

    return next(csv.reader(counted(), delimiter=separator), []), used


def _records(lines: Iterable[str], separator: str) -> list[list[str]]:
    try:
        found = list(islice((row for row in csv.reader(lines, delimiter=separator) if row), _ROWS + 1))
    except csv.Error:
        return []
    return found[:_ROWS] if len(found) > _ROWS else found


def _separator(path: Path, lines: list[str]) -> str:
    """The separator with which the first rows have as many fields as there are names; spaces if there is none of the others."""
    consistent, likely = [], []
    for mark in _SEPARATORS:
        counts = [len(row) for row in _records(lines, mark)]
        if not counts or counts[0] < 2:
            continue
        same = sum(count in (counts[0], counts[0] + 1) for count in counts[1:])
        if same == len(counts) - 1:
            consistent.append(mark)
        elif same > 0 or mark == ",":
            likely.append(mark)
    if len(consistent) > 1:
        words = {character: word for word, character in _WORDS.items()}
        options = [f"separator={words[mark]}" for mark in consistent]
        raise DialectError(
            f"The columns of '{path}' could be separated by {' or '.join(words[mark] + 's' for mark in consistent)}.",
            f"{instead(path, options[0])[:-1]} or {options[1]}.",
        )
    if not consistent and not likely:
        for mark in _RARE:
            columns = {len(row) for row in _records(lines, mark)}
            if len(columns) == 1 and columns != {1}:
                return mark
        spaced = _records(lines, " ")
        columns = {len(row) for row in spaced[1:]}
        if spaced and len(spaced[0]) > 1 and all(map(all, spaced)) and columns in ({len(spaced[0])}, {len(spaced[0]) + 1}):
            return " "
    return next(iter(consistent or likely), ",")


def _named_in_comment(path: Path, comments: list[str], lines: list[str], mark: str, separator: str) -> list[str] | None:
    """The names in the last comment, as `numpy.savetxt` writes them; None if they are in the line after it."""
    names = [name.strip() for name in _record([comments[-1].lstrip(mark + " ")], separator)[0]]
    rows = _records(lines, separator)
    if not rows or len(rows[0]) != len(names) or all(map(is_number, names)):
        return None
    if all(map(is_number, rows[0])) or (len(names) > 1 and any(map(is_number, rows[0]))):
        return names
    if len(names) > 1 and not any(map(is_number, rows[1] if len(rows) > 1 else [])):
        raise DataError(
            f"The line '{comments[-1].strip()[:80]}' of '{path}' may hold the column names, or be a comment.",
            f"Remove its '{mark}' if it has the names, else the line.",
        )
    return None


def _doubted(path: Path, names: list[str], rows: list[list[str]]) -> Iterator[str]:
    """A sentence on column names that look like a row of data: numbers where the rows have numbers, texts where they have texts. Names that
    count, such as years, do not.
    """
    kinds = [is_number(name) for name in names]
    numbers = [float(name) for name, number in zip(names, kinds, strict=True) if number]
    counts = len(numbers) > 1 and all(number.is_integer() and b > a for number, (a, b) in zip(numbers, pairwise(numbers), strict=False))
    if any(kinds) and not counts and len(rows) > 1 and all(list(map(is_number, row)) == kinds for row in rows[:-1]):
        shown = ",".join(names)[:80]
        yield f"The first line of '{path}' has the column names, though it looks like a row of data: {shown}. If it is one, add names."


def _completed(names: list[str], lines: list[str], separator: str) -> tuple[str, ...]:
    """The names, and empty ones for row names without a name (as R writes them) or for separators at the end of every row."""
    rows = _records(lines, separator)[: _ROWS - 2]
    if len(names) > 1 and rows and all(len(row) == len(names) + 1 for row in rows):
        return (*names, "") if not any(row[-1] for row in rows) else ("", *names)
    return tuple(names)
