"""Tables as people have them: each dialect is read as it was meant, or refused in a sentence that names the parameter to give."""

import gzip
import io
import itertools
import re
import shlex
import subprocess
import sys
import warnings
import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pytest
from pyarrow import parquet

from sdezoo.data.column_types import CategoryType
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.labels import labels, take_labels
from sdezoo.data.opening.table import read_table
from sdezoo.errors import DataError, ParameterError, PluginError, RunError
from sdezoo.zoo.datasets import find_dataset, with_parameter

FRAME = pandas.DataFrame({"Größe": [1234.5, 0.25, -7.0], "Stück": [3, 40000, 5]})


def opened(folder: Path, content: str | bytes, name: str = "a.csv", **dialect: object) -> tuple[dict[str, list[object]], list[str]]:
    """The columns of a file, and the notes."""
    path, notes = folder / name, []
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = read_table(path, Dialect(**dialect), notes.append)  # type: ignore[arg-type]
    return {name: column.to_pylist() for name, column in zip(table.column_names, table.columns, strict=True)}, notes


def refused(folder: Path, content: str | bytes, *says: str, name: str = "a.csv", **dialect: object) -> None:
    with pytest.raises(DataError) as refusal:
        opened(folder, content, name, **dialect)
    for part in says:
        assert part in str(refusal.value)
    assert refusal.value.problem.endswith(".")
    assert refusal.value.remedy.endswith(".")


@pytest.mark.parametrize(("mark", "decimal"), list(itertools.product(",;\t|", ".,")))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_pandas_writes_is_read_back(tmp_path: Path, mark: str, decimal: str, encoding: str, packed: bool) -> None:
    content = FRAME.to_csv(sep=mark, decimal=decimal, index=False).encode(encoding)
    name = "a.tsv" if mark == "\t" else "a.csv"
    found, notes = opened(tmp_path, gzip.compress(content) if packed else content, name + ".gz" * packed)
    assert found == FRAME.to_dict("list")
    assert not notes


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ('"price\n(EUR)","qty"\n1.5,2\n', {"price\n(EUR)": [1.5], "qty": [2]}),
        ("sep=;\na;b\n1;2\n", {"a": [1], "b": [2]}),
        ("# by us\n# on Monday\n\na,b\n1,2\n# half\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
        ("# a,b\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
        ("a,b,\n1,2,\n3,4,\n", {"a": [1, 3], "b": [2, 4]}),
        ("a,b\n1,2,\n3,4,\n", {"a": [1, 3], "b": [2, 4]}),
        ("a,b\r1,2\r3,4\r", {"a": [1, 3], "b": [2, 4]}),
        ('a,b\n"1,234.50",1\n"12,000",2\n', {"a": [1234.5, 12000.0], "b": [1, 2]}),
        ("a;b\n1.234,5;1.234\n2,255;3\n", {"a": [1234.5, 2.255], "b": [1234, 3]}),
        ("a;b\n1.234.567;2\n1.000;3\n", {"a": [1234567, 1000], "b": [2, 3]}),
        ('a,b\n"$1,234.50",12 %\n-$3,3 %\n', {"a": [1234.5, -3.0], "b": [12, 3]}),
        ('a,b\n"($1,234.50)",(2)\n$3,"3,000"\n$(4),1\n', {"a": [-1234.5, 3.0, -4.0], "b": [-2, 3000, 1]}),
        ("a,b\n(1),2\n(2),3\n", {"a": ["(1)", "(2)"], "b": [2, 3]}),
        ("a\n1 234\n12 345\n", {"a": [1234, 12345]}),
        ("a,b\nx,\nNA,2\n", {"a": ["x", None], "b": [None, 2]}),
        (
            "when,ip\n01.02.2020,10.0.0.1\n03.04.2021,10.0.0.2\n",
            {"when": [datetime(2020, 2, 1), datetime(2021, 4, 3)], "ip": ["10.0.0.1", "10.0.0.2"]},
        ),
    ],
)
def test_dialects_that_are_unambiguous(tmp_path: Path, content: str, columns: dict[str, list[object]]) -> None:
    assert opened(tmp_path, content)[0] == columns


@pytest.mark.parametrize(
    ("content", "says", "options", "first"),
    [
        ("a;b\n1,555;2\n2,255;3\n", "such as 1,555, are numbers with a thousands separator or with decimals", {"decimal": "comma"}, 1.555),
        ('a,b\n"1,555",2\n"2,255",3\n', 'decimal=point" or decimal=comma', {"thousands": "comma"}, 1555),
        ("a,b;c\n1,2;3\n4,5;6\n", "could be separated by commas or semicolons", {"separator": "semicolon", "decimal": ","}, 1.2),
        ("a,b\n1,2\ngone,4\n3,4\n", "Column 'a' of 'FILE' has numbers, but 'gone' in line 3", {"missing": ("gone",)}, 1),
        ("a,b\n1,2\nK2,4\n3,4\n", "if the column is text, text=(a)", {"text": ("a",)}, "1"),
        ("a,b\n2020-01-01,2\nnever,4\n", "has dates, but 'never' in line 3", {"text": ("a",)}, "2020-01-01"),
        ("a;b\n$1.25;1,25\n$2.5;2,5\n", "decimal points in column 'a' and decimal commas in column 'b'", {"text": ("b",)}, 1.25),
        ("Größe,b\n1,2\n".encode("latin-1"), "in the encoding latin-1 a line of it reads: Größe,b.", {"encoding": "latin-1"}, 1),
        ("b,c\n1,ö\n2,x\n".encode("cp1252"), "is not UTF-8 text", {"encoding": "cp1252"}, 1),
        ("a,b\n1,2\n".encode("utf-16-be"), "encoding=utf-16-be", {"encoding": "utf-16-be"}, 1),
        ("# a,b\nx,y\nz,w\n", "may hold the column names, or be a comment", {"comment": "x", "text": ("# a",)}, "z"),
    ],
)
def test_dialects_that_the_user_must_name(
    tmp_path: Path, content: str | bytes, says: str, options: dict[str, object], first: object
) -> None:
    """Refused without the parameter that the sentence names, read with it."""
    refused(tmp_path, content, says.replace("FILE", str(tmp_path / "a.csv")))
    assert next(iter(opened(tmp_path, content, **options)[0].values()))[0] == first


@pytest.mark.parametrize("mark", ["gone", "#DIV/0!", "<10", "[EUR]", "a, b", "it's", "x)", "n" * 50])
def test_what_a_message_says_of_a_mark_can_be_done(tmp_path: Path, mark: str) -> None:
    for name in ("a", "a, b"):
        (tmp_path / "a.csv").write_text(f'"{name}",y\n1,2\n"{mark}",4\n3,4\n3,5\n')
        with pytest.raises(DataError) as refusal:
            find_dataset(str(tmp_path / "a.csv")).load()
        told = shlex.split(refusal.value.remedy[refusal.value.remedy.index("--data") :].partition(", if the column")[0])[1]
        data = find_dataset(told).load()
        assert int(data.train.isnan().sum() + data.test.isnan().sum()) == 1
        text = re.findall(r" (text=.*)\.$", refusal.value.remedy)[0]
        assert isinstance(find_dataset(f"table:path={tmp_path / 'a.csv'},{text}").load().types[0], CategoryType)


def test_what_is_read_otherwise_than_written_is_told(tmp_path: Path) -> None:
    assert "look" not in "".join(opened(tmp_path, "city,2010,2011\nx,1,2\ny,3,4\nz,3,5\n")[1])
    assert "looks like a row of data: 4.5,x" in opened(tmp_path, "4.5,x\n1.5,y\n2.5,z\n0.5,x\n")[1][0]
    assert "such as '$1.50' in column 'a', '5 %' in column 'b'" in opened(tmp_path, "a,b,c\n$1.50,5 %,2\n$2,6 %,3\n")[1][0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\0\n3,4\n5,6\n7,8\n", "has zero bytes"),
        ("a,b\n1,2\n\n3,4,5\n6\n", "2 column names, but line 4 has 3 fields: 3,4,5."),
        ("Title\na,b\n1,2\n", "1 column name, but line 2 has 2 fields: a,b. Remove the lines before the column names."),
        ("a,,b\n1,2,3\n1,3,4\n", "Column 1 (counted from 0) of"),
        ("a,b,a,b,c\n1,2,3,4,5\n", "more than one column named 'a', 'b'"),
        ('a,b\n1,"x\n2,3\n4,5\n', "a quotation mark in column 'b' that is not closed"),
        ("a,b\n$1.50,2\n€12.00,3\n", "amounts in different units: '$' and '€'"),
        ('a,b\n"1,5",1\n"2.5,5",2\n', "a"),
        ("a;b;c\n1,5;1,234.5;2\n2,5;2,000.5;3\n", "decimal points in column 'b' and decimal commas in column 'a'"),
        ("# nothing\n", "nothing but comments"),
        (b"\xd0\xcf\x11\xe0" + bytes(100), "the old format of Excel"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: str | bytes, says: str) -> None:
    refused(tmp_path, content, says)


def test_a_row_of_the_wrong_length_that_is_not_utf_8(tmp_path: Path) -> None:
    """Deep in a file, beyond the head that is decoded first; the line that is shown is the one that is not UTF-8."""
    content = "a,b\n" + "1,é\n" * 200_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pytest warns of an exception that nobody could catch
        refused(tmp_path, content.encode() + b"1,2,caf\xe9\n", "in the encoding latin-1 a line of it reads: 1,2,café.")


def test_the_content_of_a_file_counts_and_not_its_ending(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "a.csv")
    found = find_dataset(str(tmp_path / "a.csv")).load()
    assert (found.columns, found.style) == (("Größe", "Stück"), None)
    FRAME.to_csv(tmp_path / "a.txt", index=False)
    with pytest.raises(PluginError, match="No dataset plugin") as refusal:
        find_dataset(str(tmp_path / "a.txt"))
    (told,) = re.findall(r'give --data "(.*)"\.$', refusal.value.remedy)
    assert find_dataset(told).load().columns == found.columns


def test_indices_are_no_columns(tmp_path: Path) -> None:
    """Of pandas, whatever rows were kept, and of R, with and without a place in the line of names."""
    for frame in (FRAME, FRAME.iloc[[2, 0, 1]], FRAME.set_axis(["x", "y", "z"])):
        found, notes = opened(tmp_path, frame.to_csv())
        assert found == frame.to_dict("list")
        assert notes == [f"The first column of '{tmp_path}/a.csv' is an index without a name, so it is left out."]
    assert opened(tmp_path, "Unnamed: 0,a,b\n0,1,2\n1,3,4\n")[0] == {"a": [1, 3], "b": [2, 4]}
    assert opened(tmp_path, "a b\nx 1 2\ny 3 4\n", separator="space")[0] == {"a": [1, 3], "b": [2, 4]}
    refused(tmp_path, ",a\n0.5,1\n0.5,2\n", "Column 0 (counted from 0)")
    frame = FRAME.iloc[[2, 0, 1]]
    frame.to_parquet(tmp_path / "a.parquet")
    assert parquet.read_schema(tmp_path / "a.parquet").names[-1] == "__index_level_0__"
    assert read_table(tmp_path / "a.parquet").to_pydict() == frame.to_dict("list")


def test_a_wide_text_is_read_as_a_narrow_one(tmp_path: Path) -> None:
    """Types, dialects and refusals are the same beyond the number of columns that are read at once."""
    columns = 1500
    names, values = [f"c{i}" for i in range(columns)], [str(i) for i in range(columns)]
    rows = [[*values[:-2], "2020-01-01", "1,5"], [*values[:-2], "2021-01-01", "2.000,5"]] * 30
    found, _ = opened(tmp_path, "\n".join(";".join(row) for row in (names, *rows)))
    assert [str(column[0]) for column in found.values()] == [*values[:-2], "2020-01-01", "1.5"]
    assert found["c1499"] == [1.5, 2000.5] * 30
    for bad, says in (("x", "Column 'c1200' of"), ("1;2", "1500 column names, but line 62 has 1501 fields")):
        wrong = [*rows, [*values[:1200], bad, *values[1201:]]]
        refused(tmp_path, "\n".join(";".join(row) for row in (names, *wrong)), says)


def test_texts_of_parquet_keep_their_dictionary(tmp_path: Path) -> None:
    """Equal texts take one, and lists are refused before they are decoded."""
    table = pa.table({"a": pa.array(["x" * 1000] * 20_000), "b": pa.array(range(20_000))})
    parquet.write_table(table, tmp_path / "a.parquet")
    before = pa.total_allocated_bytes()
    del table
    assert read_table(tmp_path / "a.parquet").nbytes < 2**20
    assert pa.total_allocated_bytes() <= before
    parquet.write_table(pa.table({"a": [[1], [2]]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="lists, records or bytes, which are neither numbers nor categories nor times: 'a'"):
        read_table(tmp_path / "a.parquet")


def test_a_gzipped_text_is_bounded_as_it_is_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdezoo.data.reading.LARGEST", 2**20)
    refused(tmp_path, gzip.compress(b"a\n" + b"1\n" * 2**22), "declares", name="a.csv.gz")


class TestExcel:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("openpyxl")

    def write(self, path: Path, **sheets: pandas.DataFrame) -> Path:
        with pandas.ExcelWriter(path) as book:
            for name, frame in sheets.items():
                frame.to_excel(book, sheet_name=name, index=False)
        return path

    def test_sheets_are_read_by_type(self, tmp_path: Path) -> None:
        days = pandas.to_datetime(["2020-01-01", "2021-05-06", "2022-01-01"])
        path = self.write(tmp_path / "a.xlsx", one=FRAME.assign(kind=["x", None, "z"], day=days, on=[True, False, True]))
        table = read_table(path)
        assert table.select(FRAME.columns).to_pydict() == FRAME.to_dict("list")
        assert table["kind"].to_pylist() == ["x", None, "z"]
        assert pa.types.is_timestamp(table["day"].type)
        assert pa.types.is_boolean(table["on"].type)

    def test_the_sheet_is_named_where_there_are_several(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "a.xlsx", one=FRAME, two=FRAME[["Stück"]])
        with pytest.raises(DataError, match=r"several sheets: one, two.*sheet=one"):
            read_table(path)
        assert read_table(path, Dialect(sheet="two")).column_names == ["Stück"]
        with pytest.raises(DataError, match=r"no sheet 'three'.*one, two"):
            read_table(path, Dialect(sheet="three"))

    def test_mixed_columns_name_the_row(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "a.xlsx", one=pandas.DataFrame({"a": [1, "x", 3]}))
        with pytest.raises(DataError, match=r"'a' of .* has numbers, but 'x' in row 1"):
            read_table(path)
        assert read_table(path, Dialect(missing=("x",))).to_pydict() == {"a": [1, None, 3]}

    def test_damaged_files_and_bombs(self, tmp_path: Path) -> None:
        content = self.write(tmp_path / "a.xlsx", one=FRAME).read_bytes()
        for length in range(4, len(content), 97):
            refused(tmp_path, content[:length], name="b.xlsx")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/sharedStrings.xml", bytes(2**28 + 1))
        refused(tmp_path, buffer.getvalue(), "more than the 268435456", name="b.xlsx")


def test_excel_without_openpyxl_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("a", "")
    with pytest.raises(RunError, match=r'openpyxl, which is not installed.*"sdezoo\[excel\]"'):
        read_table(tmp_path / "a.xlsx")


@pytest.mark.parametrize(
    "values",
    [
        {"separator": "ab"},
        {"decimal": ";"},
        {"thousands": "x"},
        {"decimal": ",", "thousands": "comma"},
        {"encoding": "zip"},
        {"comment": ""},
    ],
)
def test_marks_that_are_none(values: dict[str, str]) -> None:
    with pytest.raises(ParameterError):
        Dialect(**values)  # type: ignore[arg-type]


def test_dialects_stand_in_spec_strings(tmp_path: Path) -> None:
    """As characters, as words that no shell changes, and with a path that has commas; and specs are read back."""
    path = tmp_path / "a, (b.csv"
    path.write_text("a;b\n1,555;x\n2,255;y\n3,5;x\n4,5;y\n")
    for spec in (f'table:path="{path}",separator=;,decimal=,', f'table:path="{path}",decimal=comma,separator=semicolon,holdout=0'):
        dataset = find_dataset(with_parameter(spec, "label_column", "b"))
        assert find_dataset(dataset.spec) == find_dataset(dataset.full_spec) == dataset
        data = dataset.load()
        assert data.columns == ("a",)
        assert data.train_labels is not None
        assert set(data.train_labels.tolist()) == {0, 1}
        assert data.notes == ("The classes of column 'b' are numbered: 0 = x, 1 = y.",)
    with pytest.raises(ParameterError, match="'wine' has no parameter label_column"):
        with_parameter("wine", "label_column", "b")
    with pytest.raises(ParameterError, match="is not a mark"):
        find_dataset("table:path=a.csv,separator=ab")
    with pytest.raises(DataError, match=r"does not apply"):
        find_dataset(f'table:path="{path}",sheet=x').load()


def test_labels_are_numbered_in_their_order() -> None:
    for values, names in (
        (["b", "a", "b"], ("a", "b")),
        ([7, 3, 7], (3, 7)),
        ([7.0, 3.0, 7.0], (3, 7)),
        ([True, False, True], (0, 1)),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ("a", "b")),
    ):
        found = labels(pa.array(values) if isinstance(values, list) else values, "y")
        assert found.numbers.tolist() == [1, 0, 1]
        assert found.names == names
    table, found = take_labels(pa.table({"x": [1, 2], "y": ["u", "v"]}), "y")
    assert table.column_names == ["x"]
    for values, says in (([0.5, 1.0], "0.5 in row 0"), (["a", None], "row 1 .* is missing"), ([b"x", b"y"], "type binary")):
        with pytest.raises(DataError, match=says):
            labels(pa.array(values), "y")
    with pytest.raises(DataError, match=r"no column 'z' for the labels. Give one of x, y."):
        take_labels(pa.table({"x": [1], "y": [2]}), "z")
    many = pa.array(np.arange(2**16 + 1))
    with pytest.raises(DataError, match="65537 classes"):
        labels(many, "y")


def test_numbers_with_zeros_before_them_and_too_many_digits_stay_text(tmp_path: Path) -> None:
    """As a number, the postal code 00123 would be another one."""
    rows = "".join(f"{code},{k},0.5,{17 * 10**18 + k}\n" for k, code in enumerate(["00123", "90210", "00501"]))
    (tmp_path / "t.csv").write_text("zip,count,share,hash\n" + rows)
    notes: list[str] = []
    table = read_table(tmp_path / "t.csv", notify=notes.append)
    assert table["zip"].to_pylist() == ["00123", "90210", "00501"]
    assert table["hash"].to_pylist() == [str(17 * 10**18 + k) for k in range(3)]
    assert table["count"].to_pylist() == [0, 1, 2]
    assert table["share"].to_pylist() == [0.5] * 3
    assert len(notes) == 2
    assert "00123" in notes[0]


@pytest.mark.parametrize("cells", [["0x1f", "0xA0", "0x00"], ["+49301234567", "+13125550100", "+49301234567"]])
def test_hexadecimal_numbers_and_telephones_stay_text(tmp_path: Path, cells: list[str]) -> None:
    notes: list[str] = []
    (tmp_path / "a.csv").write_text("x,n\n" + "".join(f"{cell},{k}\n" for k, cell in enumerate(cells)))
    table = read_table(tmp_path / "a.csv", notify=notes.append)
    assert table["x"].to_pylist() == cells
    assert notes == [f"Column 'x' of '{tmp_path / 'a.csv'}' is read as text: as a number, {cells[0]} would lose its form."]
    (tmp_path / "b.csv").write_text("x\n+6\n-3\n+120\n")
    assert read_table(tmp_path / "b.csv")["x"].type == pa.int64()


@pytest.mark.parametrize("words", [["0", "1", "2", "3+"], ["1 - never", "2", "3", "4", "5 - always"], ["<5", "5", "6", "7", "8"]])
def test_few_values_of_which_some_are_no_numbers_are_categories(tmp_path: Path, words: list[str]) -> None:
    """As of a family's children, 3+ of which are three or more. One that is there once may be a mistake."""
    notes: list[str] = []
    (tmp_path / "a.csv").write_text("x\n" + "".join(f"{word}\n" for word in words * 5))
    assert read_table(tmp_path / "a.csv", notify=notes.append)["x"].to_pylist() == words * 5
    assert f"its {len(words)} different values are categories" in notes[0]
    (tmp_path / "a.csv").write_text("x\n" + "".join(f"{word}\n" for word in [*words * 5, "oops"]))
    with pytest.raises(DataError, match="has numbers, but"):
        read_table(tmp_path / "a.csv")


def test_many_texts_with_numbers_in_them_are_told(tmp_path: Path) -> None:
    """Samples only repeat them: of amounts in several units, that is not what is wanted."""
    for cells, told in (([f"{k} {'mg' if k % 3 else 'g'}" for k in range(300)], True), ([f"item {k}" for k in range(300)], False)):
        notes: list[str] = []
        (tmp_path / "a.csv").write_text("x\n" + "".join(f"{cell}\n" for cell in cells))
        assert read_table(tmp_path / "a.csv", notify=notes.append)["x"].to_pylist() == cells
        assert any("in one unit" in note for note in notes) is told


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,23,456", "12,34,567", "123"], [123456, 1234567, 123]),
        (["1,23,456.50", "12,34,567.25"], [123456.5, 1234567.25]),
        (["402.43-", "136.48", "1,319.21-"], [-402.43, 136.48, -1319.21]),
        (["\u0661\u0662", "\u0663\u066b\u0665"], [12.0, 3.5]),
        (["\uff11\uff12", "\uff13"], [12, 3]),
    ],
)
def test_numbers_of_other_countries_and_ledgers(tmp_path: Path, cells: list[str], values: list[float]) -> None:
    (tmp_path / "a.csv").write_text("x\n" + "".join(f'"{cell}"\n' for cell in cells))
    assert read_table(tmp_path / "a.csv")["x"].to_pylist() == values


@pytest.mark.parametrize("mark", ["^", "~", "\x01"])
def test_rare_separators_are_found_and_told(tmp_path: Path, mark: str) -> None:
    notes: list[str] = []
    (tmp_path / "a.csv").write_text("x|k|n\n2.5|a|1\n3.5|b|2\n".replace("|", mark))
    assert read_table(tmp_path / "a.csv", notify=notes.append).to_pydict() == {"x": [2.5, 3.5], "k": ["a", "b"], "n": [1, 2]}
    assert f"separated by {mark!r}" in notes[0]


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("rows", [5, 9000])
def test_a_printed_table_is_read(tmp_path: Path, index: bool, rows: int) -> None:
    """Its columns are aligned by any number of spaces."""
    frame = pandas.DataFrame(
        {"weight": np.arange(rows) * 1.5 - 9, "kind": [("a", "bcd")[k % 2] for k in range(rows)], "n": np.arange(rows) % 7}
    )
    (tmp_path / "a.txt").write_text(frame.to_string(index=index) + "\n")
    assert read_table(tmp_path / "a.txt").to_pydict() == frame.to_dict("list")


@pytest.mark.parametrize(("mark", "place"), [("#", 3), ("%", 0), (";", 0), ("/", 2)])
def test_comments_that_are_not_looked_for_can_be_named(tmp_path: Path, mark: str, place: int) -> None:
    lines = ["x,k", "2.5,a", "3.5,b", "4.5,c"]
    lines.insert(place, f"{mark} exported")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"or give --data .*comment={mark}"):
        read_table(tmp_path / "a.csv")
    assert read_table(tmp_path / "a.csv", Dialect(comment=mark))["k"].to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize("mark", ["?", "-", "None", "<NA>", ".", " ", "n.a."])
def test_marks_of_missing_numbers_are_missing_and_categories_keep_them(tmp_path: Path, mark: str) -> None:
    (tmp_path / "t.csv").write_text(f"x,kind\n1.5,{mark}\n{mark},a\n2,b\n3,a\n")
    notes: list[str] = []
    table = read_table(tmp_path / "t.csv", notify=notes.append)
    assert table["x"].to_pylist() == [1.5, None, 2.0, 3.0]
    assert table["kind"].to_pylist() == [mark, "a", "b", "a"]
    assert len(notes) == 1
    assert "missing value" in notes[0]


def test_numbers_that_mark_missing_values_are_named_and_left_out_where_the_user_says_so(tmp_path: Path) -> None:
    """-999 among prices is named; 99 among ages, which go on to 98, is not. Both are left out as they are written, in any format."""
    columns = {"price": [-999.0] * 3 + [0.5 * k for k in range(1, 20)], "age": [99] * 3 + list(range(80, 99))}
    files = [tmp_path / f"t.{ending}" for ending in ("csv", "parquet")]
    rows = zip(*columns.values(), strict=True)
    files[0].write_text("price,age\n" + "".join(f"{price:.2f},{age}\n" for price, age in rows))
    parquet.write_table(pa.table(columns), files[1])
    for file in files:
        notes: list[str] = []
        assert read_table(file, notify=notes.append).to_pydict() == columns
        assert len(notes) == 1
        assert "3 values of column 'price'" in notes[0]
        (told,) = re.findall(r'give --data "(.*)"\.$', notes[0])
        loaded = find_dataset(told).load()
        assert int(loaded.train.isnan().sum() + loaded.test.isnan().sum()) == 3
        found = read_table(file, Dialect(missing=("-999", "99")), notes.append)
        assert (found["price"].null_count, found["age"].null_count, len(notes)) == (3, 3, 1)


@pytest.mark.parametrize(
    ("content", "is_a"),
    [
        (b'{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n', "holds JSON"),
        (b'[{"a": 1},\n {"a": 3}]', "holds JSON"),
        (b"<!DOCTYPE html>\n<title>Log in</title>\n<p>Please", "holds HTML or XML"),
        (b"BZh91AY&SY", "is compressed by bzip2"),
        (b"\x80\x04\x95\x10", "is a pickle"),
        (b"ARROW1\0\0", "is a Feather or Arrow file"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, content: bytes, is_a: str) -> None:
    """JSON as a table in text would have columns such as `{"a": 1`."""
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=is_a):
        read_table(tmp_path / "t.csv")


def test_a_zip_archive_is_no_excel_file(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as archive:
        archive.writestr("t.csv", "a,b\n1,2\n")
    with pytest.raises(DataError, match=r"is a zip archive, not an Excel file\. Unpack it"):
        read_table(tmp_path / "t.xlsx")


@pytest.mark.parametrize("text", ["price kind\n2.5 a\n3 b\n", '"price" "kind"\n"1" 2.5 "a"\n"2" 3 "b"\n'])
def test_spaces_separate_where_nothing_else_does(tmp_path: Path, text: str) -> None:
    """R's `write.table` writes so. A file of one column with a space in its name has none."""
    (tmp_path / "t.txt").write_text(text)
    notes: list[str] = []
    assert read_table(tmp_path / "t.txt", notify=notes.append).to_pydict() == {"price": [2.5, 3.0], "kind": ["a", "b"]}
    assert f"The columns of '{tmp_path / 't.txt'}' are taken to be separated by spaces." in notes
    (tmp_path / "t.txt").write_text("unit price\n2.5\n3\n")
    assert read_table(tmp_path / "t.txt").to_pydict() == {"unit price": [2.5, 3.0]}


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["59.8 kg", "1,200.5 kg", "n/a"], [59.8, 1200.5, None]),
        (["-5 °C", "3°C"], [-5, 3]),
        (["1 kg", "2 g"], ["1 kg", "2 g"]),
        (["3 rooms", "studio"], ["3 rooms", "studio"]),
        (["007 kg", "12 kg"], ["007 kg", "12 kg"]),
    ],
)
def test_one_unit_behind_all_numbers_of_a_column_is_left_out(tmp_path: Path, cells: list[str], values: list[object]) -> None:
    (tmp_path / "t.csv").write_text("x,kind\n" + "".join(f'"{cell}",a\n' for cell in cells))
    assert read_table(tmp_path / "t.csv")["x"].to_pylist() == values


RESIDENT = """
import os, sys
from pathlib import Path
from sdezoo.data.opening.table import read_table, return_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

read_table(Path(sys.argv[1]))  # what is taken once is not counted
return_memory()
before = resident()
table = read_table(Path(sys.argv[1]))
held = resident() - before
del table
return_memory()
print(held, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells how much memory is resident")
def test_what_a_table_took_is_returned_to_the_system(tmp_path: Path) -> None:
    """A column of 32 MiB, in a process that has no free memory of its own: what stays once it is gone is less than half of it."""
    parquet.write_table(pa.table({"a": np.tile([1.5, 2.5], 2**21)}), tmp_path / "t.parquet")
    command = [sys.executable, "-c", RESIDENT, str(tmp_path / "t.parquet")]
    held, left = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert held > 2**24
    assert left < 2**24
