"""Missing values of several kinds in one table: what marks them is read by column, and written so again."""

import datetime
from pathlib import Path

import openpyxl
import pytest
import torch

from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.excel import read_sheet
from sdezoo.data.opening.table import read_table
from sdezoo.data.text_style import TextStyle
from sdezoo.errors import DataError
from sdezoo.generation.export import write_parts
from sdezoo.zoo.datasets import find_dataset

DAYS = [f"2024-{1 + k % 12:02d}-{1 + k % 28:02d}" for k in range(40)]


def _csv(path: Path, **columns: list[str]) -> Path:
    rows = zip(*columns.values(), strict=True)
    path.write_text("".join(",".join(row) + "\n" for row in (columns, *rows)))
    return path


def _again(path: Path) -> str:
    """What is written of a table that was read."""
    data, out = find_dataset(f"table:path={path},holdout=0").load(), path.with_name("again.csv")
    write_parts([data.train], data.train.shape, out, kind="table", columns=data.columns, types=data.types, style=data.style)
    return out.read_text()


@pytest.mark.parametrize("first", [0, 300])
def test_each_column_keeps_its_mark(tmp_path: Path, first: int) -> None:
    """Also where the first missing value stands behind the rows that are looked at."""
    gap = [k >= first and k % 3 == 0 for k in range(400)]
    columns = {
        "dash": ["-" if gone else f"{k}.5" for k, gone in enumerate(gap)],
        "word": ["NA" if gone else "uv"[k % 2] for k, gone in enumerate(gap)],
        "none": ["" if gone else str(k) for k, gone in enumerate(gap)],
        "day": ["unknown" if gone else DAYS[k % 40] for k, gone in enumerate(gap)],
        "whole": [str(k % 7) for k in range(400)],
    }
    path = _csv(tmp_path / "a.csv", **columns)
    assert _again(path) == path.read_text()


def test_marks_of_one_column_are_values_of_another(tmp_path: Path) -> None:
    path = _csv(tmp_path / "a.csv", age=["34", "99", "41", "99"], weight=["99", "98", "99", "97"], kind=["99", "u", "v", "u"])
    table = read_table(path, Dialect(missing=("age=99",)))
    assert table["age"].to_pylist() == [34, None, 41, None]
    assert table["weight"].to_pylist() == [99, 98, 99, 97]
    assert table["kind"].to_pylist() == ["99", "u", "v", "u"]
    data = find_dataset(f"table:path={path},holdout=0,missing=(age=99)").load()
    assert data.style is not None
    assert data.style.marks == ("age=99",)
    limits = _csv(tmp_path / "b.csv", dose=["<0.1", "0.25", "0.5", "0.75"], day=["9999-12-31", *DAYS[:3]], note=["a=b", "c", "a=b", "c"])
    table = read_table(limits, Dialect(missing=("dose=<0.1", "day=9999-12-31", "a=b")))
    assert table["dose"].to_pylist() == [None, 0.25, 0.5, 0.75]
    assert table["day"].null_count == 1
    assert table["note"].to_pylist() == [None, "c", None, "c"]  # no column is called a


def test_what_a_message_names_can_be_given(tmp_path: Path) -> None:
    """The mark that is named is that of a column: 999 in another one is a value."""
    notes: list[str] = []
    path = _csv(tmp_path / "a.csv", n=[str(k % 9) for k in range(30)] + ["999"] * 4, price=[str(990 + k) for k in range(34)])
    table = read_table(path, notify=notes.append)
    assert "missing=(n=999)" in notes[0]
    assert read_table(path, Dialect(missing=("n=999",)))["n"].null_count == 4
    assert table["price"].null_count == 0
    mixed = _csv(tmp_path / "b.csv", dose=[f"0.{k}" for k in range(10, 40)] + ["<0.1"])
    with pytest.raises(DataError, match=r"missing=\(dose=<0\.1\)"):
        read_table(mixed)
    assert read_table(mixed, Dialect(missing=("dose=<0.1",)))["dose"].null_count == 1


@pytest.mark.parametrize("mark", ["-", "?", "NaT", "unknown", "0000-00-00", "n.a."])
@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y %H:%M"])
def test_marks_among_times_are_missing(tmp_path: Path, mark: str, form: str) -> None:
    times = [datetime.datetime(2024, 1, 1) + datetime.timedelta(days=11 * k, minutes=k) for k in range(30)]
    path = _csv(tmp_path / "a.csv", at=[mark if k % 5 == 0 else time.strftime(form) for k, time in enumerate(times)])
    notes: list[str] = []
    table = read_table(path, notify=notes.append)
    assert table["at"].null_count == 6
    assert notes == [f"'{mark}' in column 'at', whose other values are dates or times, is a missing value."]
    assert _again(path) == path.read_text()


def test_whole_numbers_that_mark_a_missing_date(tmp_path: Path) -> None:
    days = [day.replace("-", "") for day in DAYS]
    for mark in ("0", "99999999"):
        path = _csv(tmp_path / "a.csv", day=[mark, *days], n=[str(k) for k in range(41)])
        assert read_table(path)["day"].null_count == 1
        assert _again(path) == path.read_text()
    path = _csv(tmp_path / "a.csv", day=["1", *days], n=[str(k) for k in range(41)])
    assert read_table(path)["day"].null_count == 0  # no date, and no mark


def test_samples_with_marks_are_read_again(tmp_path: Path) -> None:
    """Where most values are missing, marks of numbers could be words; and -999 could be a number."""
    style = TextStyle(missing="-999", gaps={"a": "-999", "b": "-"})
    values = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan], [torch.nan, torch.nan], [3.5, 2.5]])
    write_parts([values], values.shape, tmp_path / "s.csv", kind="table", columns=("a", "b"), types=(), style=style)
    assert (tmp_path / "s.csv").read_text().splitlines()[2] == "-999,-"
    table = read_table(tmp_path / "s.csv", Dialect(missing=style.marks))
    assert table["a"].to_pylist() == [1.0, None, None, 3.5]
    assert table["b"].to_pylist() == [None, None, None, 2.5]


class TestExcel:
    @staticmethod
    def write(path: Path, *rows: tuple[object, ...]) -> Path:
        book = openpyxl.Workbook()
        for row in rows:
            book.worksheets[0].append(row)
        book.save(path)
        return path

    def test_marks_and_errors_are_missing_among_numbers_and_dates_alone(self, tmp_path: Path) -> None:
        day = datetime.datetime(2024, 5, 6)
        rows = [("-", "?", "-"), ("#DIV/0!", day, "b"), (2.5, day, "b"), (3, day, "None")]
        notes: list[str] = []
        table = read_sheet(self.write(tmp_path / "a.xlsx", ("x", "at", "kind"), *rows), Dialect(), notes.append)
        assert table["x"].to_pylist() == [None, None, 2.5, 3.0]
        assert table["at"].to_pylist() == [None, day, day, day]
        assert table["kind"].to_pylist() == ["-", "b", "b", "None"]
        assert len(notes) == 2
        assert "'-' in column 'x'" in notes[0]

    def test_numbers_that_are_stored_as_texts_are_numbers(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "a.xlsx", ("x",), (1.5,), ("2.5",), (3,), ("-",))
        assert read_table(path)["x"].to_pylist() == [1.5, 2.5, 3.0, None]

    def test_the_text_is_the_mistake(self, tmp_path: Path) -> None:
        """Also if it comes first, as the second line of a heading does."""
        day = datetime.datetime(2024, 5, 6)
        path = self.write(tmp_path / "a.xlsx", ("at", "x"), ("when", 1), *[(day, k) for k in range(5)])
        with pytest.raises(DataError, match=r"has dates, but 'when' in row 0.*missing=\(at=when\)"):
            read_table(path)
        path = self.write(tmp_path / "b.xlsx", ("x",), ("kg",), *[(k / 7,) for k in range(30)])
        with pytest.raises(DataError, match=r"has numbers, but 'kg' in row 0"):
            read_table(path)
        path = self.write(tmp_path / "c.xlsx", ("x",), (day,), (day.time(),))
        with pytest.raises(DataError, match=r"has dates, but '00:00:00' in row 1.*one type"):
            read_table(path)

    def test_formulas_without_values_are_refused(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "a.xlsx", ("x", "y"), *[(k, f"=A{k + 2}*2") for k in range(4)])
        with pytest.raises(DataError, match=r"'y' of .* has formulas, such as =A2\*2, without their values.*save it"):
            read_table(path)
        empty = self.write(tmp_path / "b.xlsx", ("x", "y"), *[(k, None) for k in range(4)])
        assert read_table(empty)["y"].null_count == 4
