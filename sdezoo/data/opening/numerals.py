"""Numbers written for people: thousands separators, decimal commas, currency signs, and columns that mix numbers with other texts.

A column of text is read as numbers if all of its values are numbers in one notation: `1,234.50` (a decimal point) or `1.234,50` (a decimal
comma). `1,234` alone is in both. Another column of the file then tells, or the user. A unit behind all numbers of a column, as in
`59.8 kg`, is left out. Among other numbers, one in parentheses, `(1,234.50)`, is negative, as accountants write it. Arrow converts the
texts once the marks are removed. `Amounts` writes numbers as such texts again.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdezoo.data.opening.dialect import Dialect, DialectError, correction, instead
from sdezoo.data.opening.words import Words, by_part, without_marks, words
from sdezoo.errors import DataError

_SPACES = " '\u2019\u00a0\u2009\u202f"  # thousands separators with no other meaning
_CURRENCY = r"(?:\p{Sc}|USD|EUR|GBP|CHF|JPY|CNY|INR)"
_AMOUNT = rf"^\s*([-+\x{{2212}}]?)\s*({_CURRENCY}?)\s*([-+]?[\d.,{_SPACES}]*\d[\d.,]*(?:[eE][-+]?\d+)?)\s*({_CURRENCY}|%|)\s*$"
_NOTATIONS = {
    mark: (
        rf"^[-+\x{{2212}}]?(?:(?:\d+|\d{{1,3}}(?:[{other}]\d{{3}})+|\d{{1,2}}(?:[{other}]\d\d)+[{other}]\d{{3}}|\d{{1,3}}(?:[{_SPACES}]\d{{3}})+)"
        rf"(?:[{mark}]\d*)?|[{mark}]\d+)(?:[eE][-+]?\d+)?$"
    )
    for mark, other in ((".", ","), (",", "."))
}
_NEGATIVE = rf"^\s*({_CURRENCY}?)\s*\(\s*([^()+-]*\d[^()+-]*)\)\s*$"
_TRAILING = rf"^\s*({_CURRENCY}?\s*\d[\d.,{_SPACES}]*)-\s*$"
_ZEROS = "\u0660\u06f0\u0966\uff10"
"""The zeros of Arabic, Persian, Indian and full-width digits, which the other nine follow."""
_IN_UNIT = rf"^\s*[-+\x{{2212}}]?[\d.,]*\d[\d.,{_SPACES}]*?\s?(?P<unit>[\p{{L}}°][\p{{L}}°²³%/]*)\s*$"
_PADDED = r"^\s*[-+]?0\d"  # a code: as a number it would be another one
_DATE = r"^\d{4}-\d{2}-\d{2}"

_ZERO_FIRST, _MANY = r"^\s*[-+]?0\d+\s*$", r"^\s*[-+]?\d{19,}\s*$"
_HEXADECIMAL, _TELEPHONE, _SIGNED = r"^\s*0[xX][0-9a-fA-F]+\s*$", r"^\s*\+\d{7,}\s*$", r"^\s*[-+]?\d{1,15}\s*$"

_CELL = re.compile(rf"([^\d.,]*)([\d.,{_SPACES}]*\d[.,]?)(\D*)")
_HEAD = 256  # rows that are looked at before all are
CATEGORIES = 20
"""Different texts at most of a column of words that may be numbers, such as `0`, `1`, `2` and `3+`."""
_QUANTITY = r"^[^\d\pL]{0,3}\d"
_CELLS = 10_000  # how many cells are looked at


def notation(path: Path, table: pa.Table, dialect: Dialect) -> str | None:
    """Find the decimal mark of a file whose columns of text are numbers in one notation only.

    Args:
        path: the file, for messages.
        table: the table.
        dialect: what the user says; its columns `text` do not tell.

    Returns:
        `.` or `,`; None: no column tells.

    Raises:
        DataError: if some columns have decimal points, others decimal commas.
    """
    found = {}
    for name, column in _texts(table.drop_columns([name for name in dialect.text if name in table.column_names])):
        amounts = _amounts(column.texts)
        marks = [mark for mark, pattern in _NOTATIONS.items() if _share(amounts, pattern, column) == 1]
        if len(marks) == 1:
            found[marks[0]] = name
    if len(found) > 1:
        remedy = instead(path, text=found[","])
        raise DialectError(
            f"'{path}' has decimal points in column '{found['.']}' and decimal commas in column '{found[',']}'.",
            f"Write all numbers in one way, or g{remedy[1:]}",
        )
    return next(iter(found), None)


def read_numbers(path: Path, table: pa.Table, dialect: Dialect, mark: str | None, notify: Callable[[str], None]) -> pa.Table:
    """Convert the columns of text whose values are all numbers.

    Args:
        path: the file, for messages.
        table: the table.
        dialect: what the user says; its columns `text` stay.
        mark: decimal mark of the file; None: not known.
        notify: called with a sentence for each column in which marks such as `?` stand for missing values, and one on what
            is left out.

    Raises:
        DataError: if a column is ambiguous, or mixes numbers or dates with other texts.
    """
    without = []
    for name, column in _texts(table):
        if name in dialect.text:
            continue
        texts, amounts = column.texts, _amounts(column.texts)
        shares = {notation: _share(amounts, pattern, column) for notation, pattern in _NOTATIONS.items()}
        if 0.5 <= max(shares.values()) < 1 and (marked := without_marks(texts)) is not None:
            left = _amounts(marked)
            found = {notation: _share(left, pattern, column) for notation, pattern in _NOTATIONS.items()}
            if max(found.values()) == 1:
                shown = pc.filter(texts, pc.and_(pc.is_null(marked), pc.is_valid(texts)))
                notify(f"'{shown[0].as_py()}' in column '{name}' of '{path}', whose other values are numbers, is a missing value.")
                texts, amounts, shares = marked, left, found
                table = _replaced(table, name, column.spread(texts))
        if max(shares.values()) < 1:
            _take_words(path, name, column, texts, amounts, shares, notify)
            continue
        if mark is None and min(shares.values()) == 1 and _differ(amounts):
            shown = pc.drop_null(amounts)[_first(pc.match_substring_regex(pc.drop_null(amounts), r"[.,]"), True)]
            raise DialectError(
                f"The values of column '{name}' of '{path}', such as {shown}, are numbers with a thousands separator or with decimals.",
                f"{instead(path, 'decimal=point')[:-1]} or decimal=comma.",
            )
        chosen = mark or max(shares, key=lambda notation: shares[notation])
        if shares[chosen] < 1:
            _take_words(path, name, column, texts, amounts, {chosen: shares[chosen]}, notify)
            continue
        _check_units(path, name, texts)
        table = _replaced(table, name, column.spread(_number(amounts, chosen)))
        first, amount = pc.drop_null(texts)[0].as_py(), pc.drop_null(amounts)[0].as_py()
        without += [f"'{first.strip()}' in column '{name}'"] if first.strip() != amount else []
    if without:
        notify(f"Numbers of '{path}' are read, and written, without their signs or units, such as {', '.join(without[:5])}.")
    return table


def _replaced(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    place = table.column_names.index(name)
    metadata = table.schema.field(place).metadata if pa.types.is_dictionary(column.type) else None
    return table.set_column(place, pa.field(name, column.type, metadata=metadata), column)


@dataclass(frozen=True)
class Amounts:
    """How the numbers of a column are written for people, such as `$1,234.50`, `5.5%` or `(12.00)`.

    Args:
        positive: what stands before and behind a number that is not negative.
        negative: what stands before and behind the digits of a negative number.
        thousands: what separates thousands; empty: nothing.
        decimal: decimal mark.
        decimals: the least and the largest number of decimal places.
    """

    positive: tuple[str, str]
    negative: tuple[str, str]
    thousands: str
    decimal: str
    decimals: tuple[int, int]

    @classmethod
    def of(cls, texts: Sequence[str], numbers: Iterable[float | None], decimal: str) -> Amounts | None:
        """Find how a column is written: as most of its first cells are.

        Args:
            texts: the cells.
            numbers: the numbers that were read from them; None: missing.
            decimal: decimal mark of the file, where the cells do not tell.

        Returns:
            How it is written; None: as plain numbers, such as `-1234.5`.
        """
        known = islice(((text, number) for text, number in zip(texts, numbers, strict=True) if number is not None), _CELLS)
        cells = [(found, number) for text, number in known if (found := _CELL.fullmatch(text))]
        read = {mark: [one for one in cells if _reads(one[0][2], mark) == abs(one[1])] for mark in (decimal, *_NOTATIONS)}
        mark = max(read, key=lambda mark: len(read[mark]))
        around = Counter(((found[1], found[3]), number < 0) for found, number in read[mark])
        signs = {negative: [pair for (pair, sign), _ in around.most_common() if sign is negative] for negative in (False, True)}
        before, behind = (signs[False] or [("", "")])[0]
        below = (signs[True] or [("-" + before.replace("+", ""), behind)])[0]
        above = (before, behind) if signs[False] else (below[0].translate(_NO_SIGN), below[1].translate(_NO_SIGN))
        parts = [found[2].partition(mark)[::2] for found, _ in read[mark]]
        large = Counter(re.sub(r"\d", "", whole)[:1] for whole, _ in parts if sum(map(str.isdigit, whole)) > 3)
        thousands = large.most_common(1)[0][0] if large else ""
        if (above, below, thousands) == (("", ""), ("-", ""), ""):
            return None
        places = [min(len(fraction), 18) for _, fraction in parts]
        return cls(above, below, thousands, mark, (min(places), max(places)))

    def write(self, text: str, *, negative: bool) -> str:
        """Write a number.

        Args:
            text: its absolute value as a plain number, with the decimal mark of the column.
            negative: whether it is negative.
        """
        whole, mark, fraction = text.partition(self.decimal)
        before, behind = self.negative if negative else self.positive
        return f"{before}{f'{int(whole):,}'.replace(',', self.thousands) if whole.isdigit() else whole}{mark}{fraction}{behind}"


_NO_SIGN = dict.fromkeys(map(ord, "-\u2212()"))


def _reads(digits: str, mark: str) -> float | None:
    """The number that digits stand for; None if they stand for none."""
    with suppress(ValueError):
        return float(re.sub(rf"[^\d{mark}]", "", digits).replace(mark, "."))
    return None


class _Column(NamedTuple):
    """A column of texts: those of its rows, or its different ones."""

    texts: pa.ChunkedArray
    words: Words | None
    counts: np.ndarray | None

    def spread(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        return self.words.spread(values) if self.words else values

    def first(self, mask: pa.ChunkedArray) -> int:
        """The first row whose text is not one of some."""
        return self.words.first(~np.asarray(mask.fill_null(True))) if self.words else _first(mask, False)


def _texts(table: pa.Table) -> Iterator[tuple[str, _Column]]:
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            yield name, _Column(column, None, None)
        elif pa.types.is_dictionary(column.type):
            found = words(column)
            yield name, _Column(found.texts, found, found.counts)


def _amounts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The texts without what is around a number: currency and percent signs, one unit, and parentheses, which become a minus sign."""
    return by_part(lambda part: pc.replace_substring_regex(part, _AMOUNT, r"\1\3"), _signed(_in_ascii(column)))


def _signed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = _without_unit(column)
    inside = pc.match_substring_regex(column, _NEGATIVE)
    # Numbers that are all in parentheses may be marks, such as those of footnotes.
    mixed = pc.any(inside).as_py() and not pc.all(inside).as_py()
    column = pc.replace_substring_regex(column, _NEGATIVE, r"-\1\2") if mixed else column
    behind = pc.match_substring_regex(column, _TRAILING)
    mixed = pc.any(behind).as_py() and not pc.all(behind).as_py()
    return pc.replace_substring_regex(column, _TRAILING, r"-\1") if mixed else column


def _in_ascii(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The texts with the digits and marks of other scripts as those of ASCII, if the first number has some."""
    first = _first_number(column)
    script = next((zero for zero in _ZEROS if first and any(zero <= c <= chr(ord(zero) + 9) for c in first)), None)
    if script is None:
        return column
    for mark, plain in (*((chr(ord(script) + k), str(k)) for k in range(10)), ("\u066b", "."), ("\u066c", ",")):
        column = pc.replace_substring(column, mark, plain)
    return column


def _without_unit(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The texts without the unit that is behind the numbers of all but marks of missing ones; as they are if there is none, or another."""
    first = _first_number(column.slice(0, _HEAD)) or _first_number(column)
    unit = None if first is None else pc.extract_regex(pa.scalar(first), _IN_UNIT).as_py()
    if unit is None or re.fullmatch("[eE]", unit["unit"]):
        return column
    numbers = without_marks(column)
    numbers = column if numbers is None else numbers
    found = pc.struct_field(pc.extract_regex(numbers, _IN_UNIT), "unit")
    alike = found.null_count == numbers.null_count and pc.all(pc.equal(found, unit["unit"])).as_py()
    alike = alike and not pc.any(pc.match_substring_regex(numbers, _PADDED)).as_py()
    return pc.replace_substring_regex(column, rf"(\d)\s*{re.escape(unit['unit'])}\s*$", r"\1") if alike else column


def _first_number(column: pa.ChunkedArray) -> str | None:
    """The first text that does not mark a missing number."""
    numbers = without_marks(column)
    return next(iter((column if numbers is None else numbers).drop_null()[:1].to_pylist()), None)


def _share(texts: pa.ChunkedArray, pattern: str, column: _Column) -> float:
    """Share of the rows, those with no missing text, whose text matches a pattern; 0 if there are none."""
    matches = pc.match_substring_regex(texts, pattern)
    if column.counts is None:
        return pc.mean(matches).as_py() or 0.0
    weights = column.counts * np.asarray(matches.is_valid())
    return float(weights[np.asarray(matches.fill_null(False))].sum() / max(1, weights.sum()))


def _differ(amounts: pa.ChunkedArray) -> bool:
    return not _number(amounts, ".").equals(_number(amounts, ","))


def _number(amounts: pa.ChunkedArray, mark: str) -> pa.ChunkedArray:
    """Convert texts in a notation to int64, or to float64 if one has a decimal mark or an exponent."""
    other = "," if mark == "." else "."
    whole = not pc.any(pc.match_substring_regex(amounts, rf"[{mark}eE]|(?:\d[{other}{_SPACES}]*){{19}}")).as_py()

    def read(part: pa.Array) -> pa.Array:
        plain = pc.replace_substring_regex(pc.replace_substring(part, "\u2212", "-"), rf"^\+|[{other}{_SPACES}]", "")
        return pc.replace_substring(plain, mark, ".").cast(pa.int64() if whole else pa.float64())

    return by_part(read, amounts)


def _check_units(path: Path, name: str, column: pa.ChunkedArray) -> None:
    """Refuse amounts in more than one unit."""
    marks = by_part(lambda part: pc.unique(pc.replace_substring_regex(part, _AMOUNT, r"\2\4")), _signed(_in_ascii(column)))
    units = pc.unique(marks).drop_null().to_pylist()
    if len(units) > 1 and ("%" in units or len(set(units) - {""}) > 1):
        shown = " and ".join(f"'{unit}'" if unit else "no sign" for unit in sorted(units)[:3])
        raise DataError(f"Column '{name}' of '{path}' has amounts in different units: {shown}.", "Convert them to one unit.")


def _take_words(
    path: Path,
    name: str,
    column: _Column,
    texts: pa.ChunkedArray,
    amounts: pa.ChunkedArray,
    shares: dict[str, float],
    notify: Callable[[str], None],
) -> None:
    """Take a column that is not of numbers for words. One most of whose values are numbers, or dates, is refused, naming the first row that
    is not, unless it has few different values, of which none is there only once.
    """
    mark = max(shares, key=lambda notation: shares[notation])
    kinds = {"numbers": (amounts, _NOTATIONS[mark]), "dates": (texts, _DATE)}
    for kind, (found, pattern) in kinds.items():
        if not 0.5 <= _share(found, pattern, column) < 1:
            continue
        matches = pc.match_substring_regex(found, pattern)
        value, row = texts[_first(matches, False)].as_py(), column.first(matches)
        counts = _counts(column, texts)
        if kind == "numbers" and len(counts) <= CATEGORIES and min(counts.values()) > 1:
            notify(f"Column '{name}' of '{path}' has '{value}' among numbers, so that its {len(counts)} different values are categories.")
            return
        raise DialectError(
            f"Column '{name}' of '{path}' has {kind}, but '{value[:40]}' in row {row} (counted from 0).",
            correction(path, name, value),
        )
    many = len(texts) > _HEAD and len(pc.unique(texts.slice(0, _CELLS))) > _HEAD
    if many and pc.mean(pc.match_substring_regex(texts, _QUANTITY)).as_py() > 0.9:
        notify(
            f"Column '{name}' of '{path}' has texts with numbers, such as '{pc.drop_null(texts)[0].as_py()[:40]}', and each is "
            "a category. If they are quantities, write them as numbers in one unit."
        )


def _counts(column: _Column, texts: pa.ChunkedArray) -> dict[str, int]:
    """How many rows have each different text, of at most one more than are taken for categories."""
    found: dict[str, int] = {}
    weights = np.ones(len(texts), np.int64) if column.counts is None else column.counts
    for text, weight in zip(texts, weights, strict=True):
        if text.is_valid:
            word = text.as_py()
            found[word] = found.get(word, 0) + int(weight)
        if len(found) > CATEGORIES:
            break
    return found


def no_number(column: pa.ChunkedArray, whole: bool) -> str | None:
    """The first text that a number does not keep, if all are digits, or all begin as numbers of telephones or hexadecimal ones do.

    Args:
        column: the texts.
        whole: whether they were read as integers.

    Returns:
        The text; None without one.
    """
    if pc.all(pc.match_substring_regex(column, _HEXADECIMAL if whole else _TELEPHONE)).as_py():
        return column.drop_null()[0].as_py().strip()
    lost = pc.match_substring_regex(column, _ZERO_FIRST if whole else _MANY)
    if not pc.any(lost).as_py() or not pc.all(pc.match_substring_regex(column, r"^\s*[-+]?\d+\s*$")).as_py():
        return None
    return column[pc.index(lost, pa.scalar(True)).as_py()].as_py().strip()


def is_signed(column: pa.ChunkedArray) -> bool:
    """Whether all texts are integers, which may have a plus before them.

    Args:
        column: the texts.
    """
    return pc.all(pc.match_substring_regex(column, _SIGNED)).as_py()


def _first(mask: pa.ChunkedArray, wanted: bool) -> int:
    return pc.index(mask, pa.scalar(wanted)).as_py()
