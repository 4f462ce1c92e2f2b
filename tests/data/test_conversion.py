"""Laws of `sdezoo.data.conversion` and `sdezoo.data.codecs.discrete`: values of every type come back, and shares are kept."""

import datetime
import json
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv, parquet

from sdezoo.data.codecs.discrete import MARK, CategoryCodec, MissingCodec
from sdezoo.data.column_types import CategoryType, NumberType, TimeType, column_types
from sdezoo.data.conversion import from_numbers, held, recoded, to_numbers
from sdezoo.data.encoding import Encoding
from sdezoo.data.formats import Samples
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.tables import read_columns
from sdezoo.errors import DataError, RunError
from sdezoo_plugins.formats.csv import Csv
from sdezoo_plugins.formats.csv_gz import CsvGz
from sdezoo_plugins.formats.parquet import Parquet
from sdezoo_plugins.formats.tsv import Tsv
from sdezoo_plugins.formats.xlsx import Xlsx

DAY, TIME = datetime.date, datetime.datetime
MONTH = [TIME(2024, 2, 28, 23, 59, 59), TIME(2024, 3, 1), None, TIME(2024, 2, 29, 12)]
COLUMNS = {
    "strings": pa.array(["b", "a", None, 'ü, "x"\n']),
    "Booleans": pa.array([True, None, False, True]),
    "integers": pa.array([1, 2, None, -4]),
    "beyond float32": pa.array([1_700_000_000, 1_700_000_001, 1_700_000_777, None]),
    "near int64": pa.array([2**62 + 1, 2**62 + 3, None, 2**62 + 1001]),
    "cents": pa.array([0.23, 1.1, 12345.67, None]),
    "float32": pa.array([0.1, 2.5e-30, None, -3.0], pa.float32()),
    "before 1678": pa.array([DAY(1500, 1, 1), DAY(2020, 1, 1), None, DAY(1, 1, 1)]),
    "seconds": pa.array(MONTH, pa.timestamp("s")),
    "zone": pa.array(MONTH, pa.timestamp("us", "UTC")),
    "time of day": pa.array([datetime.time(1, 2), None, datetime.time(3, 4), datetime.time(5, 6)], pa.time32("s")),
    "duration": pa.array([1, 2, 3, None], pa.duration("ms")),
    "categorical": pa.array(["x", "y", None, "x"]).dictionary_encode(),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_values_of_every_type_come_back_bit_for_bit(name: str) -> None:
    found = to_numbers(pa.table({"x": COLUMNS[name]}))
    types = column_types(json.loads(json.dumps([kind.record() for kind in found.types])))
    assert types == found.types
    assert found.values.dtype == torch.float32
    assert found.values[:, 0].isnan().tolist() == [value is None for value in COLUMNS[name].to_pylist()]
    back = from_numbers(found.values, ["x"], types)
    assert back["x"].to_pylist() == COLUMNS[name].to_pylist()
    if name != "strings":
        assert back["x"].type == COLUMNS[name].type


@given(st.lists(st.integers(-(10**6), 10**6), min_size=12, max_size=40, unique=True), st.integers(0, 4), st.integers(1, 30))
def test_decimals_come_back_on_their_own_lattice(multiples: list[int], digits: int, step: int) -> None:
    values = [k * step / 10**digits for k in multiples]
    if max(map(abs, multiples)) * step > 2**24:
        return
    found = to_numbers(pa.table({"x": pa.array(values)}))
    (kind,) = found.types
    assert isinstance(kind, NumberType)
    assert from_numbers(found.values, ["x"], found.types)["x"].to_pylist() == values
    moved = Encoding((), found.types).decode(found.values + 0.3 * kind.step / 10**kind.digits)
    assert torch.equal(moved, found.values), "samples are rounded to the lattice"


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([25.0, 37.5, 50.0, 62.5, 87.5, 100.0], (125, 10)),
        ([0.0, 0.5, 1.0, 1.5, 2.0], (5, 10)),
        ([1000, 3000, 4000], (1000, 1)),
        ([0.5, 1.0, 1.5], (1, 10)),
        ([2, 4, 8, 10, 12], (1, 1)),
        ([0, 500], (1, 1)),
    ],
)
def test_a_few_numbers_tell_of_a_coarse_lattice_but_not_of_one_that_they_share_by_chance(
    values: list[float], unit: tuple[int, int]
) -> None:
    assert to_numbers(pa.table({"x": values})).types[0].unit == unit


def test_large_numbers_stay_on_their_lattice_and_those_near_zero_keep_their_sign() -> None:
    made = np.exp(np.random.default_rng(0).normal(11, 1.5, 400))
    near = {"cents": made, "debts": -made, "up to 2.5e7": made / made.max() * 2.5e7 + 1, "of both signs": 100 * made - 1e7}
    for values in (*near.values(), far := 2.6e6 + made % 3000):
        for column in (pa.array(values.round(2)), pa.array(values.round().astype(int))):
            found = to_numbers(pa.table({"x": column}))
            (kind,) = found.types
            assert isinstance(kind, NumberType)
            back = from_numbers(found.values, ["x"], found.types)["x"].to_numpy()
            assert np.array_equal(back.round(2), back)
            np.testing.assert_allclose(back, column, rtol=2**-24, atol=0.01)
            if values is far:
                assert np.array_equal(back, column)
            else:
                assert kind.offset == 0, "no sample may pass 0"


def test_times_of_one_type_can_be_compared() -> None:
    found = to_numbers(
        pa.table({"start": pa.array([DAY(1950, 1, 1), DAY(1960, 5, 5)]), "end": pa.array([DAY(2000, 1, 1), DAY(2001, 1, 2)])})
    )
    assert found.types[0] == found.types[1]
    assert (found.values[:, 0] < found.values[:, 1]).all()


def test_times_that_span_too_much_are_marked_as_rounded() -> None:
    for years, step in ((1, 1), (10, 1), (20, 60), (2000, 3600)):
        times = np.datetime64("2000-01-01T00:00:00") + np.random.default_rng(0).integers(0, years * 31_000_000, 99)
        found = to_numbers(pa.table({"x": times}))
        kind = found.types[0]
        assert isinstance(kind, TimeType)
        assert (kind.coarse, kind.step) == (years > 1, step)
        back = from_numbers(found.values, ["x"], found.types)["x"].to_numpy()
        assert np.abs((back - times).astype(int)).max() <= (0 if years == 1 else {1: 15, 60: 900, 3600: 6 * 3600}[step])


def test_numbers_with_mistakes_are_not_taken_for_categories() -> None:
    values = [str(k) for k in range(50)]
    values[17] = values[40] = "n.a.?"
    with pytest.raises(DataError, match=r"mixes numbers and text: 2 of 50 values are no numbers, the first is 'n.a.\?' in row 17"):
        to_numbers(pa.table({"x": values}))


@pytest.mark.parametrize("small", [1e-50, -3e-39])
def test_numbers_that_float32_would_lose_are_refused(small: float) -> None:
    with pytest.raises(DataError, match="column 'p' holds numbers too small for float32 \\(2, the first "):
        to_numbers(pa.table({"p": [0.0, 0.5, small, None, small], "q": [1.0, 2.0, 3.0, 4.0, 5.0]}))
    assert float(to_numbers(pa.table({"p": [0.0, 2e-38, 1.0]})).values[1, 0]) == pytest.approx(2e-38)


def test_codes_of_a_file_become_those_of_a_model() -> None:
    data = to_numbers(pa.table({"x": ["a", "b", "c"], "t": pa.array([1_700_000_000, 1_700_000_009, 1_700_900_000])}))
    file = to_numbers(pa.table({"x": ["c", "b"], "t": pa.array([1_700_000_001, 1_700_000_001])}))
    rows = recoded(file.values, file.types, data.types, file.names)
    assert from_numbers(rows, file.names, data.types).to_pydict() == {"x": ["c", "b"], "t": [1_700_000_001] * 2}
    with pytest.raises(DataError, match="the category 'z', which"):
        recoded(torch.zeros(1, 1), (CategoryType(("z",)),), data.types[:1], ["x"])


CATEGORY = CategoryCodec((1, 2), ((0.0, 1.0, 4.0, math.nan), (0.0, 1.0)), ((0.5, 0.3, 0.15, 0.05), (0.9, 0.1)))
MISSING = MissingCodec((0,), (7.5,), (0.03,))


def test_categories_and_missing_values_are_undone() -> None:
    raw = torch.tensor([[1.5, 4.0, 0.0], [math.nan, math.nan, 1.0], [2.0, 0.0, 1.0], [math.nan, 1.0, 0.0]])
    encoding = Encoding((CATEGORY, MISSING))
    encoding = Encoding.from_json(json.loads(json.dumps(encoding.to_json())))
    x = encoding.encode(raw)
    assert tuple(x.shape[1:]) == encoding.encoded_event((3,)) == (7,)
    assert x.isfinite().all()
    assert torch.equal(encoding.decode(x).nan_to_num(-1), raw.nan_to_num(-1))
    assert encoding.named("abc") == (["a", "b", "c", "a is missing"], [0, 3, 1, 1, 1, 1, 2])
    assert encoding.categories == [1, 2]
    assert encoding.missing == [0, 1]
    assert encoding.log_det(raw) is None
    with pytest.raises(DataError, match="did not have"):
        encoding.encode(torch.tensor([[1.0, 2.0, 0.0]]))


SHARED = MissingCodec((0, 1, 3), (7.5, 1.0, 2.0), (0.03, 0.5), (0, 1, 0))


def test_columns_that_are_missing_together_share_a_mark() -> None:
    nan = math.nan
    raw = torch.tensor([[1.5, 4.0, 0.0, 3.0], [nan, nan, 1.0, nan], [2.0, nan, 1.0, 1.0], [nan, 1.0, 0.0, nan]])
    encoding = Encoding.from_json(json.loads(json.dumps(Encoding((SHARED,)).to_json())))
    x = encoding.encode(raw)
    assert x[:, 3:5].tolist() == [[-MARK, -MARK], [MARK, MARK], [-MARK, MARK], [MARK, -MARK]]
    assert torch.equal(encoding.decode(x).nan_to_num(-1), raw.nan_to_num(-1))
    assert encoding.named("abcd") == (["a", "b", "c", "d", "a is missing", "b is missing"], [0, 1, 3, 4, 5, 2])
    assert encoding.missing == [0, 1, 3]
    # Of a given value it is known that none of its mark is missing.
    assert encoding.known(torch.tensor([[False, False, False, True]])).tolist() == [[False, False, True, True, False, False]]
    with pytest.raises(DataError, match="not in the same of these rows"):
        encoding.encode(torch.tensor([[1.0, 2.0, 0.0, nan]]))


@pytest.mark.parametrize("marks", [[0, 1], [1, 0, 1], [0, 2, 1], [0, 0, 0], [0, True, 0], [0, -1, 0], "010"])
def test_damaged_marks_are_refused(marks: object) -> None:
    with pytest.raises(DataError, match="damaged"):
        MissingCodec.from_parameters({**SHARED.parameters(), "marks": marks})


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_corners_are_recognized_through_noise(noise: float) -> None:
    """The exact score sends states to corners up to the error of the sampler, a hundredth of a corner's size or less: shares are exact."""
    raw = torch.tensor([0.0, 1.0, 4.0, math.nan]).double()[torch.randint(4, (2000,), generator=torch.Generator().manual_seed(0))]
    rows = torch.stack([raw, (raw == 1).double()], 1)
    x = CATEGORY.encode(rows)
    drawn = CATEGORY.decode(x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    assert torch.equal(drawn.nan_to_num(-1), rows.nan_to_num(-1))


@pytest.mark.parametrize("share", [0.002, 0.05, 0.3, 0.9])
def test_a_gaussian_of_the_same_moments_has_the_same_shares(share: float) -> None:
    """What a network that has learned two moments draws: marks at their rate, to 4 standard errors."""
    n = 200_000
    codec = MissingCodec((0,), (0.0,), (share,))
    mean, deviation = MARK * (2 * share - 1), 2 * MARK * math.sqrt(share * (1 - share))
    mark = mean + deviation * torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = float(codec.decode(torch.stack([torch.zeros(n), mark], 1)).isnan().double().mean())
    assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / n)


@pytest.mark.parametrize(
    "record", [{}, {"columns": [0], "values": [[1.0]], "shares": [[1.0]]}, {"columns": [0], "values": [[2.0, 1.0]], "shares": [[0.5, 0.5]]}]
)
def test_a_damaged_record_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(DataError, match="damaged"):
        CategoryCodec.from_parameters(record)


def test_the_largest_of_few_categories_in_numpy_order() -> None:
    found = to_numbers(pa.table({"x": ["b", "a", "c", "a"]}))
    assert found.types == (CategoryType(("a", "b", "c")),)
    assert np.array_equal(found.values[:, 0].numpy(), [1, 0, 2, 0])


FORMATS = {"csv": Csv, "csv.gz": CsvGz, "tsv": Tsv, "parquet": Parquet, "xlsx": Xlsx}
WORDS = pa.array(["007", "$5", None, "1,5"]), pa.array(["true", None, "false", "true"]), pa.array(["2024-01-02", "2024-01-03", None, "x"])


@pytest.mark.parametrize("ending", FORMATS)
def test_codes_come_back_from_every_format(tmp_path: Path, ending: str) -> None:
    """Though words look like numbers, Booleans and dates, and a format has no durations and no time zones."""
    if ending == "xlsx":
        pytest.importorskip("openpyxl")
    others = {"beyond float32", "near int64", "before 1678", "time of day", "strings"} if ending == "xlsx" else {"strings"}
    table = {name: column for name, column in COLUMNS.items() if name not in others} | {f"words {i}": w for i, w in enumerate(WORDS)}
    found = to_numbers(pa.table(table))
    form, path = FORMATS[ending](), tmp_path / f"a.{ending}"
    with path.open("wb") as file:
        form.write(Samples([found.values], tuple(found.values.shape), "table", found.names, types=found.types), file)
    back = form.read_samples(path, found.names, found.types)
    assert torch.equal(back.nan_to_num(-7e7), found.values.nan_to_num(-7e7))


def test_times_are_no_numbers_and_no_words() -> None:
    time = (TimeType("timestamp[us]", 0),)
    for old, says in ((NumberType("int64"), "holds numbers"), (CategoryType(("a", "b")), "holds categories")):
        with pytest.raises(DataError, match=f"'t' {says}, not dates or times"):
            recoded(torch.zeros(2, 1), (old,), time, ["t"])


def test_columns_of_text_may_be_mostly_numbers() -> None:
    codes = pa.table({"zip": [f"{10_000 + i}" for i in range(40)] + ["K1A 0B1"]})
    with pytest.raises(DataError, match="mixes numbers and text"):
        to_numbers(codes)
    assert len(to_numbers(codes, text=["zip"]).types[0].values) == 41


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_numbers_may_be_read_as_words(tmp_path: Path, ending: str) -> None:
    path, table = tmp_path / f"a.{ending}", pa.table({"zip": [10_000, 20_000], "x": [0.5, 1.5]})
    (csv.write_csv if ending == "csv" else parquet.write_table)(table, path)
    types = read_columns(path, Dialect(text=("zip",))).types
    assert types[0] == CategoryType(("10000", "20000"))
    assert isinstance(types[1], NumberType)
    with pytest.raises(DataError, match=r"no column 'z'. Correct text="):
        FORMATS[ending]().open(path, Dialect(text=("z",)), lambda _: None)


def test_decimals_and_strings_are_stored_as_they_were(tmp_path: Path) -> None:
    cents = pa.array([Decimal("1.25"), None, Decimal("-9.99")], pa.decimal128(4, 2))
    table = pa.table({"cents": cents, "word": pa.array(["b", "a", None], pa.large_string())})
    parquet.write_table(table, tmp_path / "t.parquet")
    found = read_columns(tmp_path / "t.parquet")
    assert column_types(kind.record() for kind in found.types) == found.types
    back = from_numbers(found.values, found.names, found.types, stored=True)
    assert pa.Table.from_batches([back]).equals(table)
    assert held(found.types, [found.values]) == found.types
    assert held(found.types, [found.values + 99])[0].stored == "", "too large for four digits"


@pytest.mark.parametrize(("arrow", "step"), [("date32[day]", 1), ("timestamp[us]", 86_400 * 10**6), ("timestamp[s, tz=UTC]", 86_400)])
def test_dates_that_no_calendar_has_are_refused(arrow: str, step: int) -> None:
    kind = TimeType(arrow, 0, step)
    assert str(from_numbers(torch.tensor([[2_932_896.0], [-719_162.0]]), ["d"], [kind]).column(0)[0].as_py()).startswith("9999-12-31")
    for day in (2_932_897.0, -719_163.0):
        with pytest.raises(RunError, match="beyond the years"):
            from_numbers(torch.tensor([[day]]), ["d"], [kind])
