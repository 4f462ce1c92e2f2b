"""Tables are written as they were read: rows of the data, written again, give the same file."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from sdezoo.data.opening.style import cell_texts
from sdezoo.data.text_style import TextStyle
from sdezoo.generation.export import write, write_parts
from sdezoo.zoo.datasets import find_dataset

TEXTS = {
    "pandas": 'weight,price,count,wet,kind,day\n62.0,3.1,4,True,a,2024-05-03\n61.0,12.25,,False,"b,c",2024-05-04\n',
    "R": '"weight","wet","kind"\n62,TRUE,"a"\n61.5,FALSE,"b"\nNA,TRUE,NA\n58,FALSE,"b"\n',
    "Europe": "weight;price;kind\n62,0;3,10;a,b\n61,0;12,25;d\n60,5;0,75;d\n",
    "booleans": "x,y\ntrue,1.50\nfalse,2.00\nfalse,3.25\n",
    "late": "x,y\n" + "".join(f"{k},{k * 3}\n" for k in range(999)) + "7,?\n",
    "days": "day,x\n" + "".join(f"{day},{k}.5\n" for k, day in enumerate((*range(20231228, 20231232), *range(20240101, 20240105)))),
    "small": "x\n-0.10\n0.00\n0.20\n-0.30\n",
    "units": 'share,price\n5.0%,"$1,234.50"\n62.0%,"$1,300.00"\n7.5%,"$1,301.25"\n',
}
PLAIN = {
    "R": "weight,wet,kind\n62,TRUE,a\n61.5,FALSE,b\nNA,TRUE,NA\n58,FALSE,b\n",
    "units": "share,price\n5.0,1234.50\n62.0,1300.00\n7.5,1301.25\n",
    "Europe": 'weight,price,kind\n62.0,3.10,"a,b"\n61.0,12.25,d\n60.5,0.75,d\n',
}
"""What is written in the style of the format, not of the data."""


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_written_as_it_was_read(tmp_path: Path, name: str) -> None:
    path, again = tmp_path / "t.csv", tmp_path / "again.csv"
    path.write_text(TEXTS[name])
    data = find_dataset(f"table:path={path},holdout=0").load()
    wanted = PLAIN.get(name, TEXTS[name])
    write_parts([data.train], data.train.shape, again, kind="table", columns=data.columns, types=data.types, style=data.style)
    assert again.read_text() == wanted
    tabbed = tmp_path / "again.tsv"
    write_parts([data.train], data.train.shape, tabbed, kind="table", columns=data.columns, types=data.types, style=data.style)
    assert "\t" in tabbed.read_text() or len(data.columns) == 1
    other = find_dataset(f"table:path={tabbed},holdout=0").load()
    torch.testing.assert_close(other.train, data.train, rtol=0, atol=0, equal_nan=True)


def test_times_have_fractions_of_seconds_only_if_some_have() -> None:
    for texts, wanted in ((["00:00:00", "10:00:00"], "00:00:00"), (["00:00:00", "10:00:00.5"], "00:00:00.000000")):
        times = pa.array([f"2024-05-03 {text}" for text in texts]).cast(pa.timestamp("us"))
        assert cell_texts(times, "at", TextStyle())[0].as_py() == f"2024-05-03 {wanted}"


def test_numbers_have_the_dtypes_of_the_data(tmp_path: Path) -> None:
    """A dtype that a sample does not fit is widened, the others are kept; float64 on a lattice is the number that was read."""
    dtypes = ("float64", "float32", "float16", "int8", "uint16", "int64")
    table = pa.table(
        {f"{name}s": pa.array(np.arange(1, 31).astype(name)) for name in dtypes} | {"cents": np.round(np.arange(30) * 0.07, 2)}
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    data = find_dataset(f"table:path={tmp_path / 't.parquet'},holdout=0").load()
    write(data.train, tmp_path / "a.parquet", kind="table", columns=data.columns, types=data.types)
    assert parquet.read_table(tmp_path / "a.parquet").equals(table)
    write(data.train * 10, tmp_path / "b.parquet", kind="table", columns=data.columns, types=data.types)
    wide = [str(kind) for kind in parquet.read_schema(tmp_path / "b.parquet").types]
    assert wide == ["double", "float", "halffloat", "int64", "uint16", "int64", "double"]


@pytest.mark.parametrize(
    "change", [{"separator": '"'}, {"decimal": ";", "separator": ";"}, {"missing": "a,b"}, {"decimals": {"x": (2, 1)}}]
)
def test_a_style_that_cannot_be_read_is_not_valid(change: dict) -> None:
    assert TextStyle().valid
    assert not TextStyle(**change).valid
