"""Dates, times and durations that are written as texts, such as `03/27/2024`, `2024-03-27T09:30Z` or `1 days 09:30:00`: read as times, and
written in the same form.

A form is a format of `strftime`; `%-d` is a day without a zero before it, `%^b` a month in capitals. A month without a day is its middle,
so that rounding to months has no bias. A form is taken only if every text of a column is what writing in
the form gives back, so nothing is lost. If all texts fit both `%d/%m/%Y` and `%m/%d/%Y`, neither is taken. Years of two digits are taken
only if all texts lie within 50 years; 69 is 1969, and 68 is 2068. Offsets from UTC and `Z` belong to the form, so they are the same in all
texts; ISO texts with different ones are read as times in UTC. Durations are written as by
pandas: `-1 days +23:59:59` is a second below 0.

Whole numbers such as 20240327 and 202403 are dates if at least eight differ, in two months or three years, and all are dates: there is none
between 20241231 and 20250101.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from functools import reduce
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sdezoo.data.column_types import DAY
from sdezoo.data.opening.inference import column_parts
from sdezoo.data.opening.words import NO_TIME, without_marks, words

COMPACT = ("%Y%m%d", "%Y%m", "%y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S")
"""The forms of dates that are whole numbers."""
OF_DAYS = "%d days %H:%M:%S"
"""The form of durations in words, as pandas writes them."""
FORM = b"form"
"""Metadata of a field of times that were texts: their form."""

_SHORT, _LONG, _YEAR = "(?:[A-Z][a-z]{2}|[A-Z]{3})", "(?:[A-Z][a-z]+|[A-Z]+)", r"(?:1[89]|2[01])\d\d"
_DATES = {
    r"\d{4}-\d\d?-\d\d?": ("%Y-%m-%d",),
    r"\d{4}/\d\d?/\d\d?": ("%Y/%m/%d",),
    r"\d\d?/\d\d?/\d{4}": ("%m/%d/%Y", "%d/%m/%Y"),
    r"\d\d?-\d\d?-\d{4}": ("%m-%d-%Y", "%d-%m-%Y"),
    r"\d\d?\.\d\d?\.\d{4}": ("%d.%m.%Y",),
    r"\d{4}\.\d\d?\.\d\d?": ("%Y.%m.%d",),
    r"\d\d?/\d\d?/\d\d": ("%m/%d/%y", "%d/%m/%y"),
    r"\d\d?-\d\d?-\d\d": ("%m-%d-%y", "%d-%m-%y", "%y-%m-%d"),
    r"\d\d?\.\d\d?\.\d\d": ("%d.%m.%y",),
    r"\d{8}": ("%Y%m%d",),
    r"\d{8}T\d{6}": ("%Y%m%dT%H%M%S",),
    rf"\d\d?-{_SHORT}-\d{{4}}": ("%d-%b-%Y",),
    rf"\d\d?/{_SHORT}/\d{{4}}": ("%d/%b/%Y",),
    rf"\d\d{_SHORT}\d{{4}}": ("%d%b%Y",),
    rf"[A-Z][a-z]{{2}},? \d\d? {_SHORT} \d{{4}}": ("%a, %d %b %Y", "%a %d %b %Y"),
    rf"[A-Z][a-z]+, {_LONG} \d\d?, \d{{4}}": ("%A, %B %d, %Y",),
    rf"\d\d?-{_SHORT}-\d\d": ("%d-%b-%y",),
    rf"\d\d? {_SHORT} \d{{4}}": ("%d %b %Y",),
    rf"\d\d? {_SHORT} \d\d": ("%d %b %y",),
    rf"{_SHORT} \d\d?, \d{{4}}": ("%b %d, %Y",),
    rf"{_LONG} \d\d?, \d{{4}}": ("%B %d, %Y",),
    rf"\d\d? {_LONG} \d{{4}}": ("%d %B %Y",),
    rf"{_SHORT} {_YEAR}": ("%b %Y",),
    rf"{_SHORT}-{_YEAR}": ("%b-%Y",),
    rf"{_LONG} {_YEAR}": ("%B %Y",),
    rf"{_YEAR}-\d\d": ("%Y-%m",),
    rf"\d\d/{_YEAR}": ("%m/%Y",),
}
_CLOCKS = {
    r"\d\d?:\d\d": "%H:%M",
    r"\d\d?:\d\d:\d\d(?:\.\d{1,9})?": "%H:%M:%S",
    r"\d\d?:\d\d [AP]M": "%I:%M %p",
    r"\d\d?:\d\d:\d\d [AP]M": "%I:%M:%S %p",
    r"\d\d?:\d\d [ap]m": "%I:%M %#p",
    r"\d\d?:\d\d:\d\d [ap]m": "%I:%M:%S %#p",
    r"\d\d?:\d\d[AP]M": "%I:%M%p",
    r"\d\d?:\d\d[ap]m": "%I:%M%#p",
}
_TEXT = re.compile(rf"({'|'.join(_DATES)})?((?:, |[ T:])?)({'|'.join(_CLOCKS)})?(Z| ?UTC| GMT| ?[-+]\d\d:?\d\d|[-+]\d\d)?")
_UNITS = {0: "s", 3: "ms", 6: "us", 9: "ns"}
_RANGES = (
    ("%Y%m%d", 18000101, 21991231),
    ("%Y%m", 180001, 219912),
    ("%y%m%d", 100101, 991231),
    ("%Y%m%d%H%M", 180001010000, 219912312359),
    ("%Y%m%d%H%M%S", 18000101000000, 21991231235959),
)
_NO_DATES = (0, 999999, 99999999)
"""Whole numbers that mark a missing date among others."""
_DIFFERENT, _SHORT_YEARS = 8, 20
"""Different whole numbers at least that are taken for dates, and for dates whose years have two digits."""
_FIFTY_YEARS = 50 * 366 * 86400
_DURATION = r"(?P<d>-?\d+) days \+?(?P<H>\d\d):(?P<M>\d\d):(?P<S>\d\d)(?:\.(?P<f>\d{3}|\d{6}|\d{9}))?"
_SECONDS = {"d": 86400, "H": 3600, "M": 60, "S": 1}
_OF_HOURS = r"(?P<H>\d+):(?P<M>[0-5]\d)(?::(?P<S>[0-5]\d))?"
_HOURS = ("%H:%M:%S", "%-H:%M:%S", "%H:%M", "%-H:%M")
_BARE = "\x01"  # before a field that is written without a zero
_FLAG, _MIDDLE = re.compile(r"%[-^#]"), "15"


class _Times(NamedTuple):
    """The times of a column, their form, and the first text that marks a missing one; empty: there is none."""

    values: pa.ChunkedArray
    form: str
    mark: str = ""


def read_times(table: pa.Table, text: Container[str] = (), notify: Callable[[str], None] | None = None) -> pa.Table:
    """Read the columns of texts, or of whole numbers, that are dates and times in one form. Their fields keep the form as metadata.

    Args:
        table: the table.
        text: names of columns to leave as they are.
        notify: called with a sentence for each column in which marks such as `?` or 0 stand for missing values; None: no value does.
    """
    for place, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        texts, numbers = pa.types.is_string(kind) or pa.types.is_large_string(kind), pa.types.is_integer(field.type)
        if field.name in text or not (texts or numbers):
            continue
        read = _compact if numbers else _times
        if (found := read(table.column(place), marked=notify is not None)) is not None:
            if found.mark and notify:
                notify(f"'{found.mark}' in column '{field.name}', whose other values are dates or times, is a missing value.")
            metadata = {FORM: found.form.encode()} if found.form else None
            table = table.set_column(place, pa.field(field.name, found.values.type, metadata=metadata), found.values)
    return table


def form_of(field: pa.Field) -> str:
    """The form of a column of times that were texts; empty: it holds times.

    Args:
        field: its field.
    """
    return (field.metadata or {}).get(FORM, b"").decode()


def parse_times(texts: pa.ChunkedArray | pa.Array, form: str, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """Read texts in a form. What has another form is missing.

    Args:
        texts: the texts.
        form: the form.
        kind: a timestamp, a time of day or a duration.
    """
    if pa.types.is_duration(kind):
        return _read_durations(texts, kind) if form == OF_DAYS else _read_hours(texts, kind)
    base, counted = texts, None
    digits = _digits(kind)
    if digits:
        parts = pc.extract_regex(base, rf"(?P<a>.*\d:\d\d)\.(?P<f>\d{{{digits}}})(?P<z>\D.*)?$")
        base = pc.binary_join_element_wise(pc.struct_field(parts, "a"), pc.coalesce(pc.struct_field(parts, "z"), ""), "")
        counted = pc.struct_field(parts, "f").cast(pa.int64())
    form = _FLAG.sub("%", form)
    if "%d" not in form and re.search("%[mbB]", form):
        base, form = pc.binary_join_element_wise(_MIDDLE, base, " "), f"%d {form}"
    found = pc.strptime(base, form, "s", error_is_null=True)
    if counted is not None:
        found = pc.add(pc.multiply(found.cast(pa.int64()), 10**digits), counted)
    if not pa.types.is_time(kind):
        return found.cast(pa.int64()).cast(kind)
    # Texts without a date are read as times of one day.
    whole, day = found.cast(pa.int64()), DAY[kind.unit]
    since = pc.subtract(whole, pc.multiply(pc.floor(pc.divide(whole.cast(pa.float64()), float(day))).cast(pa.int64()), day))
    return since.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)


def parse_real_times(texts: pa.Array, form: str, kind: pa.DataType) -> pa.Array:
    """As `parse_times`, with zeros before a number and capitals as they come. A day that no month has, such as `31.02.2024`, is missing.

    Args:
        texts: the texts.
        form: the form.
        kind: a timestamp, a time of day or a duration.
    """
    times = parse_times(texts, form, kind)
    written, given = (
        pc.replace_substring_regex(pc.utf8_lower(part), r"\b0+(\d)", r"\1") for part in (write_times(times, form), texts.cast(pa.string()))
    )
    return pc.if_else(pc.equal(written, given), times, pa.scalar(None, times.type))


def write_times(times: pa.ChunkedArray | pa.Array, form: str) -> pa.ChunkedArray | pa.Array:
    """Write times as texts in a form.

    Args:
        times: timestamps without a zone, times of day or durations.
        form: the form.
    """
    if pa.types.is_duration(times.type):
        return _write_durations(times) if form == OF_DAYS else _write_hours(times, form)
    texts = pc.strftime(times, form.replace("%-", f"{_BARE}%").replace("%^", "%").replace("%#", "%"), locale="C")
    texts = pc.utf8_upper(texts) if "%^" in form else texts
    texts = pc.replace_substring_regex(texts, "AM$", "am") if "%#p" in form else texts
    texts = pc.replace_substring_regex(texts, "PM$", "pm") if "%#p" in form else texts
    return pc.replace_substring_regex(texts, f"{_BARE}0?", "") if _BARE in form.replace("%-", _BARE) else texts


def _times(column: pa.ChunkedArray, *, marked: bool) -> _Times | None:
    """The times of a column of texts, those that mark missing values left out if all others are times."""
    found = words(column) if pa.types.is_dictionary(column.type) else None
    texts = found.texts if found else column
    first, left, mark = _known(texts), None, ""
    if marked and first is not None and re.fullmatch(NO_TIME, first):
        mark, left = first, without_marks(texts, NO_TIME)
        first = None if left is None else _known(left)
    if first is None or not any(re.fullmatch(form, first) for form in (_TEXT, _DURATION, _OF_HOURS)):
        return None
    read = None if left else _of_texts(texts, first)
    if marked and read is None and (left := left or without_marks(texts, NO_TIME)) is not None:
        mark = mark or pc.filter(texts, pc.and_(pc.is_null(left), pc.is_valid(texts)))[0].as_py()
        read = _of_texts(left, first)
    if read is None:
        return None
    return _Times(found.spread(read[0]) if found else read[0], read[1], mark)


def _of_texts(texts: pa.ChunkedArray, first: str) -> tuple[pa.ChunkedArray, str] | None:
    """The times of texts, of which `first` is one, and their form."""
    if duration := re.fullmatch(_DURATION, first):
        kind = pa.duration(_UNITS[len(duration["f"] or "")])
        times = _read_back(texts, lambda part: _read_durations(part, kind), OF_DAYS)
        return None if times is None else (times, OF_DAYS)
    match = _TEXT.fullmatch(first)
    found = [] if match is None else [*_clocks(texts, match)]
    if found:
        same = all(times.equals(found[0][0]) for times, _ in found)
        return found[0] if same else None
    if re.fullmatch(_OF_HOURS, first):
        return _hours(texts)
    return _iso(texts) if match and match[1] and match[1][4] == "-" else None


def _clocks(texts: pa.ChunkedArray, match: re.Match[str]) -> Iterator[tuple[pa.ChunkedArray, str]]:
    """The times of texts in each form that the first of them may have."""
    if not (match[1] or match[3]) or bool(match[2]) != bool(match[1] and match[3]):
        return
    for form, kind in _forms(match):
        times = _read_back(texts, lambda part, form=form, kind=kind: parse_times(part, form, kind), form)
        if times is None or ("%y" in form and not _within_50_years(times)):
            continue
        numeric = "%y" in form and "%b" not in form.replace("^", "")
        if not (numeric and pc.count_distinct(times).as_py() < _DIFFERENT) and not (form == "%Y-%m" and _double_years(times)):
            yield times, form


def _double_years(times: pa.ChunkedArray) -> bool:
    """Whether texts such as `2001-02` are all a year and the next one, as of seasons, rather than a month."""
    different = pc.unique(times.drop_null())
    pairs = zip(pc.year(different).to_pylist(), pc.month(different).to_pylist(), strict=True)
    return len(different) > 1 and all((year + 1) % 100 == month for year, month in pairs)


def _hours(texts: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str] | None:
    """Durations of texts such as `39:15`, of more hours than a day has, and their form."""
    kind = pa.duration("s")
    for form in _HOURS:
        if (times := _read_back(texts, lambda part: _read_hours(part, kind), form)) is not None:
            return times, form
    return None


def _read_back(column: pa.ChunkedArray, read: Callable[[pa.Array], pa.Array], form: str) -> pa.ChunkedArray | None:
    """The times that `read` makes of texts, part by part; None if times written in a form are not the texts that they were read from."""
    found = []
    for _, part in column_parts(column):
        texts = part.cast(pa.string())
        times = read(texts)
        if times.null_count > texts.null_count or pc.any(pc.not_equal(write_times(times, form), texts)).as_py():
            return None
        found.append(times)
    return pa.chunked_array(found)


def _digits(kind: pa.DataType) -> int:
    """Decimal places of a second in the unit of a type."""
    return next(count for count, unit in _UNITS.items() if unit == kind.unit)


def _read_durations(texts: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    digits = _digits(kind)
    parts = pc.extract_regex(texts, f"^{_DURATION}$")
    whole = [pc.multiply(pc.struct_field(parts, name).cast(pa.int64()), length * 10**digits) for name, length in _SECONDS.items()]
    found = reduce(pc.add, whole)
    return (pc.add(found, pc.struct_field(parts, "f").cast(pa.int64())) if digits else found).cast(kind)


def _read_hours(texts: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    parts = pc.extract_regex(texts, f"^{_OF_HOURS}$")
    seconds = pc.if_else(pc.equal(pc.struct_field(parts, "S"), ""), "0", pc.struct_field(parts, "S"))
    fields = {"H": pc.struct_field(parts, "H"), "M": pc.struct_field(parts, "M"), "S": seconds}
    whole = reduce(pc.add, [pc.multiply(field.cast(pa.int64()), _SECONDS[name]) for name, field in fields.items()])
    return whole.cast(kind)


def _write_hours(durations: pa.ChunkedArray | pa.Array, form: str) -> pa.ChunkedArray | pa.Array:
    whole = pc.divide(durations.cast(pa.int64()), 10 ** _digits(durations.type))
    sign, size = pc.if_else(pc.less(whole, 0), "-", ""), pc.abs(whole)
    hours = pc.divide(size, 3600)
    rest = pc.subtract(size, pc.multiply(hours, 3600)).cast(pa.timestamp("s"))
    hours = hours.cast(pa.string())
    hours = hours if "%-H" in form else pc.utf8_lpad(hours, 2, "0")
    return pc.binary_join_element_wise(sign, hours, pc.strftime(rest, ":%M:%S" if "%S" in form else ":%M", locale="C"), "")


def _write_durations(durations: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    day, whole = DAY[durations.type.unit], durations.cast(pa.int64())
    towards_zero = pc.divide(whole, day)
    rest = pc.subtract(whole, pc.multiply(towards_zero, day))
    below = pc.less(rest, 0).cast(pa.int64())
    days = pc.subtract(towards_zero, below)
    clock = pc.strftime(pc.add(rest, pc.multiply(below, day)).cast(pa.timestamp(durations.type.unit)), "%H:%M:%S", locale="C")
    return pc.binary_join_element_wise(days.cast(pa.string()), pc.if_else(pc.less(days, 0), " days +", " days "), clock, "")


def _compact(numbers: pa.ChunkedArray, *, marked: bool) -> _Times | None:
    """The times of whole numbers, those left out that mark missing ones if all others are dates."""
    most = pc.max(numbers).as_py()
    if most is None or not min(low for _, low, _ in _RANGES) <= most <= max(high for *_, high in _RANGES):
        return None
    marks = pc.is_in(numbers.cast(pa.int64()), pa.array(_NO_DATES, pa.int64()))
    if not marked or not pc.any(marks).as_py():
        return _dates(numbers)
    found = _dates(pc.if_else(marks, pa.scalar(None, numbers.type), numbers))
    return found and found._replace(mark=str(pc.filter(numbers, marks)[0].as_py()))


def _dates(numbers: pa.ChunkedArray) -> _Times | None:
    ends = pc.min_max(numbers).as_py()
    form = next((form for form, low, high in _RANGES if ends["min"] is not None and low <= ends["min"] <= ends["max"] <= high), None)
    if form is None or pc.count_distinct(numbers).as_py() < (_SHORT_YEARS if "%y" in form else _DIFFERENT):
        return None
    if pc.count_distinct(pc.divide(numbers.cast(pa.int64()), 100)).as_py() < (2 if "%d" in form else 3):
        return None
    times = _read_back(numbers, lambda part: parse_times(part, form, pa.timestamp("s")), form)
    return None if times is None or ("%y" in form and not _within_50_years(times)) else _Times(times, form)


def _within_50_years(times: pa.ChunkedArray | pa.Array) -> bool:
    ends = pc.min_max(pc.cast(times, pa.timestamp("s"), safe=False).cast(pa.int64())).as_py()
    return ends["max"] - ends["min"] <= _FIFTY_YEARS


def _known(texts: pa.ChunkedArray) -> str | None:
    """The first text that is not missing."""
    return next((value.as_py() for chunk in texts.chunks for value in chunk if value.is_valid), None)


def _forms(match: re.Match[str]) -> Iterator[tuple[str, pa.DataType]]:
    """The forms that a text may have, with and without zeros before fields of one digit."""
    date, between, clock, zone = match.groups()
    days = [form for pattern, forms in _DATES.items() if re.fullmatch(pattern, date) for form in forms] if date else [""]
    if date and (words := re.search("[A-Z]+", date)) and len(words[0]) > 1:
        days = [re.sub("%([bB])", r"%^\1", day) for day in days]
    hours = next(form for pattern, form in _CLOCKS.items() if re.fullmatch(pattern, clock)) if clock else ""
    digits = len(clock.partition(".")[2].partition(" ")[0]) if clock else 0
    if digits not in _UNITS:
        return
    unit = _UNITS[digits]
    kind = pa.timestamp(unit) if date else pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    for day in days:
        for written in (day, re.sub("%([dm])", r"%-\1", day)):
            for hour in dict.fromkeys((hours, re.sub("%([HI])", r"%-\1", hours))):
                yield f"{written}{between}{hour}{zone or ''}", kind


def _iso(texts: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str] | None:
    """Times of ISO texts that have no form in common."""
    zoned = pc.any(pc.match_substring_regex(texts, r"(?:Z|[-+]\d\d:?\d\d)$")).as_py()
    for unit in ("s", "ns"):
        try:
            return texts.cast(pa.timestamp(unit, "UTC" if zoned else None)), ""
        except pa.ArrowInvalid:
            continue
    return None
