"""Dates and times that are texts: read as times, and written in the same form."""

import datetime
from decimal import Decimal

import pyarrow as pa
import pytest
import torch

from sdezoo.data.column_types import CategoryType, NumberType, TimeType, column_type
from sdezoo.data.conversion import from_numbers, recoded, to_numbers
from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError


@pytest.mark.parametrize(
    "texts",
    [
        ["03/27/2024", "01/05/1653", "12/31/2200"],
        ["27.03.2024", "05.01.2023"],
        ["3/27/2024", "11/5/2023"],
        ["27-Mar-2024", "05-Jan-2023"],
        ["9-Sep-03", "31-Dec-99"],
        ["09 Sep 03", "31 Dec 99"],
        ["March 27, 2024", "May 05, 2023"],
        ["May 27, 2024", "March 05, 2023"],
        ["27-MAR-2024", "05-JAN-2023"],
        ["JAN-2020", "MAY-2021"],
        ["May 2020", "Jan 1999"],
        ["May 2020", "January 1999"],
        ["2020-02", "2021-12"],
        ["02/2020", "12/2021"],
        ["2024/03/27", "2023/01/05"],
        ["2024-03-27T09:30:15", "2024-03-28T23:59:59"],
        ["2024-03-27T09:30Z", "2024-03-28T00:00Z"],
        ["2024-03-27 09:30:15+02:00", "2024-03-28 09:30:16+02:00"],
        ["2024-03-27 09:30:15.250", "2024-03-27 09:30:15.251"],
        ["03/27/2024 09:30 PM", "03/28/2024 12:05 AM"],
        ["9:05", "23:59"],
        ["09:05", "23:59"],
        ["2024.03.27", "2023.01.05"],
        ["27/Mar/2024:09:30:15 +0000", "28/Mar/2024:23:59:59 +0000"],
        ["27MAR2024", "05JAN2023"],
        ["27Mar2024:09:30", "05Jan2023:23:59"],
        ["20240327T093015", "20240405T000000"],
        ["Wed, 27 Mar 2024 09:30:15 GMT", "Thu, 28 Mar 2024 23:59:59 GMT"],
        ["Wednesday, March 27, 2024", "Thursday, January 05, 2023"],
        ["2024-03-27 09:30:15+00", "2023-01-05 23:59:59+00"],
        ["9:05pm", "12:00am"],
        ["27.03.24 09:05 am", "05.01.23 11:59 pm", *(f"{k:02d}.02.24 10:00 am" for k in range(10, 16))],
        *([f"{day}{sign}02{sign}24" for day in range(20, 28)] for sign in "/."),
        [f"{year}-12-31" for year in range(84, 98)],
        ["39:15", "0:05", "107:00"],
        ["09:05:00", "24:00:00", "100:59:59"],
        ["0 days 00:00:01", "12 days 23:59:59", "-1 days +23:59:59"],
        ["0 days 00:00:00.250000", "-2 days +00:00:00.000000"],
    ],
)
def test_texts_of_times_come_back_as_they_were_written(texts: list[str]) -> None:
    found = to_numbers(pa.table({"when": pa.array([*texts, None])}))
    assert isinstance(found.types[0], TimeType)
    assert column_type(found.types[0].record()) == found.types[0]
    assert from_numbers(found.values, found.names, found.types).column(0).to_pylist() == [*texts, None]


@pytest.mark.parametrize(
    "texts",
    [
        ["10/11/12", "09/10/11", "01/02/03", *(f"0{k}/02/03" for k in range(1, 9))],  # day or month first
        ["20/02/24", "21/02/24"],  # two are few for years of two digits
        [f"20{k:02d}-{k + 1:02d}" for k in range(1, 11)],  # seasons
        ["31.02.2024", "05.01.2023"],
        ["39:75", "12:00"],
    ],
)
def test_texts_that_are_no_times(texts: list[str]) -> None:
    assert isinstance(to_numbers(pa.table({"when": texts})).types[0], CategoryType)


def test_a_month_after_a_year_need_not_be_a_season() -> None:
    assert isinstance(to_numbers(pa.table({"when": ["2001-02", "2002-03", "2001-07"]})).types[0], TimeType)


@pytest.mark.parametrize(("form", "count"), [("%y%m%d", 30), ("%Y%m%d%H%M", 10), ("%Y%m%d%H%M%S", 10)])
def test_whole_numbers_of_dates_with_a_clock_or_a_short_year(form: str, count: int) -> None:
    """As numbers, samples would be between 23:59 and the next day."""
    start = datetime.datetime(2023, 11, 29, 22, 58, 57)
    numbers = [int((start + datetime.timedelta(days=k, minutes=k)).strftime(form)) for k in range(count)]
    found = to_numbers(pa.table({"when": numbers}))
    assert isinstance(found.types[0], TimeType)
    assert found.types[0].form == form
    assert from_numbers(found.values, found.names, found.types).column(0).to_pylist() == numbers
    others = [*numbers, numbers[0] // 100 * 100 + 99]
    assert isinstance(to_numbers(pa.table({"when": others})).types[0], NumberType)


def test_whole_numbers_that_skip_what_is_no_date_are_dates() -> None:
    months = [*range(202310, 202313), *range(202401, 202405), 202501]
    days = [*range(20231228, 20231232), *range(20240101, 20240105)]
    for dates in (months, days):
        found = to_numbers(pa.table({"when": pa.array([*dates, None])}))
        assert isinstance(found.types[0], TimeType)
        assert from_numbers(found.values, found.names, found.types).column(0).to_pylist() == [*dates, None]
        for others in ([*dates, max(dates) + 90], dates[:6], range(dates[0], dates[0] + 3)):
            assert isinstance(to_numbers(pa.table({"when": list(others)})).types[0], NumberType)
    ours = to_numbers(pa.table({"when": days}))
    few = to_numbers(pa.table({"when": days[:2]}))
    assert torch.equal(recoded(few.values, few.types, ours.types, ["when"]), ours.values[:2])


def test_durations_are_counted_from_0() -> None:
    """From their middle, positive ones would be taken for numbers of both signs."""
    for texts, codes in (
        (["0 days 00:00:03", "5 days 00:00:01"], [3, 432001]),
        (["0 days 00:05:00", "0 days 00:15:00", "0 days 00:25:00"], [5, 15, 25]),
        (["-1 days +23:59:58", "0 days 00:00:08"], [-2, 8]),
    ):
        assert to_numbers(pa.table({"took": texts})).values[:, 0].tolist() == codes
    long = to_numbers(pa.table({"took": pa.array([1, 2**31 + 1]).cast(pa.duration("s"))}))
    assert (long.types[0].coarse, long.types[0].offset, long.values.min() >= 0) == (True, 0, True)


def test_a_step_between_two_dates_is_a_day() -> None:
    found = to_numbers(pa.table({"when": ["02/28/2024", "03/01/2024", "02/27/2024"]}))
    assert (found.values[1, 0] - found.values[0, 0], found.values[0, 0] - found.values[2, 0]) == (2, 1)


_UNCLEAR = [
    ["9-Sep-45", "1-Jan-90", "3-Feb-01"],
    ["01/02/2024", "03/04/2024"],
    ["2024-13-01", "2024-01-01"],
    ["03/27/2024", "soon"],
    ["12", "13"],
    ["2019-20", "2020-21"],
    ["Jan-20", "Feb-20"],
    ["1 days 25:00:00", "2 days 00:00:00"],
    ["1 days 05:00:00", "2 days"],
]


@pytest.mark.parametrize("texts", _UNCLEAR)
def test_texts_with_two_readings_or_none_stay_texts(texts: list[str]) -> None:
    assert to_numbers(pa.table({"when": texts})).types == (CategoryType(tuple(sorted(texts))),)


def test_iso_texts_with_different_offsets_are_times_in_utc() -> None:
    found = to_numbers(pa.table({"when": ["2024-03-31T01:30:00+01:00", "2024-03-31T03:30:00+02:00"]}))
    assert isinstance(found.types[0], TimeType)
    assert found.types[0].arrow == "timestamp[s, tz=UTC]"
    assert found.values[1, 0] - found.values[0, 0] == 3600 / found.types[0].step


def test_another_form_of_the_same_dates_is_recoded() -> None:
    ours = to_numbers(pa.table({"when": ["03/27/2024", "01/05/2023"]}))
    theirs = to_numbers(pa.table({"when": ["2024-03-27T00:00:00", "2023-01-05T00:00:00"]}))
    assert torch.equal(recoded(theirs.values, theirs.types, ours.types, ["when"]), ours.values)
    for word in ("soon", "02/30/2024", "13/01/2024"):
        with pytest.raises(DataError, match="not dates or times"):
            recoded(torch.zeros(1, 1), (CategoryType((word,)),), ours.types, ["when"])
    assert torch.equal(recoded(torch.zeros(1, 1), (CategoryType(("3/27/2024",)),), ours.types, ["when"]), ours.values[:1])


def test_times_of_day_go_around_the_clock() -> None:
    found = to_numbers(pa.table({"at": ["23:50", "00:10", "12:00"]}))
    types = found.types
    assert isinstance(types[0], TimeType)
    hour = 3600 / types[0].step
    moved = Encoding.affine(1.0, 0.0, types).decode(found.values + torch.tensor([[hour], [-hour], [0.0]]))
    assert from_numbers(moved, ["at"], types).column(0).to_pylist() == ["00:50", "23:10", "12:00"]


def test_numbers_that_lie_close_together_keep_their_differences() -> None:
    values = [1e9 + 0.25, 1e9 + 0.5, 1e9 + 1.125]
    found = to_numbers(pa.table({"x": values}))
    assert from_numbers(found.values, found.names, found.types).column(0).to_pylist() == values
    assert column_type(found.types[0].record()) == found.types[0]
    assert isinstance(found.types[0], NumberType)
    assert found.values.abs().max() < 1


def test_integers_beyond_64_bits_are_refused_and_decimals_keep_their_lattice() -> None:
    with pytest.raises(DataError, match="beyond 64 bits"):
        to_numbers(pa.table({"id": pa.array([2**63 + 1, 2**63 + 2], pa.uint64())}))
    kind = to_numbers(pa.table({"price": [Decimal(f"{k}.{k % 100:02}") for k in range(1000)]})).types[0]
    assert kind == NumberType("float64", 1, 2, stored="decimal128(5, 2)")
