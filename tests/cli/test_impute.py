"""`sdezoo sample --given` and `sdezoo impute`."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

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
    Path("outside.csv").write_text("a,b,n\n-1,,3\n2,3,1\n")
    Path("numbered.csv").write_text("a,b,n,draw\n1,,3,1\n2,3,1,1\n")
    refused = {
        "no missing cells": (table,),
        "no column 'n'": ("other.csv",),
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
