"""`sdezoo sample --given` and `sdezoo impute`."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from sdezoo.data.filling import Filling, fill_text
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.opening.table import read_table
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

Terminal = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    normal = np.random.default_rng(0).normal(size=(80, 3))
    rows = np.stack([np.exp(normal[:, 0]), normal[:, 0] + 0.3 * normal[:, 1], np.floor(9 * np.abs(normal[:, 2])) + 1], 1)
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "n"], *([f"{a:.4f}", f"{b:.4f}", int(n)] for a, b, n in rows)])
    return folder / "table.csv"


@pytest.fixture(scope="module")
def run(table: Path) -> Path:
    small = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8}
    return train(TrainingConfig.build({**small, "data": f"table:path={table}", "out": str(table.parent / "run")})).run


def read(path: str) -> list[list[str]]:
    with Path(path).open(newline="") as file:
        return list(csv.reader(file))


def test_samples_meet_the_conditions(run: Path, terminal: Terminal) -> None:
    code, out, err = terminal("sample", run, "--given", "n=4", "--given", "a=0.5..2", "-n", 6, "--steps", 5, "--out", "x.csv", "--json")
    assert code == 0, err
    assert json.loads(out)["effective_particles"] >= 1
    names, *rows = read("x.csv")
    assert names == ["a", "b", "n"]
    assert [row[2] for row in rows] == ["4"] * 6
    assert all(0.5 <= float(row[0]) <= 2 for row in rows)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("c=1", "no column 'c'"),
        ("n=2.5", "whole numbers"),
        ("a=-1", "outside"),
        ("a=x", "not a number"),
        ("a", "not a condition"),
        ("a=1e40", "outside"),
        ("n=16777217", "digits"),
    ],
)
def test_a_condition_that_cannot_be_met_is_refused(run: Path, terminal: Terminal, condition: str, message: str) -> None:
    code, _, err = terminal("sample", run, "--given", condition, "--out", "x.csv")
    assert code != 0
    assert message in err
    assert "Traceback" not in err
    assert not Path("x.csv").exists()


def test_only_missing_cells_are_filled(run: Path, table: Path, terminal: Terminal) -> None:
    names, *rows = read(str(table))
    rows = [[str(i), *reversed(row)] for i, row in enumerate(rows[:9])]  # another order, and a column that the run does not know
    for i, j in ((0, 1), (0, 2), (3, 3), (4, 1), (4, 2), (4, 3)):
        rows[i][j] = ""
    with Path("holes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", *reversed(names)], *rows])
    code, _, err = terminal("impute", run, "holes.csv", "--out", "filled.csv", "--steps", 5)
    assert code == 0, err
    header, *filled = read("filled.csv")
    assert header == ["id", *reversed(names)]
    for old, new in zip(rows, filled, strict=True):
        assert [b for a, b in zip(old, new, strict=True) if a] == [a for a in old if a]
        assert all(new)
    assert int(filled[0][1]) >= 1
    assert float(filled[3][3]) > 0


def test_several_draws_are_numbered_and_the_first_is_the_only_one(run: Path, table: Path, terminal: Terminal) -> None:
    names, *rows = read(str(table))
    a, b, n = zip(*rows[:5], strict=True)
    columns = [
        pa.array([None if i == 2 else float(value) for i, value in enumerate(a)], pa.float32()),
        pa.array(list(map(float, b))),
        pa.array([None if i == 1 else int(value) for i, value in enumerate(n)], pa.int16()),
    ]
    parquet.write_table(pa.table(columns, names), "holes.parquet")
    for draws, out in ((1, "one.parquet"), (3, "three.parquet")):
        code, _, err = terminal("impute", run, "holes.parquet", "--out", out, "--draws", draws, "--steps", 5)
        assert code == 0, err
    one, three = parquet.read_table("one.parquet"), parquet.read_table("three.parquet")
    assert three.schema.names == ["draw", *names]
    assert three["draw"].to_pylist() == [1] * 5 + [2] * 5 + [3] * 5
    assert one.schema.types == [pa.float32(), pa.float64(), pa.int16()]
    assert three.drop(["draw"]).slice(0, 5).equals(one)
    assert len(set(three["a"].to_pylist()[2::5])) == 3
    assert one["b"].equals(parquet.read_table("holes.parquet")["b"])


def test_tables_that_cannot_be_filled_are_refused(run: Path, table: Path, terminal: Terminal) -> None:
    Path("other.csv").write_text("a,b\n1,\n2,3\n")
    Path("marks.csv").write_text('a,b,n\n"1,234",,1\n"2,345",1.5,2\n')
    Path("outside.csv").write_text("a,b,n\n-1,,3\n2,3,1\n")
    Path("numbered.csv").write_text("a,b,n,draw\n1,,3,1\n2,3,1,1\n")
    refused = {
        "no missing cells": (table,),
        "no column 'n'.\n       Give a table with the columns a, b, n.": ("other.csv",),
        "decimals.\n       Write the file like the data of the run": ("marks.csv",),
        "outside": ("outside.csv",),
        "has a column 'draw'": ("numbered.csv", "--draws", 2),
        "too small": ("outside.csv", "--draws", 0),
    }
    for message, arguments in refused.items():
        code, _, err = terminal("impute", run, *arguments, "--out", "filled.csv")
        assert code != 0
        assert message in err
        assert "Traceback" not in err
        assert not Path("filled.csv").exists()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table of numbers, categories and dates with holes, in the notation of much of Europe, and a run on it."""
    folder = tmp_path_factory.mktemp("mixed")
    random = np.random.default_rng(1)
    rows = [
        [f"{value:.2f}".replace(".", ","), ("mild", "warm", "hot;dry")[i % 3], f"2024-05-{i % 28 + 1:02d}", ("True", "False")[i % 2]]
        for i, value in enumerate(np.exp(random.normal(size=90)))
    ]
    for i in range(0, 90, 9):
        rows[i][i % 4] = "NA"
    with (folder / "mixed.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([["size", "kind", "day", "wet"], *rows])
    small = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8}
    path = folder / "mixed.csv"
    return path, train(TrainingConfig.build({**small, "data": f"table:path={path}", "out": str(folder / "run")})).run


def test_categories_and_dates_are_given_as_they_are_written(mixed: tuple[Path, Path], terminal: Terminal) -> None:
    given = ("--given", "kind=hot;dry", "--given", "day=2024-05-03", "--given", "wet=true")
    code, _, err = terminal("sample", mixed[1], *given, "-n", 3, "--steps", 5, "--out", "x.csv")
    assert code == 0, err
    made = read("x.csv")[1:]
    assert [row[1:] for row in made] == [["hot;dry", "2024-05-03", "True"]] * 3
    assert all(re.fullmatch(r"\d+\.\d\d|NA", row[0]) for row in made)
    code, _, err = terminal("sample", mixed[1], "--given", "day=2024-05-10..2024-05-20", "-n", 3, "--steps", 5, "--out", "y.csv")
    assert code == 0, err
    assert all("2024-05-10" <= row[2] <= "2024-05-20" for row in read("y.csv")[1:])


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("kind=cold", "Choose from: hot;dry, mild, warm"),
        ("day=soon", "not a date"),
        ("size=mild", "not a number"),
        ("size=1.555", "multiples of 0.01, and 1.555 is none"),
    ],
)
def test_a_value_of_another_type_is_refused(mixed: tuple[Path, Path], terminal: Terminal, condition: str, message: str) -> None:
    code, _, err = terminal("sample", mixed[1], "--given", condition, "--out", "x.csv")
    assert code != 0
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_holes_of_the_training_data_are_filled_in_the_notation_of_the_file(mixed: tuple[Path, Path], terminal: Terminal) -> None:
    code, _, err = terminal("impute", mixed[1], mixed[0], "--out", "filled.csv", "--draws", 4, "--steps", 5)
    assert code == 0, err
    with mixed[0].open(newline="") as old, Path("filled.csv").open(newline="") as new:
        names, *rows = csv.reader(old, delimiter=";")
        header, *filled = csv.reader(new, delimiter=";")
    assert header == ["draw", *names]
    vocabulary = [{row[i] for row in rows} - {"NA"} for i in range(4)]
    for before, after in zip(rows * 4, filled, strict=True):
        for i, (cell, found) in enumerate(zip(before, after[1:], strict=True)):
            if cell != "NA":
                assert found == cell
            elif i == 0:
                assert float(found.replace(",", ".")) > 0
                assert "." not in found
            elif i == 2:
                assert found.startswith("2024-0")
            else:
                assert found in vocabulary[i]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table that only the user can say how to read."""
    folder = tmp_path_factory.mktemp("told")
    random = np.random.default_rng(2)
    rows = [[f"{value:.2f}", 2007 + i % 3, "?" if i % 10 == 0 else ("00", "01")[i % 2]] for i, value in enumerate(random.normal(size=60))]
    with (folder / "told.csv").open("w", newline="") as file:
        csv.writer(file, delimiter="|").writerows([["x", "year", "zip"], *rows])
    small = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8}
    data = f"table:path={folder}/told.csv,separator=pipe,missing=(?),text=(zip)"
    return train(TrainingConfig.build({**small, "data": data, "out": str(folder / "run")})).run


def test_what_the_user_said_of_the_table_holds_for_the_one_to_fill(told: Path, terminal: Terminal) -> None:
    """Its separator and its mark of missing values; what does not apply to another form of file is ignored there."""
    Path("holes.csv").write_text("x|year|zip\n0.5|?|01\n?|2008|?\n")
    code, _, err = terminal("impute", told, "holes.csv", "--out", "filled.csv", "--steps", 5)
    assert code == 0, err
    names, first, second = [line.split("|") for line in Path("filled.csv").read_text().splitlines()]
    assert names == ["x", "year", "zip"]
    assert (first[0], first[2], second[1]) == ("0.5", "01", "2008")
    assert first[1] in ("2007", "2008", "2009")
    assert second[2] in ("00", "01")
    parquet.write_table(pa.table({"x": [0.5, None], "year": [2007, 2008], "zip": ["01", None]}), "holes.parquet")
    code, _, err = terminal("impute", told, "holes.parquet", "--out", "filled.parquet", "--steps", 5)
    assert code == 0, err
    assert not parquet.read_table("filled.parquet")["zip"].null_count


def test_a_format_that_cannot_be_filled_is_refused_before_it_is_read(run: Path, terminal: Terminal) -> None:
    Path("holes.xlsx").write_bytes(b"no sheet at all")
    code, _, err = terminal("impute", run, "holes.xlsx", "--out", "filled.xlsx")
    assert code != 0
    assert "cannot be filled. Give a .csv, .tsv or .parquet." in " ".join(err.split())
    assert not Path("filled.xlsx").exists()


def test_numbers_that_were_trained_as_categories_are_named(told: Path, terminal: Terminal) -> None:
    code, _, err = terminal("sample", told, "--given", "year=2011", "--out", "x.csv")
    assert code != 0
    assert "'year' is one of categories, and the data do not have the value 2011. Give one of 2007, 2008, 2009" in " ".join(err.split())
    Path("holes.csv").write_text("x|year|zip\n?|2011|01\n")
    code, _, err = terminal("impute", told, "holes.csv", "--out", "filled.csv")
    assert (code != 0, "do not have the value 2011" in err) == (True, True)


def test_cells_and_their_texts_are_those_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is replaced while it is filled is not read half from one file and half from the other."""
    path, other, once = tmp_path / "holes.csv", tmp_path / "other.csv", Path.open
    path.write_text("x;kind\n1,5;a\n;b\n2,5;a\n")
    other.write_text("x;kind\n7.5;a\n7.5;b\n7.5;a\n")

    def opened(self: Path, *arguments: str, **values: str) -> IO[Any]:
        file = once(self, *arguments, **values)
        other.replace(path)  # whoever opens it again finds another one, or fails
        return file

    monkeypatch.setattr(Path, "open", opened)
    filling = Filling(np.array([False, True, False]), [pa.array([1.5, 2.25, 2.5])])
    out = io.BytesIO()
    fill_text(path, out, {"x": filling}, 1, Dialect())
    assert out.getvalue().decode() == "x;kind\n1,5;a\n2,25;b\n2,5;a\n"


@pytest.mark.parametrize(
    "cells",
    [
        ["$23,870.00", "$1,234.50", "$0.75", "$-3,000.25"],
        ["5.5%", "12%", "0.25%", "-3.5%"],
        ["1.234,50 €", "-0,25 €", "12,00 €", "1.000.000,00 €"],
        ["(1,234.50)", "1,234.50", "(0.25)", "7.00"],
        ["+3", "-2", "+12", "+1500"],
        ["1'234", "12'345'678", "-1'000", "999"],
        ["-1234.5", "7.25", "0.5", "3.0"],
    ],
)
def test_numbers_are_filled_in_as_the_column_writes_them(tmp_path: Path, cells: list[str]) -> None:
    """A cell that is filled with the number of another cell gets its text."""
    path, out = tmp_path / "holes.csv", io.BytesIO()
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["x", "kind"], *([cell, "a"] for cell in [*cells, *[""] * len(cells)])])
    read = read_table(path, Dialect())["x"].to_pylist()[: len(cells)]
    missing = np.arange(2 * len(cells)) >= len(cells)
    fill_text(path, out, {"x": Filling(missing, [pa.array(read * 2)])}, 1, Dialect())
    assert [row[0] for row in csv.reader(io.StringIO(out.getvalue().decode()))] == ["x", *cells, *cells]
